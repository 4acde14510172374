package swarm

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/multiformats/go-multiaddr"
)

// Reach says what a host does so that peers behind routers reach it, and it them.
type Reach struct {
	// NAT asks the router for a port, learns from others what this host looks
	// like from outside and lets them try to reach it there, and meets peers that
	// cannot be dialled half way (hole punching).
	NAT bool
	// Relays are peers through which control reaches this host until it is met
	// directly; multiaddresses that end in /p2p/<id>. A peer that turns out to be
	// no relay costs nothing.
	Relays []string
	// Relay passes control on for others, on a host that all can dial.
	Relay bool
}

// Bounds of what a relay passes on: control needs about 2 kB/s at most.
const (
	relayBytes      = 8 << 20 // of one connection, each way
	relayTime       = time.Hour
	relayPeers      = 128 // hosts that may be reached through this one; a peer has two
	relayCircuits   = 16  // connections of one of them
	relayBuffer     = 2 << 10
	relayPerAddress = 16 // hosts behind one IP address
)

// parseRelays reads relay addresses.
func (r Reach) parseRelays() ([]p2ppeer.AddrInfo, error) {
	var faults []error
	var addrs []multiaddr.Multiaddr
	for _, text := range r.Relays {
		a, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("relay address %q: want a form like /ip4/203.0.113.7/tcp/4001/p2p/<id>: %w", clip(text, 80), err))
			continue
		}
		addrs = append(addrs, a)
	}
	infos, err := p2ppeer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		faults = append(faults, fmt.Errorf("relay address: want a form like /ip4/203.0.113.7/tcp/4001/p2p/<id>: %w", err))
	}
	return infos, errors.Join(faults...)
}

// options are libp2p's part. Hosts on a simulated network have no router to ask.
func (r Reach) options(simulated bool) ([]libp2p.Option, error) {
	relays, err := r.parseRelays()
	if err != nil {
		return nil, err
	}
	reachability := libp2p.ForceReachabilityPrivate // relays are used as soon as they answer
	if r.Relay {
		reachability = libp2p.ForceReachabilityPublic
	}
	options := []libp2p.Option{reachability()}
	if !r.NAT && !r.Relay && len(relays) == 0 {
		return append(options, libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery()), nil
	}
	options = append(options, libp2p.EnableRelay())
	if r.NAT {
		options = append(options, libp2p.EnableHolePunching())
		if !simulated {
			options = append(options, libp2p.EnableAutoNATv2(), libp2p.NATPortMap())
		}
	}
	if len(relays) > 0 {
		options = append(options, libp2p.EnableAutoRelayWithStaticRelays(relays, autorelay.WithBootDelay(0), autorelay.WithBackoff(time.Minute)))
	}
	return options, nil
}

// relayOptions are those of a host that is a relay itself.
func relayOptions() libp2p.Option {
	return libp2p.EnableRelayService(relay.WithResources(relay.Resources{
		Limit:           &relay.RelayLimit{Duration: relayTime, Data: relayBytes},
		ReservationTTL:  relayTime,
		MaxReservations: relayPeers, MaxCircuits: relayCircuits, BufferSize: relayBuffer,
		MaxReservationsPerIP: relayPerAddress, MaxReservationsPerASN: relayPeers,
	}))
}

// watchReach logs what other peers found when they dialled this host.
func (h *Host) watchReach() error {
	found, err := h.p2p.EventBus().Subscribe(new(event.EvtHostReachableAddrsChanged), eventbus.BufSize(16))
	if err != nil {
		return fmt.Errorf("subscribe to libp2p events: %w", err)
	}
	h.spawn(func() {
		defer found.Close()
		for {
			select {
			case <-h.ctx.Done():
				return
			case e, ok := <-found.Out():
				if !ok {
					return
				}
				if seen, ok := e.(event.EvtHostReachableAddrsChanged); ok {
					h.log.Info("others tried to reach this machine", "reached_at", seen.Reachable, "not_at", seen.Unreachable)
				}
			}
		}
	})
	return nil
}

// relayed reports whether an address leads through a relay.
func relayed(a multiaddr.Multiaddr) bool {
	_, err := a.ValueForProtocol(multiaddr.P_CIRCUIT)
	return err == nil
}

// relayIDs are the peers that Relays names.
func (r Reach) relayIDs() []p2ppeer.ID {
	relays, err := r.parseRelays()
	if err != nil {
		return nil // which Validate has told
	}
	var ids []p2ppeer.ID
	for _, info := range relays {
		ids = append(ids, info.ID)
	}
	return ids
}
