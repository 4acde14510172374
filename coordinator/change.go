package coordinator

import (
	"dunlin/wire"
)

// Change is what the organiser wants otherwise; what is zero stays as it is.
type Change wire.Change

// Apply returns the settings that a change makes of those in force, nil before
// the first. Versions that a tuning begins at are left for the log's heads to
// say.
func (c *Change) Apply(spec *wire.RunSpec, in *wire.Settings) *wire.Settings {
	s := wire.Settings{Phase: wire.PhaseTraining}
	if in != nil && in.Phase != 0 {
		s = *in
	}
	s.Reason = limit(c.Reason)
	if c.Phase != 0 {
		s.Phase = c.Phase
	}
	if c.Solo != nil {
		s.Solo = *c.Solo
	}
	if c.H != 0 || c.OuterLR != 0 {
		t := wire.Tuning{H: spec.H, OuterLR: spec.Outer.LR}
		if s.Tuning != nil {
			t = *s.Tuning
		}
		if c.H != 0 {
			t.H = c.H
		}
		if c.OuterLR != 0 {
			t.OuterLR = c.OuterLR
		}
		if !t.Same(s.Tuning) && !(s.Tuning == nil && t.Same(&wire.Tuning{H: spec.H, OuterLR: spec.Outer.LR})) {
			t.From = nil
			s.Tuning = &t
		}
	}
	if d := c.Deadlines.Or(s.DeadlinesOr(spec.Deadlines)); c.Deadlines != (wire.DeadlineSpec{}) {
		s.Deadlines = &d
	}
	if c.Workers != 0 {
		s.Workers = c.Workers
	}
	if c.Access != nil {
		s.Access = c.Access
	}
	return &s
}

// Holds reports whether settings are already what the change makes of them.
func (c *Change) Holds(spec *wire.RunSpec, in *wire.Settings) bool {
	return in != nil && alike(c.Apply(spec, in), in)
}

// alike reports whether two settings want the same, whenever their tuning
// begins.
func alike(a, b *wire.Settings) bool {
	if !a.Tuning.Same(b.Tuning) {
		return false
	}
	c := *a
	c.Tuning = b.Tuning
	return c.Equal(b)
}

// organised remembers what the organiser wants until the log says so.
func (m *Machine) organised(c Change) {
	from := m.settings
	if m.wish != nil {
		from = m.wish
	}
	s := c.Apply(m.cfg.Spec, from)
	switch err := s.Validate(); {
	case err != nil:
		m.note("organiser: %v", err)
	case m.Phase() == wire.PhaseEnded:
		m.note("the run has ended; %s is not possible any more", s.Phase)
	case m.granted(s):
		m.wish = nil
	default:
		m.wish = s
	}
}

// granted reports whether the settings in force are what is wanted.
func (m *Machine) granted(wish *wire.Settings) bool {
	return m.settings != nil && alike(wish, m.settings)
}

// proposeSettings carries out the organiser's word and ends a run whose budget
// is committed.
func (m *Machine) proposeSettings() {
	s := m.wish
	if s == nil && m.Phase() == wire.PhaseTraining && m.tokens >= m.cfg.Spec.TokenBudget {
		s = (&Change{Phase: wire.PhaseEnded, Reason: "token budget committed"}).Apply(m.cfg.Spec, m.settings)
	}
	if s != nil {
		m.append(proposal{kind: wire.KindSettings}, m.begun(s))
	}
}

// begun returns settings whose tuning begins where it may by now.
func (m *Machine) begun(s *wire.Settings) *wire.Settings {
	if s.Tuning == nil {
		return s
	}
	out := *s
	if m.settings != nil && s.Tuning.Same(m.settings.Tuning) {
		out.Tuning = m.settings.Tuning
		return &out
	}
	tuning := *s.Tuning
	tuning.From = make([]uint64, len(m.heads))
	for f, h := range m.heads {
		tuning.From[f] = h.Version + wire.TuningAhead
	}
	out.Tuning = &tuning
	return &out
}

// deadlines are those in force.
func (m *Machine) deadlines() wire.DeadlineSpec {
	if m.settings == nil {
		return m.cfg.Spec.Deadlines
	}
	return m.settings.DeadlinesOr(m.cfg.Spec.Deadlines)
}

// most is how many workers may be in the run at once.
func (m *Machine) most() int {
	if m.settings != nil && m.settings.Workers != 0 {
		return min(int(m.settings.Workers), m.cfg.Limit)
	}
	return m.cfg.Limit
}
