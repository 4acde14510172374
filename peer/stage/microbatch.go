package stage

import (
	"math/rand/v2"

	"dunlin/engine"
	"dunlin/peer/worker"
	"dunlin/pipeline"
	"dunlin/wire"
)

// trainer is the driver's side of a pipeline.Trainer.
type trainer struct {
	machine *pipeline.Trainer
	slot    wire.Slot
	text    Text
	leases  []wire.Range
	micros  map[uint64]*microBatch
	losses  []float32 // newest
}

// microBatch is what a trainer keeps of a micro-batch until it is released.
type microBatch struct {
	windows   wire.Range
	inputs    [][]byte // by stage, as they travel
	gradients [][]byte // by stage: of its output; the last one's are the targets
}

// InFlight is how many micro-batches a trainer keeps under way, with local steps: for each
// stage one that it computes and one that waits there or whose bytes travel, and two that
// bridge the inner steps. More of them make few gradients late (abreast.go in package pipeline).
func InFlight(stages int) int { return 2*stages + 2 }

// begin starts over under a new slot. What is left of the old one's leases nobody else gets.
func (t *trainer) begin(p *Pipe, slot wire.Slot) error {
	stages := p.spec.StageCount()
	values := p.spec.Micro * p.spec.Model.Context * p.spec.Model.Passed()
	batch, flight := int(p.spec.Data.Batch/p.spec.Micro), InFlight(stages)
	if p.spec.Synchronous {
		flight = batch
	}
	machine, err := pipeline.NewTrainer(pipeline.TrainerConfig{
		Slot: slot, Stages: stages, Mode: modeOf(p.spec), Batch: batch, Step: p.version, InFlight: flight, PerPeer: callsAtOnce,
		Bytes: values, Limits: pipeline.DefaultLimits(), Rand: rand.New(rand.NewPCG(p.seed, uint64(slot))),
	})
	if err != nil {
		return err
	}
	t.machine, t.slot, t.micros, t.losses = machine, slot, map[uint64]*microBatch{}, nil
	return nil
}

// errNoLease says that a trainer has nothing to draw from.
type errNoLease struct{}

func (errNoLease) Error() string { return "no leased windows are left" }

// draw takes the windows of a micro-batch from the leases.
func (t *trainer) draw(number uint64, spec *wire.RunSpec) error {
	for len(t.leases) > 0 && t.leases[0].Len() < spec.Micro {
		t.leases = t.leases[1:] // leases are whole micro-batches, but for what others left
	}
	if len(t.leases) == 0 {
		return errNoLease{}
	}
	r := &t.leases[0]
	windows := wire.Range{From: r.From, To: r.From + spec.Micro}
	tokens, targets, err := t.text.batch(windows)
	if err != nil {
		return err
	}
	r.From = windows.To
	n := spec.StageCount()
	m := &microBatch{windows: windows, inputs: make([][]byte, n), gradients: make([][]byte, n)}
	m.inputs[0], m.gradients[n-1] = engine.EncodeTokens(tokens), engine.EncodeTokens(targets)
	t.micros[number] = m
	return nil
}

// cargo is what goes with a call.
func (t *trainer) cargo(call *wire.StageCall) []byte {
	m := t.micros[call.Key.Micro]
	c := &wire.Cargo{Windows: []wire.Range{m.windows}, Input: m.inputs[call.Key.Stage]}
	if call.Backward {
		c.Gradient = m.gradients[call.Key.Stage]
	}
	return wire.EncodeCargo(c)
}

const (
	// maxLosses bounds the losses that wait for an inner step.
	maxLosses = 1024
	// mostLoss is above any that a micro-batch can have while its model trains, in nats a token. One
	// that is no number would make this peer's heartbeats invalid for good.
	mostLoss = 1e6
)

// answered takes an answer that is awaited of its sender, and of no other: what another
// attempt brought may be in use already.
func (p *Pipe) answered(from wire.PeerID, a *wire.StageAnswer, cargo []byte) {
	if p.trainer == nil || p.trainer.machine == nil {
		return
	}
	backward, awaited := p.trainer.machine.Awaits(from, a.Key)
	if !awaited {
		return
	}
	if kind, loss, _, ok := worker.ReadAnswer(cargo); !ok || len(cargo) > p.mostCargo() || backward != (kind == worker.AnswerBackward) || !(loss >= 0 && loss < mostLoss) {
		p.toTrainer(pipeline.Failed{Key: a.Key, Reason: "what came is no answer to it"})
		return
	}
	if p.trainer.answered(a, cargo, p.spec.StageCount()) {
		p.toTrainer(pipeline.From{Peer: from, Message: a})
	}
}

// answered keeps what a call computed, for the next one. It reports false when the
// answer is not one.
func (t *trainer) answered(a *wire.StageAnswer, cargo []byte, stages int) bool {
	m, stage := t.micros[a.Key.Micro], int(a.Key.Stage)
	if m == nil || a.Key.Trainer != t.slot || stage >= stages {
		return false
	}
	kind, loss, body, ok := worker.ReadAnswer(cargo)
	if !ok {
		return false
	}
	switch {
	case kind == worker.AnswerForward && stage+1 < stages:
		m.inputs[stage+1] = body
	case kind == worker.AnswerBackward && stage > 0:
		m.gradients[stage-1] = body
	}
	if kind == worker.AnswerBackward && stage == stages-1 && len(t.losses) < maxLosses {
		t.losses = append(t.losses, loss)
	}
	return true
}
