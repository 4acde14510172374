package reign

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
func (r *Reign) spread(now time.Time, entry *wire.Certified, table []byte) {
	r.unspread = append(r.unspread, wire.Item{Certified: *entry, Table: table})
	one, single := r.concerned(entry)
	if !single || len(r.cfg.Peers) < largeRun || len(r.unspread) >= maxUnspread {
		r.spreadAll()
		return
	}
	due := now
	if entry.Entry.Kind == wire.KindLease {
		due = now.Add(leaseWithin)
	}
	if len(r.unspread) == 1 || due.Before(r.spreadBy) {
		r.spreadBy = due
	}
	if r.cfg.Peers[one] {
		r.tell(one, &wire.Entries{Items: r.unspread, Head: entry.Entry.Height})
	}
}

// concerned returns whom an entry concerns when that is a single peer.
func (r *Reign) concerned(entry *wire.Certified) (one wire.PeerID, single bool) {
	switch body, _ := entry.Entry.Body(); b := body.(type) {
	case *wire.Lease:
		return r.cfg.Holder(b.Slot), true
	case *wire.Member:
		return b.Peer, true
	default:
		return one, false
	}
}

// spreadDue gives everyone connected what has waited long enough.
func (r *Reign) spreadDue(now time.Time) {
	if !now.Before(r.spreadBy) {
		r.spreadAll()
	}
}

// spreadAll gives everyone connected what is not spread yet.
func (r *Reign) spreadAll() {
	n := len(r.unspread)
	if n == 0 {
		return
	}
	message := wire.EncodeMessage(&wire.Entries{Items: r.unspread, Head: r.unspread[n-1].Certified.Entry.Height})
	r.unspread = nil
	for peer := range r.cfg.Peers {
		r.driver.Send(peer, message)
	}
}
