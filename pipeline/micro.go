package pipeline

import (
	"fmt"
	"slices"
	"time"

	"dunlin/wire"
)

// micro is one micro-batch on its way through the stages and back.
type micro struct {
	number  uint64
	drawing bool // its windows are not here yet
	redraw  time.Time
	parts   []part // by stage
}

// part is one stage's share of a micro-batch. Its forward pass is run for the
// stage after it, the backward pass for what it counts and the stage before;
// the last stage needs no forward pass of its own, for backward runs it.
type part struct {
	state     partState
	backward  bool        // what is being called
	forwarded bool        // its output is here
	runner    wire.PeerID // whose it is
	version   uint64
	graded    bool // the gradient of its input is here

	attempt  uint64
	holder   wire.PeerID // who is called, or has the gradient
	started  time.Time   // the call, or the last StageAccept
	deadline time.Time
	accepts  int

	since    time.Time // when what it does now became possible
	failures int       // in a row
	retry    time.Time // not before
}

type partState uint8

const (
	partIdle partState = iota
	partCalling
	partAnswered // backward; not yet accepted
	partAccepted // the peer has not said that it counted
	partCounted
	partUnknown // accepted, and the peer is gone
)

// done reports whether nothing is left to do.
func (m *micro) done() bool {
	return !slices.ContainsFunc(m.parts, func(p part) bool { return p.state < partCounted })
}

// wants reports whether a stage can be called now, and for which pass.
func (m *micro) wants(stage int) (call, backward bool) {
	p := &m.parts[stage]
	last := len(m.parts) - 1
	if m.drawing || p.state != partIdle || (stage > 0 && !m.parts[stage-1].forwarded) {
		return false, false
	}
	if stage < last && !p.forwarded {
		return true, false
	}
	return stage == last || m.parts[stage+1].graded, true
}

// deadline returns when something of the micro-batch is due; zero: never.
func (m *micro) deadline(now time.Time, lim Limits) time.Time {
	if m.drawing {
		return m.redraw
	}
	var next time.Time
	for s := range m.parts {
		p := &m.parts[s]
		switch p.state {
		case partIdle:
			if call, _ := m.wants(s); call {
				next = earlier(next, p.since.Add(lim.GiveUp))
				if p.retry.After(now) {
					next = earlier(next, p.retry)
				}
			}
		case partCalling:
			next = earlier(next, earlier(p.deadline, p.since.Add(lim.GiveUp)))
		case partAccepted:
			next = earlier(next, p.deadline)
		case partAnswered, partCounted, partUnknown:
		}
	}
	return next
}

func (t *Trainer) key(m *micro, stage int) wire.StageKey {
	return wire.StageKey{
		Trainer: t.cfg.Slot, Step: t.stepNumber(), Try: t.step.try, Micro: m.number, Stage: uint64(stage), Attempt: m.parts[stage].attempt,
	}
}

// about names the call of a part for people, who count stages from 1.
func (t *Trainer) about(m *micro, stage int) string {
	p := &m.parts[stage]
	pass := "forward"
	if p.backward {
		pass = "backward"
	}
	return fmt.Sprintf("stage %d: %s pass of micro-batch %d at %s", stage+1, pass, m.number, p.holder.Short())
}

// stageOf returns the index of a part.
func (m *micro) stageOf(p *part) int {
	for s := range m.parts {
		if &m.parts[s] == p {
			return s
		}
	}
	return -1
}

// calls starts every call that can be made, the oldest micro-batches first and
// of each the later stages.
func (t *Trainer) calls() {
	blocked := make([]bool, len(t.stages))
	for _, m := range t.micros {
		for stage := len(m.parts) - 1; stage >= 0; stage-- {
			p := &m.parts[stage]
			call, backward := m.wants(stage)
			if !call || t.now.Before(p.retry) {
				continue
			}
			w := &t.stages[stage]
			s := t.runner(p, stage, backward)
			if s == nil && !blocked[stage] {
				s = w.pick(t.now, backward)
				blocked[stage] = s == nil
			}
			if s == nil {
				continue
			}
			p.attempt++
			p.state, p.backward, p.holder, p.started, p.deadline = partCalling, backward, s.id, t.now, t.now.Add(w.patience(s, backward))
			t.totals.Calls++
			t.send(s.id, &wire.StageCall{Key: t.key(m, stage), Backward: backward, Version: p.version})
		}
	}
}

// runner returns the peer that ran a part's forward pass, when it is to run the backward
// pass too, else nil. With local steps the peers of a stage have different weights: so that
// a gradient is that of the output which the next stages saw, it goes back where it came
// through while nothing is wrong with that peer. It is asked however many calls it has: the
// forward calls among them may wait for this very pass.
func (t *Trainer) runner(p *part, stage int, backward bool) *server {
	w := &t.stages[stage]
	if !backward || !w.loyal || p.failures > 0 {
		return nil
	}
	s := w.find(p.runner)
	if s == nil || !w.allowed(s, t.now, false) {
		return nil
	}
	s.calls++ // it was charged with the forward pass
	return s
}

// answered takes in a pass's output.
func (t *Trainer) answered(m *micro, p *part, msg *wire.StageAnswer) {
	stage := m.stageOf(p)
	if s := t.stages[stage].find(p.holder); s != nil {
		t.stages[stage].answered(s, t.now, p.started, p.backward)
	}
	p.failures = 0
	if !p.backward {
		p.state, p.forwarded, p.runner, p.version, p.since = partIdle, true, p.holder, msg.Version, t.now
		m.parts[stage+1].since = t.now
		return
	}
	p.state, p.graded = partAnswered, true
	if stage > 0 && m.parts[stage-1].state == partIdle {
		m.parts[stage-1].since = t.now
	}
}

// MaxStep is above all steps that a server or trainer is believed to be at: to follow one
// without bound would be to follow nobody else any more.
const MaxStep = 1 << 48

// refused asks somebody else, or later. Only a peer that cannot compute is at fault.
func (t *Trainer) refused(m *micro, p *part, msg *wire.StageRefusal) {
	stage := m.stageOf(p)
	w := &t.stages[stage]
	s := w.find(p.holder)
	if s == nil {
		t.callFailed(m, p, msg.Reason, false)
		return
	}
	switch {
	case msg.Code == wire.StageAlready && p.backward:
		w.refused(s, t.now)
		s.busy = time.Time{}
		p.state, p.graded = partCounted, true
		t.finish(m)
	case msg.Code == wire.StageBusy || msg.Code == wire.StageBehind:
		w.refused(s, t.now)
		if p.state = partIdle; w.loyal && p.backward && p.holder == p.runner {
			p.retry = s.busy // what waits to go forward may find another peer
		}
	case msg.Code == wire.StageMoving:
		w.refused(s, t.now)
		s.state, p.state = Leaving, partIdle
	case msg.Code == wire.StageStale && t.cfg.Mode == Synchronous && msg.Version > t.step.number && msg.Version < MaxStep:
		w.refused(s, t.now)
		p.state = partIdle
		t.drop("the step was made before", msg.Version)
	case msg.Code == wire.StageStale:
		w.refused(s, t.now)
		s.busy = t.now.Add(busyMost)
		p.state = partIdle
		t.note("stage %d: %s follows another step or trainer: %s", stage+1, p.holder.Short(), msg.Reason)
	default:
		t.callFailed(m, p, msg.Code.String()+": "+msg.Reason, true)
	}
}

// callFailed makes a part ready for another peer: at once the first time, then
// later and later.
func (t *Trainer) callFailed(m *micro, p *part, reason string, fault bool) {
	stage := m.stageOf(p)
	w := &t.stages[stage]
	if s := w.find(p.holder); s != nil {
		if fault {
			reason += ", " + w.fault(s, t.now, true)
		} else {
			s.calls--
		}
	}
	t.note("%s: %s", t.about(m, stage), reason)
	t.again(p)
}

// again makes a part that failed callable.
func (t *Trainer) again(p *part) {
	p.failures++
	p.state, p.retry = partIdle, t.now.Add(backoff(p.failures-1, retryFirst, retryMost))
	t.totals.Retries++
}

// expire handles what has taken too long.
func (t *Trainer) expire() {
	for _, m := range slices.Clone(t.micros) {
		if m.drawing {
			if !m.redraw.IsZero() && !t.now.Before(m.redraw) {
				m.redraw = time.Time{}
				t.do(Draw{Micro: m.number, Step: t.stepNumber()})
			}
			continue
		}
		for s := range m.parts {
			p := &m.parts[s]
			call, _ := m.wants(s)
			if (call || p.state == partCalling) && !t.now.Before(p.since.Add(t.cfg.Limits.GiveUp)) {
				t.giveUp(m, s)
				break
			}
			switch {
			case p.state == partCalling && !t.now.Before(p.deadline):
				t.timedOut(m, p, s)
			case p.state == partAccepted && !t.now.Before(p.deadline):
				t.acceptUnanswered(m, p, s)
			}
		}
	}
	t.expireStep()
}

func (t *Trainer) timedOut(m *micro, p *part, stage int) {
	w := &t.stages[stage]
	t.totals.Timeouts++
	t.send(p.holder, &wire.StageCancel{Key: t.key(m, stage)})
	if s := w.find(p.holder); s != nil {
		t.note("%s: %s", t.about(m, stage), w.timedOut(s, t.now, p.started, p.backward))
	}
	t.again(p)
}

// accepts says of answered backward calls that they count: at once, and in
// synchronous mode in order of micro-batches, so that one peer's sum has one order
// (R12). A micro-batch that is with another peer is not waited for.
func (t *Trainer) accepts() {
	for i, m := range t.micros {
		for stage := range m.parts {
			if p := &m.parts[stage]; p.state == partAnswered && (t.cfg.Mode == LocalSteps || t.inOrder(i, stage)) {
				p.state, p.accepts = partAccepted, 0
				t.accept(m, p, stage)
			}
		}
	}
}

func (t *Trainer) inOrder(i, stage int) bool {
	holder := t.micros[i].parts[stage].holder
	return !slices.ContainsFunc(t.micros[:i], func(m *micro) bool {
		p := &m.parts[stage]
		return p.state == partIdle || ((p.state == partCalling || p.state == partAnswered) && p.holder == holder)
	})
}

// accept sends a StageAccept. What it is about is added up when the peer has nothing else
// to do or no more room, so that a slow one is given up no sooner than a call to it.
func (t *Trainer) accept(m *micro, p *part, stage int) {
	p.accepts++
	patience := t.cfg.Limits.Accept << (p.accepts - 1)
	if s := t.stages[stage].find(p.holder); s != nil && p.accepts == maxAccepts {
		patience = max(patience, t.stages[stage].patience(s, true))
	}
	p.deadline = t.now.Add(patience)
	t.send(p.holder, &wire.StageAccept{Key: t.key(m, stage)})
}

// maxAccepts is how often a StageAccept or StageApply is sent.
const maxAccepts = 3

func (t *Trainer) acceptUnanswered(m *micro, p *part, stage int) {
	if p.accepts < maxAccepts {
		t.accept(m, p, stage)
		return
	}
	if s := t.stages[stage].find(p.holder); s != nil {
		t.stages[stage].fault(s, t.now, false)
	}
	t.lost(m, p, "it does not say what it counted")
}

// lost handles that a peer which has a part's gradient is gone. Whether it was
// counted is not known. With local steps it is not counted again, so that it
// counts at most once; a step that is not closed leaves that peer out of its
// set, so another one may count it.
func (t *Trainer) lost(m *micro, p *part, reason string) {
	stage := m.stageOf(p)
	switch {
	case p.state < partAnswered || p.state == partUnknown:
		return
	case t.cfg.Mode == LocalSteps:
		if p.state != partAccepted {
			return
		}
		p.state = partUnknown
		t.note("%s: %s; whether it is counted there is not known", t.about(m, stage), reason)
	case t.step.phase == stepDeciding || t.step.phase == stepApplying:
		return // the set stands
	default:
		t.note("%s: %s; another peer counts it", t.about(m, stage), reason)
		p.since = t.now
		t.again(p)
	}
	t.finish(m)
}

// counted takes in a peer's word on an accepted call.
func (t *Trainer) counted(m *micro, p *part, fate wire.StageFate) {
	switch fate {
	case wire.StageInSum:
		p.state = partCounted
		t.finish(m)
	case wire.StageUnknown:
		t.lost(m, p, "it has no memory of it")
	default:
		t.note("%s: given up there before it was accepted", t.about(m, m.stageOf(p)))
		p.since = t.now
		t.again(p)
	}
}

// finish ends a micro-batch that has nothing left to do. In synchronous mode
// the step's end does.
func (t *Trainer) finish(m *micro) {
	if t.cfg.Mode == Synchronous || !m.done() {
		return
	}
	if m.count() == len(m.parts) {
		t.end(m, Counted)
	} else {
		t.end(m, Partly)
	}
}

// count returns how many stages are known to have counted the micro-batch.
func (m *micro) count() int {
	n := 0
	for _, p := range m.parts {
		if p.state == partCounted {
			n++
		}
	}
	return n
}

// giveUp ends a micro-batch that found no peer for a stage in all the time that
// it has; a step begins anew, so that its set stays equal in all stages.
func (t *Trainer) giveUp(m *micro, stage int) {
	t.note("stage %d: nobody serves micro-batch %d for %v", stage+1, m.number, t.cfg.Limits.GiveUp)
	if t.cfg.Mode == Synchronous {
		t.void("a stage is not served")
		return
	}
	t.end(m, Abandoned)
}

// end releases a micro-batch and counts what became of it.
func (t *Trainer) end(m *micro, o Outcome) {
	t.cancel(m)
	counted := m.count()
	switch o {
	case Counted:
		t.totals.Counted++
	case Partly:
		t.totals.Partly++
	case Abandoned:
		t.totals.Abandoned++
		if slices.ContainsFunc(m.parts, func(p part) bool { return p.state >= partAccepted }) {
			t.totals.Somewhere++
		}
	}
	t.do(Release{Micro: m.number, Outcome: o, Stages: counted})
	t.micros = slices.DeleteFunc(t.micros, func(other *micro) bool { return other == m })
}

// cancel ends a micro-batch's calls.
func (t *Trainer) cancel(m *micro) {
	for stage := range m.parts {
		p := &m.parts[stage]
		if p.state != partCalling && p.state != partAnswered {
			continue
		}
		t.send(p.holder, &wire.StageCancel{Key: t.key(m, stage)})
		if s := t.stages[stage].find(p.holder); s != nil && p.state == partCalling {
			s.calls--
		}
		p.state = partIdle
	}
}
