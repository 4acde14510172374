package pipeline

import (
	"slices"
	"time"

	"dunlin/wire"
)

// TrainerSnapshot is what people see of a trainer.
type TrainerSnapshot struct {
	Mode      Mode
	Stages    []StageView
	Micros    int // drawn and not finished
	Waiting   int // drawn; their windows are not here
	Totals    Totals
	Step, Try uint64 // in synchronous mode
	Phase     string // of the step
}

// StageView is a stage as a trainer sees it.
type StageView struct {
	Peers  []PeerView
	Outage time.Time // since when nobody can be called; zero when somebody can
}

// PeerView is one peer of a stage as a trainer sees it.
type PeerView struct {
	Peer    wire.PeerID
	State   PeerState
	Seconds float64 // of a forward pass, measured from the trainer; 0 before the first
	Calls   int     // under way
	Banned  time.Time
	Late    int // time-outs in a row
}

// Snapshot returns the present view.
func (t *Trainer) Snapshot() TrainerSnapshot {
	s := TrainerSnapshot{Mode: t.cfg.Mode, Micros: len(t.micros), Totals: t.totals, Step: t.step.number, Try: t.step.try, Phase: t.step.phase.String()}
	for _, m := range t.micros {
		if m.drawing {
			s.Waiting++
		}
	}
	for i := range t.stages {
		w := &t.stages[i]
		v := StageView{Outage: w.since}
		for _, p := range w.peers {
			view := PeerView{Peer: p.id, State: p.state, Calls: p.calls, Late: p.timeouts}
			if p.samples > 0 {
				view.Seconds = p.rate()
			}
			if !p.failed.IsZero() {
				view.Banned = p.banned
			}
			v.Peers = append(v.Peers, view)
		}
		s.Stages = append(s.Stages, v)
	}
	return s
}

func (p stepPhase) String() string {
	return [...]string{"running", "closing", "deciding", "applying"}[p]
}

// ServerSnapshot is what people see of a server, and what it publishes of its
// load.
type ServerSnapshot struct {
	Stage   int
	Version uint64
	Queue   int
	Held    int
	Counted int     // in the sum
	Served  uint64  // passes
	Wait    float64 // s that calls spend in the queue, moving average
	Seconds float64 // of a forward pass, moving average
	// Behind counts backward calls by how many versions the weights had moved
	// since the forward pass; index 16 holds that and more.
	Behind []uint64
}

// Snapshot returns the present view.
func (s *Server) Snapshot() ServerSnapshot {
	v := ServerSnapshot{
		Stage: s.cfg.Stage, Version: s.version, Queue: len(s.queue), Held: len(s.held), Counted: len(s.sum), Served: s.served,
		Wait: s.wait.value(), Seconds: s.took.value(),
	}
	for n, count := range s.behind {
		if short := int(n) + 1 - len(v.Behind); short > 0 {
			v.Behind = append(v.Behind, make([]uint64, short)...)
		}
		v.Behind[n] = count
	}
	return v
}

// Counts returns what the sum is of, in order of addition.
func (s *Server) Counts() []MicroID { return slices.Clone(s.sum) }
