package engine

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu/cputest"
	"dunlin/cuda"
	"dunlin/cuda/ptxemu"
	"dunlin/model"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/wire"
)

// threeStages is a run of a small model in three stages whose activations lose nothing.
func threeStages(t *testing.T, batch, micro int) (*wire.RunSpec, []byte) {
	t.Helper()
	return recipetest.Spec(t, func(r *recipe.Run) { r.Stages, r.Activation, r.Batch, r.Micro = 3, "fp32", batch, micro })
}

// narrowStages is such a run whose model has a subspace of 6 of its 16 values.
func narrowStages(t *testing.T) *wire.RunSpec {
	t.Helper()
	spec, _ := recipetest.Spec(t, func(r *recipe.Run) { r.Stages, r.Activation, r.Micro, r.Model.Subspace = 3, "fp32", 1, 6 })
	return spec
}

// TestStageForgetsWhatDoesNotCount drops a gradient and adds another: the step is
// that of the other alone.
func TestStageForgetsWhatDoesNotCount(t *testing.T) {
	spec, _ := threeStages(t, 2, 1)
	run := func(dropped bool) []float32 {
		e, err := NewStage(spec, 1, cputest.Device(t), false, "", model.Room{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		recipetest.Fill(t, spec, e.Live())
		back := func(micro uint64, seed float32) wire.StageKey {
			values := make([]float32, 8*16)
			for i := range values {
				values[i] = seed * float32(i%7)
			}
			frame, err := e.border.codec.Encode(nil, values)
			if err != nil {
				t.Fatal(err)
			}
			key := wire.StageKey{Trainer: 1, Micro: micro, Stage: 1, Attempt: 1}
			if _, _, err := e.Backward(key, &wire.Cargo{Windows: []wire.Range{{From: 0, To: 1}}, Input: frame, Gradient: frame}); err != nil {
				t.Fatal(err)
			}
			return key
		}
		if dropped {
			e.Drop(back(7, 3))
		}
		for micro := range uint64(2) {
			if err := e.Add(back(micro, float32(micro+1))); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Apply(0.1); err != nil {
			t.Fatal(err)
		}
		if e.Apply(0.1) == nil {
			t.Error("a step on no gradient is made")
		}
		return slices.Clone(e.stage.Params().Host)
	}
	if !slices.Equal(run(false), run(true)) {
		t.Error("a dropped gradient leaves something behind")
	}
}

// TestStageRefusesForeignBytes gives an engine what no trainer sends.
func TestStageRefusesForeignBytes(t *testing.T) {
	spec, _ := threeStages(t, 2, 1)
	for stage := range spec.StageCount() {
		e, err := NewStage(spec, stage, cputest.Device(t), false, "", model.Room{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		for name, c := range map[string]*wire.Cargo{
			"nothing": {}, "too many windows": {Windows: []wire.Range{{From: 0, To: 1 << 59}}},
			"short": {Windows: []wire.Range{{From: 0, To: 1}}, Input: make([]byte, 3), Gradient: make([]byte, 3)},
			"noise": {Windows: []wire.Range{{From: 0, To: 1}}, Input: make([]byte, 12+4*128), Gradient: make([]byte, 12+4*128)},
		} {
			if _, _, err := e.Backward(wire.StageKey{}, c); err == nil {
				t.Errorf("stage %d, %s: no error", stage, name)
			}
		}
	}
}

// card returns an emulated GPU, which has memory of its own.
func card(t *testing.T) compute.Device {
	t.Helper()
	cards, err := ptxemu.New(ptxemu.Config{Workers: 1, Uninitialised: true})
	if err != nil {
		t.Fatal(err)
	}
	context, err := cards.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := cuda.New(context, cuda.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestStageOnACard does all that a stage does on a GPU and on the processor: what they pass on and what becomes of the
// weights are the same but for rounding.
func TestStageOnACard(t *testing.T) {
	spec, _ := threeStages(t, 2, 1)
	spec.Synchronous = true
	tokens := make([]int32, 8)
	for i := range tokens {
		tokens[i] = int32('a' + i)
	}
	for stage := range spec.StageCount() {
		results := map[string][2][]float64{}
		for i, d := range []compute.Device{cputest.Device(t), card(t)} {
			note := func(what string, values []float64) {
				pair := results[what]
				pair[i] = values
				results[what] = pair
			}
			passOn(t, spec, stage, d, tokens, note)
		}
		for what, pair := range results {
			if len(pair[0]) == 0 || len(pair[0]) != len(pair[1]) {
				t.Fatalf("stage %d, %s: %d and %d values", stage, what, len(pair[0]), len(pair[1]))
			}
			var off, size float64 // AdamW's first step makes as much of a gradient's rounding as of a gradient
			for i, want := range pair[0] {
				off += (pair[1][i] - want) * (pair[1][i] - want)
				size += want * want
			}
			bound := map[bool]float64{true: 1e-2, false: 1e-5}[what == "move"]
			if size == 0 || !(math.Sqrt(off/size) < bound) {
				t.Errorf("stage %d, %s: %.1e of it differs between card and processor", stage, what, math.Sqrt(off/size))
			}
		}
	}
}

// passOn makes a step of one stage of which two micro-batches count, a third is given up and another member's sum comes.
func passOn(t *testing.T, spec *wire.RunSpec, stage int, d compute.Device, tokens []int32, note func(what string, values []float64)) {
	t.Helper()
	e, own := newStage(t, spec, stage, d)
	before := weights(e, own)
	values := make([]float32, len(tokens)*e.cfg.Model.Width)
	for i := range values {
		values[i] = float32(i%7) - 3
	}
	frame, err := e.border.codec.Encode(nil, values)
	if err != nil {
		t.Fatal(err)
	}
	decoded := func(b []byte) []float64 {
		if err := e.border.codec.Decode(values, b); err != nil {
			t.Fatal(err)
		}
		return widened(values)
	}
	cargo := func() *wire.Cargo {
		c := &wire.Cargo{Windows: []wire.Range{{From: 0, To: 1}}, Input: frame, Gradient: frame}
		if stage == 0 {
			c.Input = EncodeTokens(tokens)
		}
		if stage == spec.StageCount()-1 {
			c.Gradient = EncodeTokens(tokens)
		}
		return c
	}
	if stage < spec.StageCount()-1 {
		out, err := e.Forward(cargo())
		if err != nil {
			t.Fatal(err)
		}
		note("output", decoded(out))
	}
	for micro := range uint64(3) {
		key := wire.StageKey{Trainer: 1, Micro: micro, Stage: uint64(stage), Attempt: 1}
		gradient, loss, err := e.Backward(key, cargo())
		if err != nil {
			t.Fatal(err)
		}
		if stage > 0 {
			note("gradient", append(decoded(gradient), float64(loss)))
		}
	}
	e.Drop(wire.StageKey{Trainer: 1, Micro: 1, Stage: uint64(stage), Attempt: 1})
	for _, micro := range []uint64{2, 0} {
		if err := e.Add(wire.StageKey{Trainer: 1, Micro: micro, Stage: uint64(stage), Attempt: 1}); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := e.Sum()
	if err != nil {
		t.Fatal(err)
	}
	var sums []float64
	for i := 0; i < len(sum); i += 4 {
		sums = append(sums, float64(math.Float32frombits(binary.LittleEndian.Uint32(sum[i:]))))
	}
	note("sum", sums)
	norm, err := e.Reduce([][]byte{sum, nil}, 4)
	if err != nil {
		t.Fatal(err)
	}
	note("norm", []float64{norm})
	if err := e.ApplyReduced(4, norm, 0.1); err != nil {
		t.Fatal(err)
	}
	if err := e.Pull(own); err != nil {
		t.Fatal(err)
	}
	after := weights(e, own)
	for i, w := range before {
		after[i] -= w
	}
	note("move", after)
}

// weights returns tensors' live values, one after the other.
func weights(e *Stage, tensors []int) (all []float64) {
	for _, i := range tensors {
		all = append(all, widened(e.Live()[i])...)
	}
	return all
}

func widened(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}
