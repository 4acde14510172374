package pipeline

import (
	"slices"
	"time"

	"dunlin/wire"
)

// abreast holds a server's forward passes back to its inner steps, with local steps. A
// gradient whose forward pass was run before the newest step is late by a step, and late
// gradients cost more of the loss than all else that stages do (docs/results.md). So of the
// micro-batches of the next step each passes the weights that it will change.
type abreast struct {
	passed []passage // run forward and not counted yet, in order of time
	shut   time.Time // when a forward call was last seen to wait for the step
}

// passage is a micro-batch on its way through the later stages and back.
type passage struct {
	id    MicroID
	from  wire.PeerID
	until time.Time // it is not waited for any longer
}

// lateShare is how many of an inner step's micro-batches may be late: one in so many. In a
// large step that keeps a stage at work while the step's last micro-batches come back.
const lateShare = 8

// full reports whether all micro-batches of the next inner step have passed: more wait for it.
func (s *Server) full() bool {
	return s.cfg.Mode == LocalSteps && len(s.abreast.passed)+len(s.sum) >= s.cfg.Batch+s.cfg.Batch/lateShare
}

// passes notes that a forward pass begins.
func (s *Server) passes(j *job) {
	id := idOf(j.call.Key)
	s.returned(func(p passage) bool { return p.id == id })
	s.abreast.passed = append(s.abreast.passed, passage{id, j.from, s.now.Add(s.cfg.Limits.Held)})
}

// returned forgets what has passed: it is counted, or no longer expected here.
func (s *Server) returned(match func(passage) bool) {
	s.abreast.passed = slices.DeleteFunc(s.abreast.passed, match)
}

// isMicro matches a micro-batch.
func isMicro(k wire.StageKey) func(passage) bool {
	return func(p passage) bool { return p.id == idOf(k) }
}

// sendAway refuses forward calls that wait for the inner step, or behind backward passes,
// before their trainers lose patience: another peer may be further.
func (s *Server) sendAway() {
	if s.cfg.Mode != LocalSteps {
		return
	}
	for _, j := range slices.Clone(s.queue) {
		if !j.call.Backward && !s.now.Before(s.patience(j)) {
			s.queue = slices.DeleteFunc(s.queue, func(q *job) bool { return q == j })
			s.refuse(j.from, j.call.Key, wire.StageBusy, "it has other calls, or an inner step, before it")
		}
	}
}

// patience returns until when a forward call waits.
func (s *Server) patience(j *job) time.Time { return j.arrived.Add(s.cfg.Limits.Queue) }

// reopens returns when a forward call's wait ends without news; zero: nothing waits.
func (s *Server) reopens() (next time.Time) {
	if s.cfg.Mode != LocalSteps {
		return next
	}
	for _, j := range s.queue {
		if !j.call.Backward {
			next = earlier(next, s.patience(j))
		}
	}
	if !next.IsZero() && s.full() && len(s.abreast.passed) > 0 {
		next = earlier(next, s.abreast.passed[0].until)
	}
	return next
}
