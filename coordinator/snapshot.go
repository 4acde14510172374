package coordinator

import (
	"time"

	"dunlin/wire"
)

// Snapshot is a coordinator's view of the run, for people. It shares nothing
// with the machine.
type Snapshot struct {
	Reign     string // replaying, asking, adopting, raising, leading, halted
	Term      uint64
	Height    uint64
	Phase     wire.Phase
	Solo      bool
	Reason    string // of the phase
	Heads     []wire.FragmentHead
	Commits   uint64
	Tokens    uint64  // committed
	Progress  float64 // tokens ÷ budget
	Windows   uint64  // consumed, each counted once
	Leased    uint64  // positions ever leased
	Returned  uint64  // positions that wait to be leased again
	Complete  uint64  // height of the newest complete checkpoint
	KeepFrom  uint64
	Members   []MemberStatus // by slot
	Observers int
	Rate      float64 // tokens a second, sum of the active workers' own figures
}

// MemberStatus is one live slot.
type MemberStatus struct {
	Slot      wire.Slot
	Peer      wire.PeerID
	Name      string
	Stage     uint64
	Active    bool
	Away      string // why it is not connected; "" when it is
	Leaving   string // why its slot is being ended
	Seen      time.Time
	Heartbeat wire.Heartbeat // the newest
}

// Snapshot returns the present view.
func (m *Machine) Snapshot() Snapshot {
	s := Snapshot{
		Reign: m.reign.phase.String(), Term: m.reign.term, Height: m.height, Phase: m.Phase(), Heads: m.Heads(),
		Commits: m.commits, Tokens: m.tokens, Progress: m.cfg.Spec.Progress(float64(m.tokens)),
		Windows: m.leases.consumed.count(), Leased: m.leases.next, Returned: m.leases.returned.count(), KeepFrom: m.KeepFrom(),
	}
	if m.settings != nil {
		s.Reason, s.Solo = m.settings.Reason, m.settings.Solo
	}
	if n := len(m.points.done); n > 0 {
		s.Complete = m.points.done[n-1].At
	}
	s.Members = make([]MemberStatus, 0, len(m.live))
	for _, slot := range m.live {
		b := m.members[slot]
		s.Members = append(s.Members, MemberStatus{
			Slot: slot, Peer: b.peer, Name: b.name, Stage: b.stage, Active: m.active(b), Away: b.away, Leaving: b.leaving, Seen: b.seen, Heartbeat: b.beat,
		})
		if m.active(b) {
			s.Rate += float64(b.beat.TokensPerSecond.Value())
		}
	}
	for _, v := range m.peers {
		if v.hello != nil && v.hello.Role&wire.RoleWorker == 0 {
			s.Observers++
		}
	}
	return s
}
