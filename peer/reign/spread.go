package peer

import (
	"time"

	"dunlin/wire"
)

// How a coordinator spreads entries that concern one peer alone.
const (
	largeRun    = 64              // peers from which on the others wait for such an entry
	maxUnspread = 128             // entries that may wait
	leaseWithin = 5 * time.Second // how long the others wait for leases; for who joined or left, until the next snapshot
)

// spread gives a new entry to everyone connected. In a large run one that concerns a
// single peer goes to that one at once, and to the others with the next that concerns
// all, or when they have waited for it long enough: each of the leases that come many a
// second would otherwise wake a thousand connections.
func (p *Peer) spread(now time.Time, entry *wire.Certified, table []byte) {
	p.unspread = append(p.unspread, wire.Item{Certified: *entry, Table: table})
	one, single := p.concerned(entry)
	if !single || len(p.peers) < largeRun || len(p.unspread) >= maxUnspread {
		p.spreadAll()
		return
	}
	due := now
	if entry.Entry.Kind == wire.KindLease {
		due = now.Add(leaseWithin)
	}
	if len(p.unspread) == 1 || due.Before(p.spreadBy) {
		p.spreadBy = due
	}
	if p.peers[one] {
		p.tell(one, &wire.Entries{Items: p.unspread, Head: entry.Entry.Height})
	}
}

// concerned returns whom an entry concerns when that is a single peer.
func (p *Peer) concerned(entry *wire.Certified) (one wire.PeerID, single bool) {
	switch body, _ := entry.Entry.Body(); b := body.(type) {
	case *wire.Lease:
		return p.figures.Slots[b.Slot], true
	case *wire.Member:
		return b.Peer, true
	default:
		return one, false
	}
}

// spreadDue gives everyone connected what has waited long enough.
func (p *Peer) spreadDue(now time.Time) {
	if !now.Before(p.spreadBy) {
		p.spreadAll()
	}
}

// spreadAll gives everyone connected what is not spread yet.
func (p *Peer) spreadAll() {
	n := len(p.unspread)
	if n == 0 {
		return
	}
	message := wire.EncodeMessage(&wire.Entries{Items: p.unspread, Head: p.unspread[n-1].Certified.Entry.Height})
	p.unspread = nil
	for peer := range p.peers {
		p.send(peer, message)
	}
}
