package wire

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Settings changes what may change while a run goes on. Its hash is the
// settings hash of later commits; before the first it is zero.
type Settings struct {
	Phase  Phase  `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint"`
	Solo   bool   `cbor:"3,keyasint"` // workers train on without rounds, to measure what rounds cost

	// What follows is absent while the RunSpec's holds.

	Tuning    *Tuning       `cbor:"4,keyasint,omitempty"`
	Deadlines *DeadlineSpec `cbor:"5,keyasint,omitempty"`
	Workers   uint64        `cbor:"6,keyasint,omitempty"` // most in the run at once
	Access    *Access       `cbor:"7,keyasint,omitempty"`
}

// Phase is what a run is doing.
type Phase uint8

// A run trains until its token budget is committed or the organiser ends it.
const (
	PhaseTraining Phase = 1
	PhasePaused   Phase = 2
	PhaseEnded    Phase = 3
)

func (p Phase) String() string {
	switch p {
	case PhaseTraining:
		return "training"
	case PhasePaused:
		return "paused"
	case PhaseEnded:
		return "ended"
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// Tuning is what the arithmetic of rounds goes by instead of the RunSpec's
// values, from a version of each fragment on (R9).
type Tuning struct {
	H       uint64   `cbor:"1,keyasint"` // of intervals whose contributions lead to these versions
	OuterLR Float    `cbor:"2,keyasint"` // of the outer steps that lead to these versions
	From    []uint64 `cbor:"3,keyasint"` // by fragment: the first version, at least TuningAhead above its head
}

// TuningAhead is how far above a fragment's head a tuning begins, so that no
// round under way is touched.
const TuningAhead = 2

// Same reports whether two tunings set the same values, whenever they begin.
func (t *Tuning) Same(other *Tuning) bool {
	return t == nil && other == nil || t != nil && other != nil && t.H == other.H && t.OuterLR == other.OuterLR
}

// Access says who may join instead of the RunSpec's secret.
type Access struct {
	Secrets []Hash `cbor:"1,keyasint"` // HashLeaf of each join secret that admits; none for a public run
}

// Bounds on settings.
const (
	MaxSecrets = 32
	MaxWorkers = 10_000
)

// Kind implements Body.
func (*Settings) Kind() Kind { return KindSettings }

func (s *Settings) validate() error { return s.Validate() }

// Validate lists every fault at once.
func (s *Settings) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("settings: "+format, args...)) }
	if s.Phase < PhaseTraining || s.Phase > PhaseEnded {
		fault("%s", s.Phase)
	}
	if len(s.Reason) > MaxReason {
		fault("a reason of %d bytes, at most %d are allowed", len(s.Reason), MaxReason)
	}
	if t := s.Tuning; t != nil {
		if t.H < 1 || t.H > MaxH {
			fault("h %d: 1 to %d inner steps are allowed", t.H, MaxH)
		}
		if lr := t.OuterLR.Value(); !(lr > 0 && lr <= 2) {
			fault("outer lr %v: (0, 2] is allowed", lr)
		}
		if len(t.From) > MaxFragments {
			fault("tuning of %d fragments, at most %d are allowed", len(t.From), MaxFragments)
		}
	}
	if s.Deadlines != nil {
		s.Deadlines.validate(fault)
	}
	if s.Workers > MaxWorkers {
		fault("%d workers: 1 to %d are allowed", s.Workers, MaxWorkers)
	}
	if s.Access != nil && len(s.Access.Secrets) > MaxSecrets {
		fault("%d join secrets, at most %d are allowed: revoke some", len(s.Access.Secrets), MaxSecrets)
	}
	return errors.Join(errs...)
}

// Hash returns the settings hash.
func (s *Settings) Hash() Hash { return HashLeaf(Encode(s)) }

// Equal reports whether two settings are the same.
func (s *Settings) Equal(other *Settings) bool { return s.Hash() == other.Hash() }

// DeadlinesOr returns the deadlines that the settings say, or those in force
// before them.
func (s *Settings) DeadlinesOr(before DeadlineSpec) DeadlineSpec {
	if s.Deadlines != nil {
		return *s.Deadlines
	}
	return before
}

// Or fills in the deadlines that are zero from others.
func (d DeadlineSpec) Or(others DeadlineSpec) DeadlineSpec {
	return DeadlineSpec{
		ReadyMin: cmp.Or(d.ReadyMin, others.ReadyMin), Stall: cmp.Or(d.Stall, others.Stall), Attempt: cmp.Or(d.Attempt, others.Attempt),
		Leave: cmp.Or(d.Leave, others.Leave), Silence: cmp.Or(d.Silence, others.Silence),
	}
}

// Admits reports whether a join secret admits to a run with these settings; s
// may be nil.
func (s *Settings) Admits(spec *RunSpec, secret []byte) bool {
	if s == nil || s.Access == nil {
		return spec.Secret.IsZero() || HashLeaf(secret) == spec.Secret
	}
	return len(s.Access.Secrets) == 0 || slices.Contains(s.Access.Secrets, HashLeaf(secret))
}

// Tunings tells what governs each version of each fragment, by the settings of
// a log so far. A version that is made now is decided: settings that come later
// begin above it.
type Tunings struct {
	first   Tuning
	changes []Tuning
}

// NewTunings begins with the RunSpec's H and outer learning rate.
func NewTunings(h uint64, outerLR Float) Tunings {
	return Tunings{first: Tuning{H: h, OuterLR: outerLR}}
}

// Take takes in a settings entry; they come in the order of the log.
func (t *Tunings) Take(s *Settings) {
	if s.Tuning == nil {
		return
	}
	if n := len(t.changes); n == 0 || !t.changes[n-1].Same(s.Tuning) || !slices.Equal(t.changes[n-1].From, s.Tuning.From) {
		t.changes = append(t.changes, *s.Tuning)
	}
}

// At returns what governs a version of a fragment.
func (t *Tunings) At(fragment int, version uint64) (h uint64, outerLR Float) {
	for _, c := range slices.Backward(t.changes) {
		if fragment < len(c.From) && c.From[fragment] <= version {
			return c.H, c.OuterLR
		}
	}
	return t.first.H, t.first.OuterLR
}

// Newest returns what governs the versions to come.
func (t *Tunings) Newest() (h uint64, outerLR Float) {
	if n := len(t.changes); n > 0 {
		return t.changes[n-1].H, t.changes[n-1].OuterLR
	}
	return t.first.H, t.first.OuterLR
}
