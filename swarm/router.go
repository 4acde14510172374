package swarm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	p2pnat "github.com/libp2p/go-libp2p/p2p/net/nat"
)

// Router is what stands between this machine and the internet.
type Router struct {
	Mapped  bool       // a router here opens ports on request
	Outside netip.Addr // the address that it has outside, or that a mapped port has; invalid when it is not known
}

// routerWithin bounds the search for a router.
const routerWithin = 6 * time.Second

// FindRouter asks the network's router, by UPnP, NAT-PMP or PCP, to open a UDP port for a moment. No router that
// answers is no error.
func FindRouter(ctx context.Context, port int) (_ Router, err error) {
	ctx, cancel := context.WithTimeout(ctx, routerWithin)
	defer cancel()
	nat, err := p2pnat.DiscoverNAT(ctx)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, context.Canceled) {
			return Router{}, cause
		}
		return Router{}, nil //nolint:nilerr // no router answers: that is the finding
	}
	defer func() { err = errors.Join(err, nat.Close()) }() // takes the mapping back
	if err := nat.AddMapping(ctx, "udp", port); err != nil {
		return Router{}, fmt.Errorf("ask the router for a port: %w", err)
	}
	outside, found := nat.GetMapping("udp", port)
	return Router{Mapped: found, Outside: outside.Addr()}, nil
}
