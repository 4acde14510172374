package worker

import (
	"slices"
	"testing"

	"dunlin/compute/cpu"
	"dunlin/contribution"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
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
