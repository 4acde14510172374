package contribution_test

import (
	"slices"
	"testing"

	"dunlin/compress"
	"dunlin/contribution"
	"dunlin/optimizer"
)

// TestLerpKeepsProgressInTheLiveWeights: with lerp there is no error feedback. What a
// commit took and what it missed are merged alike, and the next contribution is all that
// the live weights are away from the new anchor.
func TestLerpKeepsProgressInTheLiveWeights(t *testing.T) {
	cfg := config(t)
	cfg.Merge, cfg.Decay, cfg.Alpha = optimizer.Lerp, 0, 0.5
	for name, included := range map[string]func(int) bool{"taken": func(int) bool { return true }, "missed": nil} {
		tr, live := started(t, cfg)
		for i := range live[0] {
			live[0][i] -= 0.5
		}
		if err := tr.Snapshot(live); err != nil {
			t.Fatal(err)
		}
		must[*contribution.Contribution](t)(tr.Encode())
		live[0][0] += 2 // trained since the snapshot
		committed := []float32{3, 3, 3, 3, 3, 3}
		must[contribution.Outcome](t)(tr.Merge(live, contribution.Commit{Version: 6, Weights: committed, Included: included}))
		if want := []float32{2.75, 2.25, 2.75, 3.25, 3.75, 4.25}; !slices.Equal(live[0], want) {
			t.Errorf("%s: live = %v, want %v", name, live[0], want)
		}
		if e := feedback(tr); !slices.Equal(e, make([]float32, 6)) {
			t.Errorf("%s: e = %v", name, e)
		}
		if err := tr.Snapshot(live); err != nil {
			t.Fatal(err)
		}
		next := must[*contribution.Contribution](t)(tr.Encode())
		delta := make([]float32, 2)
		if err := (compress.FP32{}).Decode(delta, next.Frames[0]); err != nil || !slices.Equal(delta, []float32{0.25, 0.75}) {
			t.Errorf("%s: the next contribution begins with %v (%v)", name, delta, err)
		}
	}
	tr, live := started(t, cfg)
	must[contribution.Outcome](t)(tr.Merge(live, contribution.Commit{Version: 6, Weights: []float32{3, 4, 5, 6, 7, 8}}))
	if want := []float32{2, 3, 4, 5, 6, 7}; !slices.Equal(live[0], want) {
		t.Errorf("without a snapshot: live = %v, want %v", live[0], want)
	}
}
