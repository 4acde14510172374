package peer

import (
	"context"

	"dunlin/peer/contact"
	"dunlin/peer/mailbox"
	"dunlin/wire"
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

// gather has a coordinator that starts again connect to the members in the log:
// they may not know where it is now.
func (p *Peer) gather(ctx context.Context) {
	for id, addrs := range p.addrs {
		if id == p.self || len(addrs) == 0 {
			continue
		}
		p.wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, contact.DialWithin)
			defer cancel()
			_ = p.transport.Connect(ctx, id, contact.Merged(p.book.Of(id), addrs)) // the network tries again
		})
	}
}
