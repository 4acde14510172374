package contribution_test

import (
	"slices"
	"testing"

	"dunlin/compress"
	"dunlin/contribution"
	"dunlin/optimizer"
)

// TestEagerPreviewsTheOuterStep: from a snapshot on the live weights show a part of what the worker moved. The contribution
// is all of it, and the merge takes the committed weights and what was trained since.
func TestEagerPreviewsTheOuterStep(t *testing.T) {
	cfg := config(t)
	cfg.Merge, cfg.Alpha = optimizer.Eager, 0.25
	for name, included := range map[string]func(int) bool{"taken": func(int) bool { return true }, "missed": nil} {
		tr, live := started(t, cfg)
		anchor := slices.Clone(live[0])
		for i := range live[0] {
			live[0][i] -= 2
		}
		if err := tr.Snapshot(live); err != nil {
			t.Fatal(err)
		}
		for i, x := range live[0] {
			if x != anchor[i]-0.5 {
				t.Fatalf("%s: value %d is %v after the snapshot, want %v", name, i, x, anchor[i]-0.5)
			}
		}
		c := must[*contribution.Contribution](t)(tr.Encode())
		delta := make([]float32, 2)
		if err := (compress.FP32{}).Decode(delta, c.Frames[0]); err != nil || !slices.Equal(delta, []float32{2, 2}) {
			t.Errorf("%s: the contribution begins with %v (%v)", name, delta, err)
		}
		live[0][0] += 3 // trained since the snapshot
		committed := []float32{3, 3, 3, 3, 3, 3}
		must[contribution.Outcome](t)(tr.Merge(live, contribution.Commit{Version: 6, Weights: committed, Included: included}))
		if want := []float32{6, 3, 3, 3, 3, 3}; !slices.Equal(live[0], want) {
			t.Errorf("%s: live = %v, want %v", name, live[0], want)
		}
		missed := make([]float32, 6)
		if included == nil {
			missed = []float32{2, 2, 2, 2, 2, 2}
		}
		if e := feedback(tr); !slices.Equal(e, missed) {
			t.Errorf("%s: e = %v, want %v", name, e, missed)
		}
	}
}
