package pipeline

import (
	"fmt"
	"time"

	"dunlin/wire"
)

// Effect is what the driver must do, in the order given.
//
//sumtype:decl
type Effect interface {
	effect()
	String() string
}

// Effects of both machines.
type (
	// Send gives a message to a peer, this one included. Behind a StageCall goes
	// the stage's input (tokens for stage 0), and for a backward call also the
	// gradient of its output (targets for the last stage); behind a StageAnswer
	// what was computed.
	Send struct {
		To      wire.PeerID
		Message wire.StageMessage
	}

	// Note is a decision and its reason, for logs and the page.
	Note struct{ Text string }
)

// Effects of the Trainer.
type (
	// Draw asks for the windows of a micro-batch, always the same for the same
	// number. The answer is Drawn or NotDrawn.
	Draw struct{ Micro, Step uint64 }

	// Release frees what is kept of a micro-batch and says what became of it.
	Release struct {
		Micro   uint64
		Outcome Outcome
		Stages  int // that are known to have counted it
	}

	// Decide asks to make a step stand: all stages have added up its set. What
	// must outlive this process is written before the answer, Decided.
	Decide struct {
		Step, Try, Edition uint64
		Micros             []uint64
		NormSq             float64
	}

	// Outage says that nobody serves a stage that is needed, and since when.
	Outage struct {
		Stage int
		Since time.Time
		For   time.Duration
	}
)

// Outcome is what became of a micro-batch.
type Outcome uint8

// The outcomes.
const (
	Counted   Outcome = iota // in every stage
	Partly                   // one stage's peer may have died with it; the others counted it
	Abandoned                // a stage could not be found in time
)

func (o Outcome) String() string {
	switch o {
	case Counted:
		return "counted"
	case Partly:
		return "partly counted"
	case Abandoned:
		return "abandoned"
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// Effects of the Server.
type (
	// Compute runs one pass on the call's activations. The answer is Computed or
	// ComputeFailed. A backward pass runs the forward pass again first; it yields
	// the input's gradient, and keeps what Add needs: the weight gradient or,
	// cheaper in memory, what to make it from. Behind is by how many versions the
	// weights have moved since the micro-batch's forward pass.
	Compute struct {
		Key      wire.StageKey
		Backward bool
		Behind   uint64
	}

	// Add makes an answered backward call's weight gradient part of the sum and
	// frees what was kept of the call. It ends a Reduce that is under way. The
	// answer is Added.
	Add struct{ Key wire.StageKey }

	// Drop frees what is kept of a call, the activations that came with it too.
	// Every call ends with a Drop or an Add; a Drop may come twice.
	Drop struct{ Key wire.StageKey }

	// InnerStep makes an optimizer step on the sum, which is that of Micros, and
	// clears it (local steps). The answer is Stepped.
	InnerStep struct{ Micros []MicroID }

	// Reduce adds up the sums of the close's members beside this peer's own sum,
	// which stays. The answer is Reduced or ReduceFailed; a later Reduce, an Add or
	// a Clear takes its place.
	Reduce struct{ Close *wire.StageClose }

	// ApplyStep makes an optimizer step on what Reduce made, with the squared norm
	// of the whole gradient for clipping, and clears both sums. The answer is Stepped.
	ApplyStep struct {
		Step   uint64
		NormSq float64
	}

	// Clear throws away the sum and what Reduce made.
	Clear struct{}
)

func (Send) effect()      {}
func (Note) effect()      {}
func (Draw) effect()      {}
func (Release) effect()   {}
func (Decide) effect()    {}
func (Outage) effect()    {}
func (Compute) effect()   {}
func (Add) effect()       {}
func (Drop) effect()      {}
func (InnerStep) effect() {}
func (Reduce) effect()    {}
func (ApplyStep) effect() {}
func (Clear) effect()     {}

func (e Send) String() string { return fmt.Sprintf("%s to %s", Describe(e.Message), e.To.Short()) }
func (e Note) String() string { return "note: " + e.Text }
func (e Draw) String() string { return fmt.Sprintf("draw m%d", e.Micro) }
func (e Release) String() string {
	return fmt.Sprintf("release m%d: %s, in %d stages", e.Micro, e.Outcome, e.Stages)
}

func (e Decide) String() string {
	return fmt.Sprintf("decide %d.%d.%d on %v, norm² %g", e.Step, e.Try, e.Edition, e.Micros, e.NormSq)
}
func (e Outage) String() string { return fmt.Sprintf("outage of stage %d for %v", e.Stage, e.For) }

func (e Compute) String() string {
	if e.Backward {
		return fmt.Sprintf("compute backward %v, %d behind", e.Key, e.Behind)
	}
	return fmt.Sprintf("compute forward %v", e.Key)
}
func (e Add) String() string       { return fmt.Sprintf("add %v", e.Key) }
func (e Drop) String() string      { return fmt.Sprintf("drop %v", e.Key) }
func (e InnerStep) String() string { return fmt.Sprintf("inner step on %v", e.Micros) }
func (e Reduce) String() string {
	return fmt.Sprintf("reduce %d.%d.%d over %d members", e.Close.Step, e.Close.Try, e.Close.Edition, len(e.Close.Members))
}

func (e ApplyStep) String() string {
	return fmt.Sprintf("apply step %d, norm² %g", e.Step, e.NormSq)
}
func (Clear) String() string { return "clear" }
