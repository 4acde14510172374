package wire

import (
	"slices"
	"strings"
)

// Row is one combination of codec, error feedback, merge rule and outer optimizer that
// a run may have. They are one choice: error feedback is momentum of its own, a sparse
// codec without it loses what it leaves out, and drift that stays in the live weights
// must not stand in error feedback as well (protocol, R1, R10).
type Row struct {
	Name                 string
	Contribution, Result []string   // kinds of codecs: the name up to the first '-'
	Decay, OwnerDecay    [2]float32 // least and most β of contributors and owners; 0, 0: none is kept
	Merge                []string
	Overlap              []string // "" stands for merging as soon as a commit is there
	Momentum             float32  // outer, at most
}

// Rows lists them all. A run whose settings are in none of them is refused.
func Rows() []Row {
	dense, sparse := []string{"fp32", "int8", "int4", "e3m0"}, []string{"ternary", "topk2", "dct", "rank"}
	rebase := []string{"rebase", "reset"}
	at, round := []string{""}, []string{OverlapRound}
	const tiny = 1e-6
	return []Row{
		{Name: "dense", Contribution: dense, Result: dense, Decay: [2]float32{tiny, 1}, Merge: rebase, Overlap: at, Momentum: 0.95},
		{Name: "dense-delayed", Contribution: dense, Result: dense, Decay: [2]float32{tiny, 1}, Merge: []string{"rebase", "eager"}, Overlap: round, Momentum: 0.95},
		{Name: "dense-lerp", Contribution: dense, Result: dense, Merge: []string{"lerp"}, Overlap: at, Momentum: 0.95},
		{
			Name: "dense-owner", Contribution: dense, Result: []string{"int8", "int4", "e3m0", "ternary"}, Decay: [2]float32{tiny, 1},
			OwnerDecay: [2]float32{0.5, 1}, Merge: rebase, Overlap: at, Momentum: 0.75,
		},
		{Name: "sparse", Contribution: sparse, Result: dense, Decay: [2]float32{0.5, 1}, Merge: rebase, Overlap: at, Momentum: 0.95},
		{
			Name: "sparse-owner", Contribution: sparse, Result: []string{"int8", "int4", "e3m0", "ternary"}, Decay: [2]float32{0.5, 1},
			OwnerDecay: [2]float32{0.5, 1}, Merge: rebase, Overlap: at, Momentum: 0.75,
		},
	}
}

// Row returns the row that the run's settings are in, or nil.
func (s *RunSpec) Row() *Row {
	kind := func(codec string) string {
		name, _, _ := strings.Cut(codec, "-")
		return name
	}
	for _, r := range Rows() {
		if slices.Contains(r.Contribution, kind(s.Contribution)) && slices.Contains(r.Result, kind(s.Result)) &&
			within(s.Decay, r.Decay) && within(s.OwnerDecay, r.OwnerDecay) && slices.Contains(r.Merge, s.Merge) && slices.Contains(r.Overlap, s.Overlap) &&
			s.Outer.Momentum.Value() <= r.Momentum {
			return &r
		}
	}
	return nil
}

func within(f Float, bounds [2]float32) bool {
	x := f.Value()
	return x >= bounds[0] && x <= bounds[1]
}

func (s *RunSpec) validateRow(fault faultFunc) {
	for _, f := range []struct {
		name string
		v    Float
	}{{"decay", s.Decay}, {"owner decay", s.OwnerDecay}} {
		if d := f.v.Value(); !(d >= 0 && d <= 1) {
			fault("%s %v: 0 to 1 is allowed", f.name, d)
		}
	}
	switch a := s.Alpha.Value(); {
	case (s.Merge == "lerp" || s.Merge == "eager") && !(a > 0 && a < 1):
		fault("alpha %v: %s needs one above 0 and below 1", a, s.Merge)
	case s.Merge != "lerp" && s.Merge != "eager" && s.Alpha != 0:
		fault("alpha %v: only lerp and eager have one", a)
	}
	if s.Row() == nil {
		fault("contributions %q with error feedback decay %v, results %q with %v, merge %q, overlap %q, outer momentum %v: no allowed combination; choose a recipe, or a row of docs/protocol.md",
			clip(s.Contribution), s.Decay.Value(), clip(s.Result), s.OwnerDecay.Value(), clip(s.Merge), clip(s.Overlap), s.Outer.Momentum.Value())
	}
}
