package swarm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// mdnsDials bounds the attempts to reach peers found on the local network that run at once.
const mdnsDials = 8

// mdnsService names the run on the local network without telling its id.
func mdnsService(prefix string) string {
	sum := sha256.Sum256([]byte(prefix))
	return "_dunlin-" + hex.EncodeToString(sum[:3]) + "._udp"
}

func (h *Host) startMDNS() (io.Closer, error) {
	service := mdns.NewMdnsService(h.p2p, mdnsService(h.cfg.Protocol), &mdnsFinder{host: h, slots: make(chan struct{}, mdnsDials)})
	if err := service.Start(); err != nil {
		return nil, fmt.Errorf("start mdns: %w", err)
	}
	return service, nil
}

// mdnsFinder dials peers found on the local network once each time they show up.
type mdnsFinder struct {
	host  *Host
	slots chan struct{}
}

// HandlePeerFound implements libp2p's mdns.Notifee.
func (f *mdnsFinder) HandlePeerFound(found p2ppeer.AddrInfo) {
	h := f.host
	if found.ID == h.p2p.ID() || !h.gate.admits(found.ID) || h.alive(found.ID) || len(found.Addrs) > maxAddrs {
		return
	}
	select {
	case f.slots <- struct{}{}:
	default:
		return // it will be announced again
	}
	started := h.spawn(func() {
		defer func() { <-f.slots }()
		ctx, cancel := context.WithTimeout(h.ctx, h.limits.Dial)
		defer cancel()
		if err := h.dialOnce(ctx, found); err != nil {
			h.log.Debug("peer found on the local network cannot be used", "peer", found.ID.String(), "err", err)
		}
	})
	if !started {
		<-f.slots
	}
}
