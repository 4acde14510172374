package coordinator

import (
	"fmt"
	"time"

	"dunlin/wire"
)

// maxTermLead bounds how far above its own term a coordinator believes a
// peer's word about terms, so that a lie cannot use the terms up.
const maxTermLead = 1 << 20

// reign is the start of a coordinator's rule (R7): before it writes anything
// it asks peers for a higher ledger, so that one restored from a backup takes
// over what it has forgotten instead of forking the run, and only then makes a
// term durable that is above any it has seen.
type reign struct {
	phase    reignPhase
	term     uint64    // durable
	wanted   uint64    // being made durable
	since    time.Time // of the phase
	progress time.Time // last entry, or the start of an adoption
	claims   map[wire.PeerID]claim
	seen     uint64 // highest term that a peer named, within bounds
	from     wire.PeerID
	target   uint64              // height being adopted
	broken   map[wire.PeerID]int // times that a peer did not deliver what it names, since the start
	strange  int                 // of these, by peers that were never in the run
}

// A peer that names entries and does not deliver them is asked so often at a start; all that were never in the run, together.
const (
	maxBroken  = 3
	maxStrange = 4
)

// claim is what a peer says about its ledger.
type claim struct {
	head uint64
	term uint64
}

func (r *reign) heard(peer wire.PeerID, h *wire.Hello) {
	r.claims[peer] = claim{head: h.Head, term: h.HeadTerm}
	if h.HeadTerm <= r.term+maxTermLead {
		r.seen = max(r.seen, h.HeadTerm)
	}
}

func (r *reign) forget(peer wire.PeerID) { delete(r.claims, peer) }

func (r *reign) enter(p reignPhase, now time.Time) { r.phase, r.since, r.progress = p, now, now }

// start ends the replay. A ledger without entries has nothing to fork, and one
// that a living coordinator has completed lacks nothing.
func (m *Machine) start(e Started) {
	if m.reign.phase != replaying {
		return
	}
	m.reign.term = max(m.reign.term, e.Term, m.logTerm)
	if m.height == 0 || e.Current {
		m.raise()
		return
	}
	m.reign.enter(asking, m.now)
	m.reign.broken, m.reign.strange = map[wire.PeerID]int{}, 0
	m.note("before it leads, it asks peers for entries above height %d: for %v where most workers that the ledger names answer and have none, else for %v", m.height, askWindow, askLongest)
}

// advanceReign moves between the phases before leading when their time comes.
func (m *Machine) advanceReign() {
	switch r := &m.reign; r.phase {
	case asking:
		if !m.now.Before(m.askedUntil()) {
			m.adoptOrRaise()
		}
	case adopting:
		_, there := r.claims[r.from]
		switch {
		case m.height >= r.target:
			m.adoptOrRaise()
		case !there || !m.now.Before(r.progress.Add(adoptWindow)):
			m.note("%s does not deliver the entries up to %d that it names", r.from.Short(), r.target)
			m.brokeWord(r.from)
			m.adoptOrRaise()
		}
	case raising:
		if !m.now.Before(r.since.Add(appendWindow)) {
			m.raise()
		}
	case replaying, leading, halted:
	}
}

// askedUntil returns until when peers may tell their heads. One that knows more shows that the own ledger lost entries: then every worker
// that it names is waited for, since another may know more still, and one that lost this coordinator may take a while to notice and
// to dial again. Where a majority knows no more, nothing is lost (ADR 33), and the others get a moment. Once all of several have told,
// nobody else is waited for.
func (m *Machine) askedUntil() time.Time {
	told, lost := 0, false
	for _, b := range m.members {
		if _, ok := m.reign.claims[b.peer]; ok {
			told++
		}
	}
	for _, c := range m.reign.claims {
		lost = lost || c.head > m.height
	}
	switch all := told == len(m.members); {
	case all && told > 1:
		return m.reign.since
	case all, 2*told > len(m.members) && !lost:
		return m.reign.since.Add(askWindow)
	default:
		return m.reign.since.Add(askLongest)
	}
}

// brokeWord takes in that a peer did not deliver the entries that it names.
func (m *Machine) brokeWord(peer wire.PeerID) {
	m.reign.forget(peer)
	m.reign.broken[peer]++
	if !m.wasIn[peer] {
		m.reign.strange++
	}
}

// believed reports whether a peer's word about its ledger is acted on: whoever names what it never delivers, under however many
// names, must not keep this coordinator from leading.
func (m *Machine) believed(peer wire.PeerID) bool {
	return m.reign.broken[peer] < maxBroken && (m.wasIn[peer] || m.reign.strange < maxStrange)
}

// adoptOrRaise takes over the highest ledger that is left, of those that were in the run before strangers', or goes on to lead.
func (m *Machine) adoptOrRaise() {
	r := &m.reign
	best, known := m.height, false
	for _, peer := range m.visitors() {
		c, in := r.claims[peer], m.wasIn[peer]
		if c.head > m.height && m.believed(peer) && (in && !known || in == known && c.head > best) {
			best, known, r.from = c.head, in, peer
		}
	}
	if best == m.height {
		m.raise()
		return
	}
	r.target = best
	r.enter(adopting, m.now)
	m.do(Adopt{From: r.from, Height: best})
}

func (m *Machine) raise() {
	r := &m.reign
	r.enter(raising, m.now)
	r.wanted = max(r.term, m.logTerm, r.seen) + 1
	m.do(RaiseTerm{Term: r.wanted})
}

// termRaised begins to lead. Workers that the log names get time to come back.
func (m *Machine) termRaised(e TermRaised) {
	r := &m.reign
	if r.phase != raising || e.Term < r.wanted {
		return
	}
	r.term = e.Term
	r.enter(leading, m.now)
	m.do(Lead(e))
	for _, b := range m.members {
		b.seen, b.returned = m.now, true
		b.leaveAt = m.now.Add(max(returnWindow, milliseconds(m.deadlines().Leave)))
	}
	for _, peer := range m.visitors() {
		if v := m.peers[peer]; v.hello != nil {
			m.answer(v)
		}
	}
}

// deposed goes back to following the log. What peers said to this coordinator
// is void: they say it again to the one that leads, and so to this one should it
// lead again.
func (m *Machine) deposed(reason string) {
	if m.reign.phase == replaying || m.reign.phase == halted {
		return
	}
	m.note("no longer leading: %s", reason)
	m.reign.enter(replaying, m.now)
	clear(m.proposed)
	clear(m.asks)
	m.listed = nil
	if m.wish != nil {
		m.note("the organiser's order, %s, may not be in the log", m.wish.Phase)
		m.wish = nil
	}
	for _, v := range m.peers {
		v.hello, v.wants, v.offered = nil, false, 0
	}
	for _, b := range m.members {
		b.leaving, b.fresh = "", false
		if b.away == "" {
			b.away = "not back since another coordinator led"
		}
		if newest := m.slotOf(b.peer); newest != b {
			b.leaving = fmt.Sprintf("the same peer has slot %d", newest.slot)
		}
	}
}
