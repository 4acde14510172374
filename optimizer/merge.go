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
	// Lerp takes a mean: θ ← αθ_now + (1−α)θ_committed (Streaming DiLoCo, arXiv
	// 2501.18512, algorithm 2). What a commit did not take stays in θ, so that there is
	// no error feedback beside it.
	Lerp Merge = "lerp"
	// Eager is Rebase that previews the outer step under way: from a snapshot on the live parameters
	// are anchor + α(snapshot − anchor), since the commit will take about so much of what this worker
	// moved (after the eager updates of Kale et al. 2025, arXiv 2502.12996, section 3, who step by the
	// newest mean with their own share renewed).
	Eager Merge = "eager"
)

// Validate checks the rule together with the decay β of the contributor's error
// feedback and with α. Rebase and reset hold back in error feedback whatever a commit
// did not take, so β must be above 0 and at most 1; lerp leaves it in the live
// parameters, so β must be 0 (both at once would apply it more than once) and α above
// 0 and below 1.
func (m Merge) Validate(decay, alpha float32) error {
	switch m {
	case Rebase, Reset, Eager:
		if !(decay > 0 && decay <= 1) {
			return fmt.Errorf("merge rule %s with error feedback decay %g: it keeps error feedback, so the decay must be above 0 and at most 1", m, decay)
		}
		if m != Eager && alpha != 0 {
			return fmt.Errorf("merge rule %s with alpha %g: only %s and %s have one", m, alpha, Lerp, Eager)
		}
		if m == Eager && !(alpha > 0 && alpha < 1) {
			return fmt.Errorf("merge rule %s with alpha %g: above 0 and below 1 is allowed", m, alpha)
		}
	case Lerp:
		if decay != 0 {
			return fmt.Errorf("merge rule %s with error feedback decay %g: it keeps no error feedback, so the decay must be 0", m, decay)
		}
		if !(alpha > 0 && alpha < 1) {
			return fmt.Errorf("merge rule %s with alpha %g: above 0 and below 1 is allowed", m, alpha)
		}
	default:
		return fmt.Errorf("unknown merge rule %q: choose %s, %s, %s or %s", string(m), Rebase, Reset, Lerp, Eager)
	}
	return nil
}

// Apply replaces live parameters by their merge with committed weights. base is what
// drift counts from: the snapshot, or the anchor where there is none; only Rebase reads
// it. alpha is Lerp's. Equal lengths.
func (m Merge) Apply(live, committed, base []float32, alpha float32) {
	switch m {
	case Reset:
		copy(live, committed)
	case Lerp:
		committed = committed[:len(live)]
		for i, x := range live {
			live[i] = alpha*x + (1-alpha)*committed[i]
		}
	default:
		RebaseOnto(live, committed, base)
	}
}

// Preview sets live to the preview of Eager: anchor + α(snapshot − anchor), rounded at each step. Equal lengths.
func Preview(live, anchor, snapshot []float32, alpha float32) {
	anchor, snapshot = anchor[:len(live)], snapshot[:len(live)]
	for i, from := range anchor {
		live[i] = from + float32(alpha*(snapshot[i]-from))
	}
}

// RebaseOnto sets live to committed + (live − base), rounded twice. Equal lengths.
// Where live and base agree the committed value is taken bit for bit.
func RebaseOnto(live, committed, base []float32) {
	committed, base = committed[:len(live)], base[:len(live)]
	for i, x := range live {
		live[i] = committed[i] + (x - base[i])
	}
}
