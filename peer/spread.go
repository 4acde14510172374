package peer

import "dunlin/wire"

// How a coordinator spreads entries that concern one peer alone.
const (
	largeRun    = 64 // peers from which on the others wait for such an entry
	maxUnspread = 64 // entries that may wait
)

// spread gives a new entry to everyone connected. In a large run one that concerns a
// single peer goes to that one at once, and to the others with the next that concerns
// all or when half a second is over: each of the leases that come many a second would
// otherwise wake a thousand connections.
func (p *Peer) spread(entry *wire.Certified, table []byte) {
	p.unspread = append(p.unspread, wire.Item{Certified: *entry, Table: table})
	one, single := p.concerned(entry)
	if !single || len(p.peers) < largeRun || len(p.unspread) >= maxUnspread {
		p.spreadAll()
		return
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
