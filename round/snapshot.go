package round

import (
	"fmt"
	"time"

	"dunlin/wire"
)

// LeaderSnapshot is what people see of the rounds.
type LeaderSnapshot struct {
	Rounds   []RoundStatus // one a fragment, the undecided ones
	Closed   []RoundStatus // attempts that are over, newest last
	Attempts uint64        // opened in this term
	Failed   uint64        // of these
	Pace     uint64        // µs of an inner step at the 90th percentile of speed; 0 when unknown
}

// RoundStatus is one round, or one attempt that is over. Times are zero while
// they have not come.
type RoundStatus struct {
	Fragment   int
	Version    uint64 // base of the round
	Phase      Phase
	Attempt    wire.AttemptID // zero while collecting
	Ready      int
	Members    int
	Waiting    []Waiting // for whom and why
	Failures   []Failure // of this fragment, newest last
	FirstReady time.Time
	Opened     time.Time
	Summed     time.Time
	Held       time.Time
	Closed     time.Time
	Failed     string // why the attempt failed; empty otherwise
}

// Waiting says for whom a round waits and why.
type Waiting struct {
	Slot   wire.Slot // 0: for nobody in particular
	Reason string
}

// Failure is an attempt that failed.
type Failure struct {
	At      time.Time
	Attempt wire.AttemptID
	Reason  string
}

const (
	keepFailures = 8
	keepClosed   = 64
)

func (r *leaderRound) remember(f Failure) {
	if len(r.history) == keepFailures {
		r.history = append(r.history[:0], r.history[1:]...)
	}
	r.history = append(r.history, f)
}

// close files the status of an attempt that is over; reason is empty when it
// committed.
func (l *Leader) close(r *leaderRound, reason string) {
	s := l.status(r)
	s.Waiting, s.Failures, s.Closed, s.Failed = nil, nil, l.now, reason
	if len(l.closed) == keepClosed {
		l.closed = append(l.closed[:0], l.closed[1:]...)
	}
	l.closed = append(l.closed, s)
}

// Snapshot returns a copy of what people see.
func (l *Leader) Snapshot() LeaderSnapshot {
	s := LeaderSnapshot{Attempts: l.attempts, Failed: l.failed, Pace: paceOf(l.workers)}
	for _, r := range l.rounds {
		s.Rounds = append(s.Rounds, l.status(r))
	}
	s.Closed = append(s.Closed, l.closed...)
	return s
}

func (l *Leader) status(r *leaderRound) RoundStatus {
	s := RoundStatus{
		Fragment: r.fragment, Version: r.head.Version, Phase: r.phase, Ready: len(r.readys), FirstReady: r.first,
		Failures: append([]Failure(nil), r.history...),
	}
	if a := r.attempt; a != nil {
		s.Attempt, s.Members = a.id, len(a.members)
		s.Opened, s.Summed, s.Held = a.opened, a.summed, a.held
	}
	switch r.phase {
	case Collecting:
		s.Waiting = l.waiting(r)
	case Opening, Committing:
		s.Waiting = []Waiting{{0, "the entry is not in the ledger yet"}}
	case Summing:
		s.Waiting = l.owing(r.attempt)
	case Spreading:
		s.Waiting = []Waiting{{0, l.holders(r.attempt)}}
	}
	return s
}

// owing returns the owners that have slabs left to sum.
func (l *Leader) owing(a *attempt) []Waiting {
	left := make([]int, len(a.members))
	for i := range a.rows {
		if a.rows[i].done == nil {
			left[a.rows[i].owner]++
		}
	}
	var out []Waiting
	for rank, n := range left {
		if n > 0 {
			out = append(out, Waiting{a.members[rank].Ready.Ready.Slot, fmt.Sprintf("%d slabs to sum", n)})
		}
	}
	return out
}
