package pipeline

import (
	"maps"
	"math"
	"slices"
	"time"

	"dunlin/wire"
)

// steps is a server's side of optimizer steps.
type steps struct {
	stepping bool // the optimizer is at work

	// Synchronous mode: whose set is being filled. A greater trainer, or a later
	// try of the same, makes what was counted void.
	trainer wire.Slot
	try     uint64
	close   *wire.StageClose // the newest, being added up
	asker   wire.PeerID      // who wants to know
	reduced *Reduced         // its answer
	since   time.Time        // waiting for the step to be decided

	applying *wire.StageApply
	sayAgain time.Time
}

// fence moves to a trainer and try, and drops what belongs to earlier ones. It
// reports whether the given ones are in force.
func (s *Server) fence(trainer wire.Slot, try uint64) bool {
	st := &s.steps
	if trainer == st.trainer && try == st.try {
		return true
	}
	if s.cfg.Mode != Synchronous || trainer < st.trainer || (trainer == st.trainer && try < st.try) || st.stepping {
		return false
	}
	s.clear()
	st.trainer, st.try = trainer, try
	return true
}

// clear throws away what was counted and is under way.
func (s *Server) clear() {
	s.empty(wire.StageStale, "what was counted is void")
	if s.running != nil {
		s.running.dropped = true
	}
	if len(s.sum) > 0 || s.steps.close != nil {
		s.do(Clear{})
	}
	s.sum = nil
	s.unclose()
}

// empty refuses what waits and gives up what is held.
func (s *Server) empty(code wire.StageRefusalCode, reason string) {
	for _, j := range s.queue {
		s.refuse(j.from, j.call.Key, code, reason)
	}
	for _, j := range s.held {
		s.do(Drop{Key: j.call.Key})
		s.remember(j.call.Key)
		s.send(j.from, &wire.StageCounted{Key: j.call.Key, Fate: wire.StageGivenUp})
	}
	s.queue, s.held = nil, nil
}

func (s *Server) unclose() {
	s.steps.close, s.steps.reduced, s.steps.sayAgain = nil, nil, time.Time{}
}

// inStep says why a synchronous call cannot be taken; "" when it can.
func (s *Server) inStep(trainer wire.Slot, try, step uint64) (wire.StageRefusalCode, string) {
	switch {
	case s.steps.stepping:
		return wire.StageBehind, "the optimizer is at work"
	case !s.fence(trainer, try):
		return wire.StageStale, "a later trainer or try is in force"
	case step > s.version:
		return wire.StageBehind, "its weights are older"
	case step < s.version:
		return wire.StageStale, "its weights have passed this step"
	}
	return 0, ""
}

// stepFull begins an inner step when the batch is full.
func (s *Server) stepFull() bool {
	if s.cfg.Mode != LocalSteps || len(s.sum) < s.cfg.Batch {
		return false
	}
	s.innerStep()
	return true
}

func (s *Server) innerStep() {
	s.steps.stepping = true
	for _, id := range s.sum {
		s.past.add(id)
	}
	s.do(InnerStep{Micros: s.sum})
	s.sum = nil
}

// closed checks a step's set against what was counted. A sum with something
// in it that the set does not name is thrown away, for it cannot be taken out.
func (s *Server) closed(from wire.PeerID, c *wire.StageClose) {
	st := &s.steps
	missing := func(micros []uint64, reason string, behind bool) {
		s.send(from, Missing(c, micros, reason, behind))
	}
	if s.cfg.Mode != Synchronous || c.Stage != uint64(s.cfg.Stage) {
		missing(c.Micros, otherStage, true)
		return
	}
	if _, why := s.inStep(c.Trainer, c.Try, c.Step); why != "" {
		missing(c.Micros, why, true)
		return
	}
	if st.close != nil && st.close.Edition >= c.Edition {
		if st.reduced != nil && st.close.Edition == c.Edition {
			s.sayReduced()
		}
		return
	}
	var lacks []uint64
	for _, m := range c.Micros {
		if !slices.Contains(s.sum, MicroID{c.Trainer, m}) {
			lacks = append(lacks, m)
		}
	}
	if len(lacks) > 0 {
		missing(lacks, "not counted here", false)
		return
	}
	if len(s.sum) > len(c.Micros) || (s.running != nil && s.adding) {
		s.clear()
		missing(c.Micros, "the sum had more in it and is thrown away", false)
		return
	}
	s.empty(wire.StageStale, "the step is closed") // given up by the trainer, or it would not close
	st.close, st.asker, st.reduced, st.since = c, from, nil, s.now
	st.sayAgain = s.now.Add(s.cfg.Limits.SayAgain)
	s.do(Reduce{Close: c})
}

// Missing says that these micro-batches of a close are not here, or with behind that its
// step is not.
func Missing(c *wire.StageClose, micros []uint64, reason string, behind bool) *wire.StageMissing {
	return &wire.StageMissing{
		Trainer: c.Trainer, Step: c.Step, Try: c.Try, Edition: c.Edition, Stage: c.Stage, Micros: micros,
		Reason: reason[:min(len(reason), wire.MaxReason)], Behind: behind,
	}
}

// current reports whether the close that is open has this name.
func (s *Server) current(step, try, edition uint64) bool {
	c := s.steps.close
	return c != nil && c.Step == step && c.Try == try && c.Edition == edition
}

func (s *Server) reduced(e Reduced) {
	switch {
	case !s.current(e.Step, e.Try, e.Edition) || s.steps.reduced != nil:
	case !isNormSq(e.NormSq): // a step on it would end the weights
		s.reduceFailed(ReduceFailed{e.Step, e.Try, e.Edition, "the sum of the gradients is not finite"})
	default:
		s.steps.reduced = &e
		s.sayReduced()
	}
}

func (s *Server) sayReduced() {
	c := s.steps.close
	s.send(s.steps.asker, &wire.StageReduced{
		Trainer: c.Trainer, Step: c.Step, Try: c.Try, Edition: c.Edition, Stage: c.Stage, NormSq: math.Float64bits(s.steps.reduced.NormSq),
	})
}

func (s *Server) reduceFailed(e ReduceFailed) {
	c := s.steps.close
	if !s.current(e.Step, e.Try, e.Edition) || s.steps.reduced != nil {
		return
	}
	s.send(s.steps.asker, Missing(c, nil, e.Reason, false))
}

// apply makes the step that stands. The order is repeated when its answer is lost.
func (s *Server) apply(from wire.PeerID, a *wire.StageApply) {
	st := &s.steps
	switch {
	case a.Stage != uint64(s.cfg.Stage) || s.cfg.Mode != Synchronous || !isNormSq(math.Float64frombits(a.NormSq)):
	case st.applying != nil && st.applying.Step == a.Step:
		st.asker = from
	case a.Step < s.version:
		s.send(from, &wire.StageApplied{Trainer: a.Trainer, Step: a.Step, Stage: a.Stage, Version: s.version})
	case st.trainer == a.Trainer && s.current(a.Step, a.Try, a.Edition) && st.reduced != nil:
		st.applying, st.asker, st.stepping = a, from, true
		s.do(ApplyStep{Step: a.Step, NormSq: math.Float64frombits(a.NormSq)})
	default:
		s.note("step %d cannot be applied here: its sum is not; it has to be fetched", a.Step)
	}
}

// stepped takes in that the optimizer is done.
func (s *Server) stepped(version uint64) {
	st := &s.steps
	if !st.stepping {
		return
	}
	st.stepping, s.version = false, version
	if a := st.applying; a != nil {
		st.applying, s.sum = nil, nil
		s.unclose()
		s.send(st.asker, &wire.StageApplied{Trainer: a.Trainer, Step: a.Step, Stage: a.Stage, Version: version})
	}
}

// moved takes in that the weights came from elsewhere.
func (s *Server) moved(version uint64) {
	if s.cfg.Mode == Synchronous && version != s.version {
		s.clear()
	}
	s.version = version
}

// expireStep says again and again that a step is not decided: only its trainer
// or the log can end that wait.
func (s *Server) expireStep() {
	st := &s.steps
	if st.sayAgain.IsZero() || s.now.Before(st.sayAgain) {
		return
	}
	st.sayAgain = s.now.Add(s.cfg.Limits.SayAgain)
	s.note("waits since %v for step %d to be decided", s.now.Sub(st.since), s.version)
}

// What is remembered of the micro-batches that went into inner steps.
const (
	maxTrainers = 256
	maxPast     = 4096 // of each trainer
)

// pastKeys remembers what was counted in inner steps, so that no repeated or
// delayed call counts again.
type pastKeys map[wire.Slot]*pastMicros

type pastMicros struct {
	floor  uint64   // everything below is past
	counts []uint64 // ascending
}

func (p pastKeys) add(id MicroID) {
	m := p[id.Trainer]
	if m == nil {
		if len(p) >= maxTrainers {
			delete(p, slices.Min(slices.Collect(maps.Keys(p)))) // slots grow: the one that is longest gone
		}
		m = &pastMicros{}
		p[id.Trainer] = m
	}
	i, found := slices.BinarySearch(m.counts, id.Micro)
	if found {
		return
	}
	m.counts = slices.Insert(m.counts, i, id.Micro)
	if len(m.counts) > maxPast {
		m.floor = m.counts[0] + 1
		m.counts = slices.Delete(m.counts, 0, 1)
	}
}

func (p pastKeys) has(id MicroID) bool {
	m := p[id.Trainer]
	if m == nil {
		return false
	}
	_, found := slices.BinarySearch(m.counts, id.Micro)
	return found || id.Micro < m.floor
}
