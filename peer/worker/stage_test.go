package worker

import (
	"errors"
	"slices"
	"testing"

	"dunlin/compress"
	"dunlin/compute/cpu"
	"dunlin/compute/cpu/cputest"
	"dunlin/contribution"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/peer/mailbox"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/wire"
)

// TestSynchronousMissIsNotAddedTwice: a member whose contribution a commit left out has made the same steps as the others,
// so that it takes the commit over as it is; with local steps its own steps are not in the commit and stay.
func TestSynchronousMissIsNotAddedTwice(t *testing.T) {
	for _, together := range []bool{false, true} {
		spec, _ := recipetest.Spec(t, func(r *recipe.Run) { r.Stages, r.Activation, r.Batch = 3, "fp32", 4 })
		spec.Synchronous = together
		device, err := cpu.New(cpu.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		e, err := engine.NewStage(spec, 1, device, false, "", model.Room{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		configs, err := recipe.Contributions(spec)
		if err != nil {
			t.Fatal(err)
		}
		w := New(spec, e, configs, 1, func(any) {})
		fragment := slices.Index(spec.Stages, 1)
		weights := make([][]float32, spec.Fragments)
		weights[fragment] = make([]float32, configs[fragment].Layout.Values())
		if err := w.begin(Begin{Slot: 1, Fresh: true, Versions: make([]uint64, spec.Fragments), Weights: weights, Members: 2}); err != nil {
			t.Fatal(err)
		}
		w.live[fragment][0][0] = 3 // steps
		if err := w.snapshot(fragment); err != nil {
			t.Fatal(err)
		}
		committed := make([]float32, configs[fragment].Layout.Values())
		tensors := make([][]float32, 0, len(w.live[fragment]))
		for _, live := range w.live[fragment] {
			tensors = append(tensors, make([]float32, len(live)))
		}
		tensors[0][0] = 3 // as the others came to
		configs[fragment].Layout.Gather(committed, tensors)
		w.live[fragment][0][0] = 4 // and one more
		if err := w.merge(TakeCommit{Fragment: fragment, Asked: 1, Commit: contribution.Commit{Version: 1, Weights: committed}}); err != nil {
			t.Fatal(err)
		}
		want := float32(4)
		if together {
			want = 3
		}
		if got := w.live[fragment][0][0]; got != want {
			t.Errorf("steps together %v: a weight of %v, want %v", together, got, want)
		}
	}
}

// TestStageLeavesOutWhatIsNotFinite: activations are finite one by one, and yet gradients made of them are not. Such a step
// is left out, unless all are such.
func TestStageLeavesOutWhatIsNotFinite(t *testing.T) {
	spec, _ := recipetest.Spec(t, func(r *recipe.Run) { r.Stages, r.Activation, r.Batch, r.Micro = 3, "fp32", 4, 1 })
	device := cputest.Device(t)
	e, err := engine.NewStage(spec, 1, device, false, "", model.Room{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	recipetest.Fill(t, spec, e.Live())
	codec, err := compress.ByName("fp32")
	if err != nil {
		t.Fatal(err)
	}
	frame := func(x float32) []byte {
		b, err := codec.Encode(nil, slices.Repeat([]float32{x, -x}, int(spec.Model.Context*spec.Model.Width/2)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var told, complaints int
	w := New(spec, e, nil, 1, func(ev any) {
		if _, ok := ev.(mailbox.Complaint); ok {
			complaints++
		}
	})
	w.members = 1
	w.Serve(e, func(ev any) {
		if _, ok := ev.(StageStepped); ok {
			told++
		}
	})
	step := func(gradient float32) error {
		t.Helper()
		key := wire.StageKey{Trainer: 1, Stage: 1, Attempt: 1}
		c := &wire.Cargo{Windows: []wire.Range{{From: 0, To: 1}}, Input: frame(1), Gradient: frame(gradient)}
		if _, _, err := e.Backward(key, c); err != nil {
			t.Fatal(err)
		}
		if err := e.Add(key); err != nil {
			t.Fatal(err)
		}
		return w.obeyPipe(StepOrder{Windows: c.Windows})
	}
	const absurd = 2e38
	for range 2 {
		for range maxLost {
			if err := step(absurd); err != nil {
				t.Fatal(err)
			}
		}
		if err := step(1e-3); err != nil {
			t.Fatal(err)
		}
	}
	if complaints != 2*maxLost || told != 2*maxLost+2 || w.step != 2 || w.own != 2*spec.Model.Context {
		t.Errorf("%d complaints, %d answers, %d steps on %d tokens", complaints, told, w.step, w.own)
	}
	for range maxLost {
		if err := step(absurd); err != nil {
			t.Fatal(err)
		}
	}
	if err := step(absurd); !errors.Is(err, engine.ErrNotFinite) {
		t.Errorf("nothing is finite any more, and that is %v", err)
	}
}
