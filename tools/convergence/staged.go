package main

import (
	"encoding/binary"
	"fmt"

	"dunlin/data"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/wire"
)

// pipeline is what the workers of an arm with stages share. Each worker is a peer of
// every stage; a micro-batch meets peers of different workers on its way, as wiring has
// it, in lockstep and without faults.
type pipeline struct {
	windows data.Windows
	order   data.Order
	micros  uint64 // drawn
	flight  []*walk
	counted [][]int // by worker and stage: gradients since its last inner step
}

// walk is a micro-batch on its way, with what its trainer keeps of it.
type walk struct {
	number  uint64
	windows wire.Range
	holders []int // by stage: the worker whose peer ran, or will run, the forward pass
	inputs  [][]byte
	targets []byte
}

// stages opens a worker's peers of all stages.
func (t *trial) stages(joiner bool) ([]*engine.Stage, error) {
	if t.pipe == nil {
		windows, err := data.WindowsOf(t.study.model.Context, data.ByteTokens(t.study.corpus.Train))
		if err != nil {
			return nil, err
		}
		t.pipe = &pipeline{windows: windows, order: data.Order{Seed: t.spec.Data.Seed, N: windows.Len()}}
	}
	out := make([]*engine.Stage, t.spec.StageCount())
	for s := range out {
		var err error
		if out[s], err = engine.NewStage(t.spec, s, t.device, joiner, "", model.Room{}); err != nil {
			return nil, err
		}
	}
	t.pipe.counted = append(t.pipe.counted, make([]int, len(out)))
	return out, nil
}

// together returns the tensors of a worker's stages.
func together(stages []*engine.Stage) [][]float32 {
	live := make([][]float32, len(stages[0].Live()))
	for _, e := range stages {
		for i, tensor := range e.Live() {
			if tensor != nil {
				live[i] = tensor
			}
		}
	}
	return live
}

// pass sends a step's windows through the stages: an inner step of every worker's peers,
// but for what is still in flight.
func (t *trial) pass(step int) error {
	p, progress := t.pipe, float64(step)/float64(t.study.steps)
	n := batch / t.arm.Micro
	holders := make([][]int, t.spec.StageCount())
	for s := range holders {
		for m := range n {
			holders[s] = append(holders[s], m%len(t.workers))
		}
		t.rng.Shuffle(n, func(i, j int) { holders[s][i], holders[s][j] = holders[s][j], holders[s][i] })
	}
	for m := range n {
		w := &walk{number: p.micros, windows: wire.Range{From: p.micros * uint64(t.arm.Micro), To: (p.micros + 1) * uint64(t.arm.Micro)}}
		for s := range holders {
			w.holders = append(w.holders, holders[s][m])
		}
		p.micros++
		if err := t.forward(w); err != nil {
			return err
		}
		p.flight = append(p.flight, w)
		for len(p.flight) > t.arm.Lag {
			oldest := p.flight[0]
			p.flight = p.flight[1:]
			if err := t.backward(oldest, progress); err != nil {
				return err
			}
		}
	}
	if t.arm.Together {
		return t.stepTogether(progress)
	}
	return nil
}

// forward brings a micro-batch to the last stage.
func (t *trial) forward(w *walk) error {
	indices := make([]int, w.windows.Len())
	for i := range indices {
		indices[i] = t.pipe.order.At(w.windows.From + uint64(i))
	}
	rows := len(indices) * t.study.model.Context
	tokens, targets := make([]int32, rows), make([]int32, rows)
	if err := t.pipe.windows.Batch(tokens, targets, indices...); err != nil {
		return err
	}
	var err error
	if w.targets, err = binary.Append(nil, binary.LittleEndian, targets); err != nil {
		return err
	}
	input, err := binary.Append(nil, binary.LittleEndian, tokens)
	for s := 0; err == nil; s++ {
		w.inputs = append(w.inputs, input)
		if s == t.spec.StageCount()-1 {
			return nil
		}
		input, err = t.workers[w.holders[s]].stages[s].Forward(&wire.Cargo{Windows: []wire.Range{w.windows}, Input: input})
	}
	return err
}

// backward takes a micro-batch back. With local steps a peer steps as soon as it has
// counted a batch.
func (t *trial) backward(w *walk, progress float64) error {
	gradient := w.targets
	for s := t.spec.StageCount() - 1; s >= 0; s-- {
		holder := w.holders[s]
		if t.arm.Elsewhere {
			holder = t.rng.IntN(len(t.workers))
		}
		e := t.workers[holder].stages[s]
		key := wire.StageKey{Trainer: 1, Micro: w.number, Stage: uint64(s), Attempt: 1}
		back, _, err := e.Backward(key, &wire.Cargo{Windows: []wire.Range{w.windows}, Input: w.inputs[s], Gradient: gradient})
		if err == nil {
			err = e.Add(key)
		}
		if err != nil {
			return fmt.Errorf("micro-batch %d, stage %d: %w", w.number, s, err)
		}
		gradient = back
		counted := &t.pipe.counted[holder][s]
		if *counted++; !t.arm.Together && *counted == int(t.spec.Data.Batch)/t.arm.Micro {
			*counted = 0
			if err := e.Apply(progress); err != nil {
				return err
			}
		}
	}
	return nil
}

// stepTogether makes the step of a synchronous arm, clipped by the norm of the whole.
func (t *trial) stepTogether(progress float64) error {
	n, normSq := batch/t.arm.Micro, 0.0
	for s := range t.spec.StageCount() {
		sums := make([][]byte, len(t.workers))
		for i, w := range t.workers {
			var err error
			if sums[i], err = w.stages[s].Sum(); err != nil {
				return err
			}
		}
		for i, w := range t.workers {
			squares, err := w.stages[s].Reduce(sums, n)
			if err != nil {
				return err
			}
			if i == 0 {
				normSq += squares
			}
		}
	}
	for _, w := range t.workers {
		for _, e := range w.stages {
			if err := e.ApplyReduced(n, normSq, progress); err != nil {
				return err
			}
		}
	}
	return nil
}
