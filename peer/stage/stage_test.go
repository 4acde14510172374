package stage

import (
	"math"
	"slices"
	"testing"

	"dunlin/compute/cpu/cputest"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/peer/worker"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/wire"
)

// stagedSpec is a run of a small model in three stages whose activations lose nothing.
func stagedSpec(t *testing.T, batch, micro, subspace int) (*wire.RunSpec, []byte) {
	t.Helper()
	return recipetest.Spec(t, func(r *recipe.Run) {
		r.Stages, r.Activation, r.Batch, r.Micro, r.Model.Subspace = 3, "fp32", batch, micro, subspace
	})
}

// TestStageEnginesEqualOneMachine walks one micro-batch a step through engines of all
// stages, by the bytes that travel, and compares the weights with those of an engine of
// the whole model, bit for bit. Nothing is clipped: each stage sees its own gradient only.
func TestStageEnginesEqualOneMachine(t *testing.T) {
	for _, subspace := range []int{0, 6} {
		for _, inner := range []string{"", wire.InnerMuon} {
			stageEnginesEqualOneMachine(t, subspace, inner)
		}
	}
}

func stageEnginesEqualOneMachine(t *testing.T, subspace int, inner string) {
	t.Helper()
	spec, text := stagedSpec(t, 2, 2, subspace)
	if spec.Inner.Kind = inner; inner == wire.InnerMuon {
		spec.Inner.Momentum = wire.FloatOf(0.95)
	} else {
		spec.Inner.Momentum = 0
	}
	spec.Inner.Clip = wire.FloatOf(1000)
	whole, err := engine.NewLocal(spec, cputest.Device(t), text, false, "", model.Room{})
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	recipetest.Fill(t, spec, whole.Live())
	var stages []*engine.Stage
	for s := range spec.StageCount() {
		e, err := engine.NewStage(spec, s, cputest.Device(t), false, "", model.Room{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		recipetest.Fill(t, spec, e.Live())
		stages = append(stages, e)
	}
	trainer := &trainer{slot: 1, micros: map[uint64]*microBatch{}, leases: []wire.Range{{From: 0, To: 100}}}
	windows, err := NewText(spec, text)
	if err != nil {
		t.Fatal(err)
	}
	trainer.text = *windows
	for step := range uint64(6) {
		want, err := whole.Step([]uint64{2 * step, 2*step + 1}, float64(step)/10)
		if err != nil {
			t.Fatal(err)
		}
		if err := trainer.draw(step, spec); err != nil {
			t.Fatal(err)
		}
		call := func(stage int, backward bool) {
			key := wire.StageKey{Trainer: 1, Micro: step, Stage: uint64(stage), Attempt: 1}
			cargo, err := wire.DecodeCargo(trainer.cargo(&wire.StageCall{Key: key, Backward: backward}))
			if err != nil {
				t.Fatal(err)
			}
			var body []byte
			var loss float32
			kind := byte(worker.AnswerForward)
			if backward {
				kind = worker.AnswerBackward
				body, loss, err = stages[stage].Backward(key, cargo)
			} else {
				body, err = stages[stage].Forward(cargo)
			}
			if err != nil {
				t.Fatal(err)
			}
			if tokens, passed := 2*8, spec.Model.Passed(); subspace > 0 && len(body) > tokens*(1+4*int(passed))+12 {
				t.Fatalf("stage %d passes %d bytes of %d tokens and as many times %d values", stage, len(body), tokens, passed)
			}
			if !trainer.answered(&wire.StageAnswer{Key: key}, worker.MakeAnswer(kind, loss, body), len(stages)) {
				t.Fatalf("the answer of stage %d is not taken", stage)
			}
			if backward {
				if err := stages[stage].Add(key); err != nil {
					t.Fatal(err)
				}
			}
		}
		for s := range len(stages) - 1 {
			call(s, false)
		}
		for s := len(stages) - 1; s >= 0; s-- {
			call(s, true)
		}
		if got := float64(trainer.losses[0]); got != want {
			t.Fatalf("step %d: loss %v, one machine's is %v", step, got, want)
		}
		trainer.losses = nil
		for _, e := range stages {
			if err := e.Apply(float64(step) / 10); err != nil {
				t.Fatal(err)
			}
			for i, live := range e.Live() {
				if live != nil && !slices.Equal(live, whole.Live()[i]) {
					t.Fatalf("step %d: %s differs from one machine's", step, spec.Tensors[i].Name)
				}
			}
		}
	}
}

// TestSynchronousStepsEqualOneMachine splits a step's micro-batches over two peers of
// each stage, clips by the norm of the whole, and compares with one machine: equal to
// rounding, since gradients are added in another order, and both peers to the bit.
func TestSynchronousStepsEqualOneMachine(t *testing.T) {
	for _, subspace := range []int{0, 6} {
		synchronousStepsEqualOneMachine(t, subspace)
	}
}

func synchronousStepsEqualOneMachine(t *testing.T, subspace int) {
	t.Helper()
	spec, text := stagedSpec(t, 4, 1, subspace)
	spec.Synchronous, spec.Inner.Clip = true, wire.FloatOf(0.05)
	whole, err := engine.NewLocal(spec, cputest.Device(t), text, false, "", model.Room{Batch: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	recipetest.Fill(t, spec, whole.Live())
	stages := make([][2]*engine.Stage, spec.StageCount())
	for s := range stages {
		for i := range 2 {
			e, err := engine.NewStage(spec, s, cputest.Device(t), false, "", model.Room{})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			recipetest.Fill(t, spec, e.Live())
			stages[s][i] = e
		}
	}
	windows, err := NewText(spec, text)
	if err != nil {
		t.Fatal(err)
	}
	walk := &trainer{slot: 1, micros: map[uint64]*microBatch{}, leases: []wire.Range{{From: 0, To: 100}}, text: *windows}
	for step := range uint64(5) {
		if _, err := whole.Step([]uint64{4 * step, 4*step + 1, 4*step + 2, 4*step + 3}, 0.1); err != nil {
			t.Fatal(err)
		}
		for micro := 4 * step; micro < 4*step+4; micro++ {
			if err := walk.draw(micro, spec); err != nil {
				t.Fatal(err)
			}
			call := func(stage int, backward bool) {
				e := stages[stage][micro%2]
				key := wire.StageKey{Trainer: 1, Micro: micro, Stage: uint64(stage), Attempt: 1}
				cargo, err := wire.DecodeCargo(walk.cargo(&wire.StageCall{Key: key, Backward: backward}))
				if err != nil {
					t.Fatal(err)
				}
				kind, body, loss := byte(worker.AnswerForward), []byte(nil), float32(0)
				if backward {
					kind = worker.AnswerBackward
					if body, loss, err = e.Backward(key, cargo); err == nil {
						err = e.Add(key)
					}
				} else {
					body, err = e.Forward(cargo)
				}
				if err != nil || !walk.answered(&wire.StageAnswer{Key: key}, worker.MakeAnswer(kind, loss, body), len(stages)) {
					t.Fatalf("stage %d: %v", stage, err)
				}
			}
			for s := range len(stages) - 1 {
				call(s, false)
			}
			for s := len(stages) - 1; s >= 0; s-- {
				call(s, true)
			}
		}
		var normSq float64
		for _, pair := range stages {
			var sums [2][]byte
			for i, e := range pair {
				if sums[i], err = e.Sum(); err != nil {
					t.Fatal(err)
				}
			}
			a, err1 := pair[0].Reduce([][]byte{nil, sums[1]}, 4)
			b, err2 := pair[1].Reduce([][]byte{sums[0], nil}, 4)
			if err1 != nil || err2 != nil || a != b {
				t.Fatalf("two members make %v, %v and %v, %v of one step", a, err1, b, err2)
			}
			normSq += a
		}
		for _, pair := range stages {
			for _, e := range pair {
				if err := e.ApplyReduced(4, normSq, 0.1); err != nil {
					t.Fatal(err)
				}
			}
			for i, live := range pair[0].Live() {
				if !slices.Equal(live, pair[1].Live()[i]) {
					t.Fatalf("step %d: two members differ in %s", step, spec.Tensors[i].Name)
				}
				for j, x := range live {
					if want := whole.Live()[i][j]; math.Abs(float64(x-want)) > 2e-5 {
						t.Fatalf("step %d: %s has %v, one machine %v", step, spec.Tensors[i].Name, x, want)
					}
				}
			}
		}
	}
	if _, err := stages[0][0].Reduce([][]byte{make([]byte, 3)}, 4); err == nil {
		t.Error("a sum of another size is added")
	}
}
