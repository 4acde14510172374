package peer

import (
	"context"
	"time"

	"dunlin/peer/contact"
	"dunlin/peer/mailbox"
	"dunlin/wire"
)

// Bounds of a search for the coordinator.
const (
	maxAsked   = 8 // peers asked at most, newest first
	askWithin  = 5 * time.Second
	dialWithin = 20 * time.Second
)

// learned takes in where a peer with a session is, and whether it was met just now.
func (p *Peer) learned(id wire.PeerID, met bool) {
	if !p.book.Learn(id, p.transport.AddrsOf(id), met) || !p.book.Unwritten() {
		return
	}
	p.wg.Go(func() {
		if err := p.book.Save(); err != nil {
			p.inbox.Put(mailbox.Complaint{Text: err.Error()})
		}
	})
}

// merged returns addresses of both lists, each once, those of the first in front.
func merged(a, b []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, addr := range append(a[:len(a):len(a)], b...) {
		if !seen[addr] {
			seen[addr] = true
			out = append(out, addr)
		}
	}
	return out
}

// reachLead connects to the coordinator: where it was last reached, where the
// invite says, and, when it is at neither, where other peers say.
func (p *Peer) reachLead(ctx context.Context, lead wire.PeerID, told []string) error {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	err := p.transport.Connect(ctx, lead, merged(p.book.Of(lead), told))
	if err == nil {
		return nil
	}
	asked := 0
	for _, k := range p.book.List() {
		if k.Peer == lead || k.Peer == p.self {
			continue
		}
		if asked++; asked > maxAsked || ctx.Err() != nil {
			break
		}
		addrs := p.whereIs(ctx, lead, k)
		if len(addrs) == 0 {
			continue
		}
		if again := p.transport.Connect(ctx, lead, addrs); again == nil {
			return nil
		}
	}
	return err
}

// whereIs asks a peer where the coordinator is; nil when it does not say.
func (p *Peer) whereIs(ctx context.Context, lead wire.PeerID, k wire.Known) []string {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if err := p.transport.Connect(ctx, k.Peer, k.Addrs); err != nil {
		p.transport.Forget(k.Peer)
		return nil
	}
	for _, other := range contact.Hearsay(ctx, p.transport, k.Peer) {
		if other.Peer == lead {
			return other.Addrs
		}
	}
	return nil
}

// gather has a coordinator that starts again connect to the members in the log:
// they may not know where it is now.
func (p *Peer) gather(ctx context.Context) {
	for id, addrs := range p.addrs {
		if id == p.self || len(addrs) == 0 {
			continue
		}
		p.wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, dialWithin)
			defer cancel()
			_ = p.transport.Connect(ctx, id, merged(p.book.Of(id), addrs)) // the network tries again
		})
	}
}
