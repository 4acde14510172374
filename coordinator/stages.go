package coordinator

import (
	"fmt"
	"time"

	"dunlin/wire"
)

// offer is a stage that a peer was told to serve. It counts as a peer of that stage
// until the peer has a slot or the offer is old, so that several who ask at once do
// not all fill the same gap.
type offer struct {
	stage int
	until time.Time
	fixed bool // it moves there: it is told the same again
}

// offerWindow is for a peer to make its folder, fetch the run and say hello; moveWindow
// for one that moves to hand over as well.
const (
	offerWindow = 20 * time.Second
	moveWindow  = time.Minute
)

// arrived reports whether a peer serves the stage that it was offered.
func (m *Machine) arrived(peer wire.PeerID, o offer) bool {
	b := m.slotOf(peer)
	return b != nil && b.away == "" && (!o.fixed || b.stage == uint64(o.stage))
}

// offer tells a peer which stage has the fewest peers, of equals the first.
func (m *Machine) offer(peer wire.PeerID) {
	if o := m.offers[peer]; o.fixed && m.now.Before(o.until) {
		m.do(Offer{Peer: peer, Stage: o.stage, Reason: "it moves there"})
		return
	}
	counts := make([]int, m.cfg.Spec.StageCount())
	for _, slot := range m.live {
		if b := m.members[slot]; b.peer != peer && b.leaving == "" && b.away == "" {
			counts[b.stage]++
		}
	}
	for p, o := range m.offers {
		switch {
		case !m.now.Before(o.until) || m.arrived(p, o):
			delete(m.offers, p)
		case p != peer:
			counts[o.stage]++
		}
	}
	best := 0
	for stage, n := range counts {
		if n < counts[best] {
			best = stage
		}
	}
	m.offers[peer] = offer{stage: best, until: m.now.Add(offerWindow)}
	m.do(Offer{Peer: peer, Stage: best, Reason: fmt.Sprintf("stages have %v peers", counts)})
}
