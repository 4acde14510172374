package peer

import (
	"context"
	"slices"

	"dunlin/peer/contact"
	"dunlin/peer/mailbox"
	"dunlin/wire"
)

// learned takes in where a peer with a session is, and whether it was met just now.
func (p *Peer) learned(id wire.PeerID, met bool) {
	if !p.book.Takes(id, met) { // to put addresses into words costs more than to look
		return
	}
	if !p.book.Learn(id, p.transport.AddrsOf(id), met) || !p.book.Unwritten() {
		return
	}
	p.wg.Go(func() {
		if err := p.book.Save(); err != nil {
			p.inbox.Put(mailbox.Complaint{Text: err.Error()})
		}
	})
}

// ownersOf notes the owners of an attempt that this worker takes part in and has no
// session with. They will ask it for its contribution, and where it is behind a
// router only its own call opens the way.
func (p *Peer) ownersOf(body wire.Body, table []byte) {
	var t wire.AttemptTable
	if _, is := body.(*wire.Attempt); !is || wire.Decode(table, &t) != nil || !slices.ContainsFunc(t.Members, func(m wire.AttemptMember) bool { return m.Peer == p.self }) {
		return
	}
	for _, s := range t.Owners {
		if s.Owner >= uint64(len(t.Members)) {
			continue
		}
		if m := &t.Members[s.Owner]; m.Peer != p.self && !p.peers[m.Peer] && len(m.Addrs) > 0 {
			p.owners[m.Peer] = m.Addrs
		}
	}
}

// meetOwners calls the owners that were noted.
func (p *Peer) meetOwners(ctx context.Context) {
	for id, addrs := range p.owners {
		known := p.book.Of(id)
		p.wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, contact.ReachWithin)
			defer cancel()
			_ = p.transport.Connect(ctx, id, contact.Merged(known, addrs)) // the network tries again
		})
	}
	clear(p.owners)
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
