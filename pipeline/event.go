package pipeline

import (
	"fmt"
	"math"
	"strings"
	"time"

	"dunlin/wire"
)

// Event is what happened. Each machine ignores events that are not for it.
//
//sumtype:decl
type Event interface {
	event()
	String() string
}

// Events of both machines.
type (
	// Tick says that a deadline may have passed.
	Tick struct{}

	// From is a message that arrived whole, with the activations that follow it,
	// which the driver keeps under its key.
	From struct {
		Peer    wire.PeerID
		Message wire.StageMessage
	}

	// PeerDown says that the connection to a peer is gone: what was awaited of it
	// will not come.
	PeerDown struct{ Peer wire.PeerID }
)

// Events of the Trainer.
type (
	// Announced is a peer's word about itself. Seq grows with each word of a peer;
	// an older or repeated one is ignored.
	Announced struct {
		Peer  wire.PeerID
		Stage int
		State PeerState
		Seq   uint64
		Link  Link
	}

	// Alive says that the connection to a peer is up: one that is banned gets in again
	// when its ban is over.
	Alive struct{ Peer wire.PeerID }

	// Drawn says that the windows of a micro-batch are here.
	Drawn struct{ Micro uint64 }

	// NotDrawn says that there are none now. The Trainer asks again.
	NotDrawn struct {
		Micro  uint64
		Reason string
	}

	// Failed says that a call could not be sent or will not be answered.
	Failed struct {
		Key    wire.StageKey
		Reason string
	}

	// Decided answers Decide: the step stands.
	Decided struct{ Step, Try, Edition uint64 }

	// Stop ends drawing: what is under way is finished, in synchronous mode the step.
	Stop struct{}
)

// Events of the Server.
type (
	// Computed says that a pass is done; its output is kept under the key.
	Computed struct {
		Key  wire.StageKey
		Took time.Duration
	}

	// ComputeFailed says that a pass could not be run.
	ComputeFailed struct {
		Key    wire.StageKey
		Reason string
	}

	// Added says that a gradient is part of the sum.
	Added struct{ Key wire.StageKey }

	// Reduced answers Reduce: the members' sum is here. NormSq is the squared
	// norm of the stage's mean gradient.
	Reduced struct {
		Step, Try, Edition uint64
		NormSq             float64
	}

	// ReduceFailed says that a member did not deliver.
	ReduceFailed struct {
		Step, Try, Edition uint64
		Reason             string
	}

	// Stepped answers InnerStep and ApplyStep: the weights are at Version.
	Stepped struct{ Version uint64 }

	// Moved says that the weights came to Version by other means than a step
	// (state fetched, a commit merged); what was counted before is void in
	// synchronous mode when the version differs. No step may be under way.
	Moved struct{ Version uint64 }

	// Leave says that this peer leaves its stage: no call comes any more. What it
	// has not counted others compute.
	Leave struct{}
)

func (Tick) event()          {}
func (From) event()          {}
func (PeerDown) event()      {}
func (Announced) event()     {}
func (Alive) event()         {}
func (Drawn) event()         {}
func (NotDrawn) event()      {}
func (Failed) event()        {}
func (Decided) event()       {}
func (Stop) event()          {}
func (Computed) event()      {}
func (ComputeFailed) event() {}
func (Added) event()         {}
func (Reduced) event()       {}
func (ReduceFailed) event()  {}
func (Stepped) event()       {}
func (Moved) event()         {}
func (Leave) event()         {}

func (Tick) String() string       { return "tick" }
func (e From) String() string     { return fmt.Sprintf("from %s: %s", e.Peer.Short(), Describe(e.Message)) }
func (e PeerDown) String() string { return fmt.Sprintf("down %s", e.Peer.Short()) }
func (e Announced) String() string {
	return fmt.Sprintf("%s is %s in stage %d (%d)", e.Peer.Short(), e.State, e.Stage, e.Seq)
}
func (e Alive) String() string    { return fmt.Sprintf("%s is alive", e.Peer.Short()) }
func (e Drawn) String() string    { return fmt.Sprintf("drawn m%d", e.Micro) }
func (e NotDrawn) String() string { return fmt.Sprintf("not drawn m%d: %s", e.Micro, e.Reason) }
func (e Failed) String() string   { return fmt.Sprintf("failed %v: %s", e.Key, e.Reason) }
func (e Decided) String() string  { return fmt.Sprintf("decided %d.%d.%d", e.Step, e.Try, e.Edition) }
func (Stop) String() string       { return "stop" }
func (e Computed) String() string { return fmt.Sprintf("computed %v in %v", e.Key, e.Took) }
func (e ComputeFailed) String() string {
	return fmt.Sprintf("not computed %v: %s", e.Key, e.Reason)
}
func (e Added) String() string { return fmt.Sprintf("added %v", e.Key) }
func (e Reduced) String() string {
	return fmt.Sprintf("reduced %d.%d.%d, norm² %g", e.Step, e.Try, e.Edition, e.NormSq)
}

func (e ReduceFailed) String() string {
	return fmt.Sprintf("not reduced %d.%d.%d: %s", e.Step, e.Try, e.Edition, e.Reason)
}
func (e Stepped) String() string { return fmt.Sprintf("stepped to %d", e.Version) }
func (e Moved) String() string   { return fmt.Sprintf("moved to %d", e.Version) }
func (Leave) String() string     { return "leave" }

// Describe returns a message as one line of a log or transcript.
func Describe(m wire.StageMessage) string {
	switch m := m.(type) {
	case *wire.StageCall:
		if m.Backward {
			return fmt.Sprintf("backward %v of version %d", m.Key, m.Version)
		}
		return fmt.Sprintf("forward %v", m.Key)
	case *wire.StageCancel:
		return fmt.Sprintf("cancel %v", m.Key)
	case *wire.StageAccept:
		return fmt.Sprintf("accept %v", m.Key)
	case *wire.StageClose:
		members := make([]string, len(m.Members))
		for i, p := range m.Members {
			members[i] = p.Short()
		}
		return fmt.Sprintf("close %d.%d.%d stage %d of [%s] with %v of %d", m.Step, m.Try, m.Edition, m.Stage, strings.Join(members, " "), m.Micros, m.Total)
	case *wire.StageApply:
		return fmt.Sprintf("apply %d.%d.%d stage %d, norm² %g", m.Step, m.Try, m.Edition, m.Stage, math.Float64frombits(m.NormSq))
	case *wire.StageVoid:
		return fmt.Sprintf("void before %d.%d", m.Step, m.Try)
	case *wire.StageAnswer:
		return fmt.Sprintf("answer %v at version %d", m.Key, m.Version)
	case *wire.StageRefusal:
		if m.Version > 0 {
			return fmt.Sprintf("refuse %v at version %d: %s %s", m.Key, m.Version, m.Code, m.Reason)
		}
		return fmt.Sprintf("refuse %v: %s %s", m.Key, m.Code, m.Reason)
	case *wire.StageCounted:
		fate := map[wire.StageFate]string{wire.StageInSum: "counted", wire.StageGivenUp: "given up", wire.StageUnknown: "unknown"}[m.Fate]
		return fmt.Sprintf("%s %v", fate, m.Key)
	case *wire.StageReduced:
		return fmt.Sprintf("reduced %d.%d.%d stage %d, norm² %g", m.Step, m.Try, m.Edition, m.Stage, math.Float64frombits(m.NormSq))
	case *wire.StageMissing:
		if m.Behind {
			return fmt.Sprintf("behind %d.%d.%d stage %d: %v %s", m.Step, m.Try, m.Edition, m.Stage, m.Micros, m.Reason)
		}
		return fmt.Sprintf("missing %d.%d.%d stage %d: %v %s", m.Step, m.Try, m.Edition, m.Stage, m.Micros, m.Reason)
	case *wire.StageSum:
		return fmt.Sprintf("sum %d.%d.%d stage %d", m.Step, m.Try, m.Edition, m.Stage)
	case *wire.StageApplied:
		return fmt.Sprintf("applied %d stage %d, at version %d", m.Step, m.Stage, m.Version)
	}
	return "nothing"
}
