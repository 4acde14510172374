package invariants

import "testing"

// panics reports whether f panicked.
func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestChecksFireExactlyWhenEnabled(t *testing.T) {
	if panics(func() { Check(true, "holds") }) {
		t.Error("Check panicked although its condition holds")
	}
	if got := panics(func() { Check(false, "value %d", 7) }); got != Enabled {
		t.Errorf("Check of a false condition: panicked = %v, want %v", got, Enabled)
	}
}

func TestCloseCheckerCatchesDoubleCloseAndLateUse(t *testing.T) {
	var c CloseChecker
	if panics(c.AssertOpen) {
		t.Error("a fresh value counts as closed")
	}
	if panics(c.Close) {
		t.Error("the first Close panicked")
	}
	if got := panics(c.Close); got != Enabled {
		t.Errorf("second Close: panicked = %v, want %v", got, Enabled)
	}
	if got := panics(c.AssertOpen); got != Enabled {
		t.Errorf("use after Close: panicked = %v, want %v", got, Enabled)
	}
}
