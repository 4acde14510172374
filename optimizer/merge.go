package optimizer

import "fmt"

// Merge is the rule by which a worker takes new committed weights into its live
// parameters (protocol, R1).
type Merge string

const (
	// Rebase keeps what the worker trained since its snapshot:
	// θ ← θ_committed + (θ_now − θ_snapshot).
	Rebase Merge = "rebase"
	// Reset drops it: θ ← θ_committed.
	Reset Merge = "reset"
)

// Validate checks the rule together with the decay β of the contributor's error
// feedback. Both rules hold back in error feedback whatever a commit did not take,
// so β must be above 0 and at most 1.
func (m Merge) Validate(decay float32) error {
	if m != Rebase && m != Reset {
		return fmt.Errorf("unknown merge rule %q: choose %s or %s", string(m), Rebase, Reset)
	}
	if !(decay > 0 && decay <= 1) {
		return fmt.Errorf("merge rule %s with error feedback decay %g: it keeps error feedback, so the decay must be above 0 and at most 1", m, decay)
	}
	return nil
}

// Apply replaces live parameters by the merge of committed weights with the drift
// since base (the snapshot, or the anchor where there is none). Equal lengths; base
// is not used by Reset.
func (m Merge) Apply(live, committed, base []float32) {
	if m == Reset {
		copy(live, committed)
		return
	}
	RebaseOnto(live, committed, base)
}

// RebaseOnto sets live to committed + (live − base), rounded twice. Equal lengths.
// Where live and base agree the committed value is taken bit for bit.
func RebaseOnto(live, committed, base []float32) {
	committed, base = committed[:len(live)], base[:len(live)]
	for i, x := range live {
		live[i] = committed[i] + (x - base[i])
	}
}
