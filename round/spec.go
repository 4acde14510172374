package round

import (
	"errors"
	"fmt"
	"time"

	"dunlin/wire"
)

// Spec is what the machines need of the RunSpec.
type Spec struct {
	H          uint64 // inner steps between two rounds of a fragment
	Slabs      []int  // slabs of each fragment
	StepTokens uint64 // tokens of an inner step
	Context    uint64 // tokens of a window
	Deadlines  wire.DeadlineSpec
	// OwnerFeedback: owners keep error feedback, so slabs stay with them (R10).
	OwnerFeedback bool
	// Delay: a commit is merged only when the fragment's next snapshot is due, so that
	// what it takes to make one has a whole interval.
	Delay bool
	// Stages is the stage of each fragment; nil: every worker holds all of them. A
	// fragment's rounds are among the workers of its stage.
	Stages []uint64
	Stage  uint64 // of this worker
}

// mine reports whether this worker holds a fragment.
func (s Spec) mine(fragment int) bool {
	return s.Stages == nil || fragment < len(s.Stages) && s.Stages[fragment] == s.Stage
}

// place returns where a fragment of this worker's stands among them, and how many they are.
func (s Spec) place(fragment int) (i, n int) {
	for f := range s.Slabs {
		if !s.mine(f) {
			continue
		}
		if f < fragment {
			i++
		}
		n++
	}
	return i, n
}

// Validate lists every fault at once.
func (s Spec) Validate() error {
	var errs []error
	if s.H < 1 || s.H > wire.MaxH {
		errs = append(errs, fmt.Errorf("h %d: 1 to %d is allowed", s.H, wire.MaxH))
	}
	if len(s.Slabs) < 1 || len(s.Slabs) > wire.MaxFragments {
		errs = append(errs, fmt.Errorf("%d fragments: 1 to %d are allowed", len(s.Slabs), wire.MaxFragments))
	}
	for f, n := range s.Slabs {
		if n < 1 || n > wire.MaxSlabs {
			errs = append(errs, fmt.Errorf("fragment %d: %d slabs, 1 to %d are allowed", f, n, wire.MaxSlabs))
		}
	}
	if s.Stages != nil && len(s.Stages) != len(s.Slabs) {
		errs = append(errs, fmt.Errorf("stages of %d fragments, there are %d", len(s.Stages), len(s.Slabs)))
	}
	if s.StepTokens < 1 || s.Context < 1 {
		errs = append(errs, fmt.Errorf("%d tokens a step, %d a window: at least 1 is allowed", s.StepTokens, s.Context))
	}
	if d := s.Deadlines; d.ReadyMin < 1 || d.Stall < 1 || d.Attempt < 1 {
		errs = append(errs, fmt.Errorf("deadlines ready %d, stall %d, attempt %d ms: at least 1 is allowed", d.ReadyMin, d.Stall, d.Attempt))
	}
	if len(errs) > 0 {
		return fmt.Errorf("round: %w", errors.Join(errs...))
	}
	return nil
}

func millis(n uint64) time.Duration { return time.Duration(n) * time.Millisecond }

// quorum reports whether the members in set may make a sum without the rest:
// at least half of the weight, and two of them unless there is only one (R4).
func quorum(members []wire.AttemptMember, set uint64) bool {
	var all, in uint64
	count := 0
	for r := range members {
		all += members[r].Weight
		if set>>uint(r)&1 == 1 {
			in += members[r].Weight
			count++
		}
	}
	return 2*in >= all && count >= min(2, len(members))
}

// weightOf returns the weight of the members in set.
func weightOf(members []wire.AttemptMember, set uint64) uint64 {
	var sum uint64
	for r := range members {
		if set>>uint(r)&1 == 1 {
			sum += members[r].Weight
		}
	}
	return sum
}

// allRanks returns a set with the bits of n ranks, 1 ≤ n ≤ 64.
func allRanks(n int) uint64 { return ^uint64(0) >> uint(64-n) }

// after reports whether a was opened later than b.
func after(a, b wire.AttemptID) bool {
	return a.Term > b.Term || (a.Term == b.Term && a.Counter > b.Counter)
}
