package sim

import (
	"strings"
	"testing"
	"time"

	"dunlin/wire"
)

// rulesOf returns examples of each row that a run may be in, by its name and what follows it.
func rulesOf() map[string]Rules {
	return map[string]Rules{
		"dense":                   {Contribution: "int4", Result: "int8", Merge: "rebase", Decay: 1, OuterLR: 0.7, Momentum: 0.9},
		"dense-delayed":           {Contribution: "int4", Result: "int4", Merge: "rebase", Overlap: wire.OverlapRound, Decay: 1, OuterLR: 0.4, Momentum: 0.9},
		"dense-delayed previewed": {Contribution: "int4", Result: "int4", Merge: "eager", Alpha: 0.7, Overlap: wire.OverlapRound, Decay: 1, OuterLR: 0.8, Momentum: 0.6},
		"dense-lerp":              {Contribution: "e3m0", Result: "fp32", Merge: "lerp", Alpha: 0.5, OuterLR: 0.4, Momentum: 0.9},
		"dense-owner":             {Contribution: "int8", Result: "ternary-35", Merge: "reset", Decay: 1, OwnerDecay: 1, OuterLR: 1, Momentum: 0.5},
		"sparse":                  {Contribution: "topk2-12.5", Result: "int4", Merge: "rebase", Decay: 1, OuterLR: 1},
		"sparse dct":              {Contribution: "dct-12.5", Result: "int8", Merge: "rebase", Decay: 1, OuterLR: 1},
		"sparse rank":             {Contribution: "rank-8", Result: "int8", Merge: "reset", Decay: 1, OuterLR: 1},
		"sparse-owner":            {Contribution: "ternary-20", Result: "ternary-35", Merge: "rebase", Decay: 1, OwnerDecay: 1, OuterLR: 1, Momentum: 0.5},
	}
}

// TestEveryRow runs each row with a worker that is killed, one that is frozen and a
// coordinator that crashes; the laws of R1 and R10 hold where nothing decays.
func TestEveryRow(t *testing.T) {
	rules := rulesOf()
	for _, row := range wire.Rows() {
		if _, ok := rules[row.Name]; !ok {
			t.Errorf("row %s has no example", row.Name)
		}
	}
	for name, example := range rules {
		row, _, _ := strings.Cut(name, " ")
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			for _, decayed := range []bool{false, true} {
				sc := Default(31)
				sc.Setup.Values, sc.Setup.SlabValues = []int{320, 90, 40}, 64
				sc.Setup.Rules = example
				if decayed && sc.Setup.Rules.Decay == 1 {
					sc.Setup.Rules.Decay = 0.95
				}
				if decayed && sc.Setup.Rules.OwnerDecay == 1 {
					sc.Setup.Rules.OwnerDecay = 0.95
				}
				sc.Calm = 30 * time.Second
				sc.Faults = []Fault{
					{Kind: Kill, Peer: 2, At: 6 * time.Second, For: 3 * time.Second},
					{Kind: Freeze, Peer: 1, At: 14 * time.Second, For: 4 * time.Second},
					{Kind: Kill, Peer: 0, At: 22 * time.Second, For: 2 * time.Second},
				}
				w := story(t, sc, nil)
				if got := w.spec.Row(); got == nil || got.Name != row {
					t.Fatalf("the run is in row %v", got)
				}
				if len(w.commits()) < 12 {
					t.Fatalf("%d commits", len(w.commits()))
				}
			}
		})
	}
}
