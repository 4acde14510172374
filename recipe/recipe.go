package recipe

import (
	"fmt"
	"strings"

	"dunlin/wire"
)

// Recipe is a way of training that belongs together: codecs, error feedback, merge rule,
// both optimizers, and how often what is synchronised. Every recipe is in one of the rows
// that a RunSpec may be in (wire.Rows).
type Recipe struct {
	Name         string
	Contribution string  // codec
	Result       string  // codec
	Decay        float64 // β of the workers' error feedback; 0 with lerp
	OwnerDecay   float64 // β of the owners' error feedback; 0: they keep none
	Merge        string
	Alpha        float64 // share of the live weights that lerp keeps, or of its movement that eager previews
	Overlap      string  // wire.OverlapRound, or "" for merging as soon as a commit is there
	OuterLR      float64
	Momentum     float64 // outer
	Inner        string  // "adamw" or "muon"
	LR           float64 // peak of the inner learning rate
	H            int     // inner steps between two rounds of a fragment
	Fragments    int     // of a model that is large enough
}

// fragmentParameters is what a fragment has at least, unless a run asks for more fragments: a round costs each of its
// members some milliseconds, however little it carries.
const fragmentParameters = 1_000_000

// FragmentsOf returns the number of fragments of a model with so many parameters.
func (r Recipe) FragmentsOf(parameters int) int {
	return min(r.Fragments, max(1, parameters/fragmentParameters))
}

// Staged is the recipe for a model that is spread over stages. Peers that make every inner step
// together have equal weights, which the outer step takes over as they are: then the default is
// int8, for thin results are not what they have. Else a stage has few peers, for which less
// momentum than DiLoCo's is better (docs/results.md).
func (r Recipe) Staged(together bool) Recipe {
	if all := All(); together && r.Name == all[0].Name {
		r = all[1]
	}
	switch {
	case together:
		r.OuterLR, r.Momentum = 1, 0
	case r.OuterLR >= 0.7 && r.Momentum > 0.7:
		r.OuterLR, r.Momentum = 0.8, 0.7
	}
	return r
}

// DiLoCo's outer step. Its authors have 0.7 and 0.9 for H = 500 (Douillard et al., arXiv 2311.08105, section 3); with
// some twenty inner steps a sweep found less momentum better (docs/results.md).
const (
	dilocoLR       = 0.8
	dilocoMomentum = 0.8
)

// All lists all, the default first and then what takes its place where stages step together.
func All() []Recipe {
	int8 := Recipe{
		Name: "int8", Contribution: "int8", Result: "int8", Decay: 1, Merge: "rebase", OuterLR: dilocoLR, Momentum: dilocoMomentum,
		Inner: wire.InnerAdamW, LR: 2e-3, H: 24, Fragments: 2,
	}
	ternary := int8
	ternary.Name, ternary.Contribution, ternary.Result, ternary.Decay, ternary.OwnerDecay = "ternary", "ternary-20", "ternary-35", 0.95, 0.95
	ternary.OuterLR, ternary.Momentum = 1, 0.5
	thin := ternary
	thin.Name, thin.Inner, thin.LR, thin.OuterLR, thin.Momentum = "default", wire.InnerMuon, 3e-3, 0.8, 0.7
	diloco := int8
	diloco.Name, diloco.Contribution, diloco.Result, diloco.Fragments, diloco.LR = "diloco", "fp32", "fp32", 1, 1.5e-3
	diloco.Momentum = 0.85
	streaming := int8
	streaming.Name, streaming.Contribution, streaming.Result = "streaming-diloco", "e3m0", "int8"
	streaming.Decay, streaming.Merge, streaming.Alpha, streaming.OuterLR, streaming.Momentum = 0, "lerp", 0.5, 0.4, 0.9
	sparse := int8
	sparse.Name, sparse.Contribution, sparse.Result, sparse.Decay = "sparse-loco", "topk2-1.56", "int4", 0.95
	sparse.OuterLR, sparse.Momentum = 1, 0
	muloco := int8
	muloco.Name, muloco.Inner, muloco.LR, muloco.Contribution, muloco.Result = "muloco", wire.InnerMuon, 3e-3, "int4", "int4"
	muloco.OuterLR, muloco.Momentum = thin.OuterLR, thin.Momentum
	delayed := int8
	delayed.Name, delayed.Contribution, delayed.Result, delayed.Overlap, delayed.OuterLR = "diloco-x", "int4", "int4", wire.OverlapRound, 0.8
	delayed.Momentum, delayed.Merge, delayed.Alpha = 0.6, "eager", 0.7
	return []Recipe{thin, int8, ternary, diloco, streaming, sparse, muloco, delayed}
}

// Names lists the names of all recipes.
func Names() []string {
	var names []string
	for _, r := range All() {
		names = append(names, r.Name)
	}
	return names
}

// Named returns the recipe of that name.
func Named(name string) (Recipe, error) {
	for _, r := range All() {
		if r.Name == name {
			return r, nil
		}
	}
	return Recipe{}, fmt.Errorf("unknown recipe %q: choose one of %s", name, strings.Join(Names(), ", "))
}
