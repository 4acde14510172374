package wire

import (
	"strings"
	"testing"
)

// TestEveryRunIsInARow: what R1 and R10 forbid is refused, and each row has a run.
func TestEveryRunIsInARow(t *testing.T) {
	type rules struct {
		contribution, result, merge        string
		decay, ownerDecay, alpha, momentum float32
	}
	found := map[string]bool{}
	for _, c := range []struct {
		rules
		row string // "" where the run is refused
	}{
		{rules{"int4", "int4", "rebase/round", 1, 0, 0, 0.9}, "dense-delayed"},
		{rules{"int4", "int4", "lerp/round", 0, 0, 0.5, 0.9}, ""},                   // nothing would be left of a whole interval
		{rules{"ternary-20", "ternary-35", "rebase/round", 0.95, 0.95, 0, 0.5}, ""}, // never tried
		{rules{"int8", "int8", "rebase", 1, 0, 0, 0.9}, "dense"},
		{rules{"fp32", "fp32", "reset", 0.9, 0, 0, 0}, "dense"},
		{rules{"e3m0", "fp32", "lerp", 0, 0, 0.5, 0.9}, "dense-lerp"},
		{rules{"fp32", "ternary-35", "rebase", 1, 0.95, 0, 0.5}, "dense-owner"},
		{rules{"topk2-1.56", "int8", "rebase", 0.95, 0, 0, 0}, "sparse"},
		{rules{"ternary-20", "ternary-35", "rebase", 0.95, 0.95, 0, 0.5}, "sparse-owner"},
		{rules{"int8", "int8", "rebase", 0, 0, 0, 0.9}, ""}, // a miss would be lost
		{rules{"int8", "int8", "lerp", 1, 0, 0.5, 0.9}, ""}, // progress in two places
		{rules{"int4", "int4", "eager/round", 1, 0, 0.7, 0.6}, "dense-delayed"},
		{rules{"int4", "int4", "eager/round", 1, 0, 0, 0.6}, ""},              // previews nothing
		{rules{"int4", "int4", "eager", 1, 0, 0.7, 0.6}, ""},                  // nothing to preview
		{rules{"ternary-20", "int8", "lerp", 0, 0, 0.5, 0.9}, ""},             // what it leaves out would be lost
		{rules{"int8", "int8", "lerp", 0, 0, 1, 0.9}, ""},                     // never takes anything over
		{rules{"int8", "int8", "rebase", 1, 0, 0.5, 0.9}, ""},                 // an alpha without lerp
		{rules{"int8", "ternary-35", "rebase", 1, 0, 0, 0.5}, ""},             // results lose what they leave out
		{rules{"ternary-20", "ternary-35", "rebase", 0.95, 0.95, 0, 0.9}, ""}, // momentum on top of momentum
		{rules{"ternary-20", "ternary-35", "rebase", 0.95, 1.5, 0, 0.5}, ""},  // grows
		{rules{"int8", "topk2-1.56", "rebase", 0.95, 0.95, 0, 0.5}, ""},       // never tried
		{rules{"int8", "int8", "mean", 1, 0, 0, 0.9}, ""},                     // unknown
	} {
		s := testSpec()
		s.Contribution, s.Result = c.contribution, c.result
		s.Merge, s.Overlap, _ = strings.Cut(c.merge, "/")
		s.Decay, s.OwnerDecay, s.Alpha, s.Outer.Momentum = FloatOf(c.decay), FloatOf(c.ownerDecay), FloatOf(c.alpha), FloatOf(c.momentum)
		err := s.Validate()
		if c.row == "" {
			if err == nil {
				t.Errorf("%+v: passed", c.rules)
			}
			continue
		}
		if err != nil || s.Row().Name != c.row {
			t.Errorf("%+v: row %v, %v; want %s", c.rules, s.Row(), err, c.row)
		}
		found[c.row] = true
	}
	for _, r := range Rows() {
		if !found[r.Name] {
			t.Errorf("row %s has no run here", r.Name)
		}
	}
}

// TestFeedbackOfARow: a row names both hashes, the one after alone, or none.
func TestFeedbackOfARow(t *testing.T) {
	table := examples()["commit-table"].(*CommitTable)
	row := &table.Slabs[0]
	if row.After = HashLeaf([]byte("e")); table.Validate(1) != nil || table.Restarts() != 1 {
		t.Errorf("a sum that began without error feedback: %v, %d restarts", table.Validate(1), table.Restarts())
	}
	if row.Before = HashLeaf([]byte("d")); table.Validate(1) != nil || table.Restarts() != 0 {
		t.Errorf("a sum that went on: %v, %d restarts", table.Validate(1), table.Restarts())
	}
	row.After = Hash{}
	if err := table.Validate(1); err == nil || !strings.Contains(err.Error(), "error feedback") {
		t.Errorf("a sum that left nothing: %v", err)
	}
}
