package pipeline

import (
	"math"
	"slices"
	"time"

	"dunlin/wire"
)

// step is the optimizer step that a synchronous trainer fills. Its set of
// micro-batches is the same in every stage: [first, first+Batch).
type step struct {
	number, first uint64
	try           uint64 // grows whenever a step is thrown away, for the trainer's whole life
	edition       uint64
	phase         stepPhase
	members       [][]member // by stage; of the edition that is open
	left          []left     // out of the next edition
	unsummed      int        // times that adding up failed
	sends         int
	retry         time.Time // no edition before
	failures      int
	normSq        float64
	deadline      time.Time
}

type stepPhase uint8

const (
	stepRunning  stepPhase = iota // micro-batches are under way
	stepClosing                   // members add up
	stepDeciding                  // it is being written down
	stepApplying                  // members apply it
)

// member is a peer that takes part in a step, with what it counted.
type member struct {
	peer   wire.PeerID
	micros []uint64
	heard  bool // the answer that the phase waits for
	normSq float64
}

// left is a peer without a part in a step.
type left struct {
	stage int
	peer  wire.PeerID
}

// closeStep names the set once every stage has counted all of it.
func (t *Trainer) closeStep() {
	st := &t.step
	if t.cfg.Mode != Synchronous || st.phase != stepRunning || t.now.Before(st.retry) || len(t.micros) != t.cfg.Batch {
		return
	}
	if slices.ContainsFunc(t.micros, func(m *micro) bool { return m.count() != len(m.parts) }) {
		return
	}
	st.edition++
	st.phase, st.deadline = stepClosing, t.now.Add(t.cfg.Limits.Close)
	st.members = make([][]member, len(t.stages))
	for stage := range t.stages {
		st.members[stage] = t.membersOf(stage)
		peers := make([]wire.PeerID, len(st.members[stage]))
		for i, m := range st.members[stage] {
			peers[i] = m.peer
		}
		for _, m := range st.members[stage] {
			t.send(m.peer, &wire.StageClose{
				Trainer: t.cfg.Slot, Step: st.number, Try: st.try, Edition: st.edition, Stage: uint64(stage),
				Members: peers, Micros: m.micros, Total: uint64(t.cfg.Batch),
			})
		}
	}
}

// membersOf returns, in order of id, who counted something in a stage, and who
// serves it and must step with the others.
func (t *Trainer) membersOf(stage int) []member {
	var out []member
	for _, m := range t.micros {
		p := &m.parts[stage]
		i, found := slices.BinarySearchFunc(out, p.holder, func(m member, id wire.PeerID) int { return comparePeers(m.peer, id) })
		if !found {
			out = slices.Insert(out, i, member{peer: p.holder})
		}
		out[i].micros = append(out[i].micros, m.number)
	}
	for _, s := range t.stages[stage].usable(t.now) {
		i, found := slices.BinarySearchFunc(out, s.id, func(m member, id wire.PeerID) int { return comparePeers(m.peer, id) })
		if !found && len(out) < wire.MaxMembers && !slices.Contains(t.step.left, left{stage, s.id}) {
			out = slices.Insert(out, i, member{peer: s.id})
		}
	}
	return out
}

// reopen goes back to filling the step: its set is to be spread anew.
func (t *Trainer) reopen(reason string) {
	st := &t.step
	st.failures++
	st.phase, st.deadline, st.members = stepRunning, time.Time{}, nil
	st.retry = t.now.Add(backoff(st.failures-1, retryFirst, retryMost))
	t.note("step %d is not closed and is spread anew: %s", st.number, reason)
}

// heard marks a member's answer and returns it; nil when none is awaited of it.
func (t *Trainer) heard(phase stepPhase, from wire.PeerID, trainer wire.Slot, number, stage uint64) *member {
	st := &t.step
	if st.phase != phase || trainer != t.cfg.Slot || number != st.number || stage >= uint64(len(st.members)) {
		return nil
	}
	for i := range st.members[stage] {
		if m := &st.members[stage][i]; m.peer == from {
			return m
		}
	}
	return nil
}

func (t *Trainer) allHeard() bool {
	for _, stage := range t.step.members {
		if slices.ContainsFunc(stage, func(m member) bool { return !m.heard }) {
			return false
		}
	}
	return true
}

// reduced takes in that a stage's sum is there. All stages done, the step is
// written down before anybody applies it.
func (t *Trainer) reduced(from wire.PeerID, msg *wire.StageReduced) {
	st := &t.step
	m := t.heard(stepClosing, from, msg.Trainer, msg.Step, msg.Stage)
	if m == nil || msg.Try != st.try || msg.Edition != st.edition {
		return
	}
	m.heard, m.normSq = true, math.Float64frombits(msg.NormSq)
	if !t.allHeard() {
		return
	}
	st.normSq = 0
	for _, stage := range st.members { // in order of stages, as the protocol has it
		st.normSq += stage[0].normSq
	}
	if !isNormSq(st.normSq) {
		t.notSummed("the gradient is not finite")
		return
	}
	st.phase, st.deadline = stepDeciding, t.now.Add(t.cfg.Limits.Close)
	t.decide()
}

func (t *Trainer) decide() {
	st := &t.step
	d := Decide{Step: st.number, Try: st.try, Edition: st.edition, NormSq: st.normSq}
	for _, m := range t.micros {
		d.Micros = append(d.Micros, m.number)
	}
	t.do(d)
}

// missing takes in that a member lacks what the set says it has, or that adding
// up failed. Who cannot follow is left out.
func (t *Trainer) missing(from wire.PeerID, msg *wire.StageMissing) {
	st := &t.step
	m := t.heard(stepClosing, from, msg.Trainer, msg.Step, msg.Stage)
	if m == nil || msg.Try != st.try || msg.Edition != st.edition {
		return
	}
	for _, mb := range t.micros {
		p := &mb.parts[msg.Stage]
		if _, named := slices.BinarySearch(msg.Micros, mb.number); named && p.holder == from {
			p.since = t.now
			t.again(p)
		}
	}
	reason := from.Short() + ": " + msg.Reason
	if !msg.Behind && len(msg.Micros) == 0 {
		t.notSummed(reason)
		return
	}
	if msg.Behind {
		st.left = append(st.left, left{int(msg.Stage), from})
	}
	t.reopen(reason)
}

// maxUnsummed is how often adding up is tried again on the same micro-batches.
const maxUnsummed = 5

// notSummed tries again to add up, and at last with other micro-batches: what these give
// may not be finite.
func (t *Trainer) notSummed(reason string) {
	if t.step.unsummed++; t.step.unsummed > maxUnsummed {
		t.drop(reason, t.step.number)
		return
	}
	t.reopen(reason)
}

// isNormSq reports whether a number can be a squared norm.
func isNormSq(x float64) bool { return x >= 0 && !math.IsInf(x, 1) }

// memberGone goes on without a peer. Before the step is decided that takes
// another edition; afterwards the peer fetches what it missed when it is back.
func (t *Trainer) memberGone(id wire.PeerID) {
	st := &t.step
	if st.phase == stepRunning {
		return
	}
	for stage := range st.members {
		i := slices.IndexFunc(st.members[stage], func(m member) bool { return m.peer == id })
		if i < 0 {
			continue
		}
		if st.phase == stepClosing {
			t.reopen(id.Short() + " is gone")
			return
		}
		st.members[stage] = slices.Delete(st.members[stage], i, i+1)
	}
	if st.phase == stepApplying && t.allHeard() {
		t.stepDone()
	}
}

// decided orders the step from everybody.
func (t *Trainer) decided(e Decided) {
	st := &t.step
	if st.phase != stepDeciding || e.Step != st.number || e.Try != st.try || e.Edition != st.edition {
		return
	}
	st.phase, st.sends = stepApplying, 0
	for stage := range st.members {
		for i := range st.members[stage] {
			st.members[stage][i].heard = false
		}
	}
	t.apply()
	if t.allHeard() { // all are gone
		t.stepDone()
	}
}

func (t *Trainer) apply() {
	st := &t.step
	st.deadline = t.now.Add(t.cfg.Limits.Close >> (maxAccepts - 1) << st.sends)
	st.sends++
	for stage, members := range st.members {
		for _, m := range members {
			if !m.heard {
				t.send(m.peer, &wire.StageApply{
					Trainer: t.cfg.Slot, Step: st.number, Try: st.try, Edition: st.edition, Stage: uint64(stage), NormSq: math.Float64bits(st.normSq),
				})
			}
		}
	}
}

func (t *Trainer) applied(from wire.PeerID, msg *wire.StageApplied) {
	if m := t.heard(stepApplying, from, msg.Trainer, msg.Step, msg.Stage); m != nil {
		if m.heard = true; t.allHeard() {
			t.stepDone()
		}
	}
}

// expireStep handles members that do not answer.
func (t *Trainer) expireStep() {
	st := &t.step
	if st.deadline.IsZero() || t.now.Before(st.deadline) {
		return
	}
	switch st.phase {
	case stepDeciding:
		st.deadline = t.now.Add(t.cfg.Limits.Close)
		t.note("step %d is not written down yet", st.number)
		t.decide()
		return
	case stepApplying:
		if st.sends < maxAccepts {
			t.apply()
			return
		}
	case stepRunning, stepClosing:
	}
	closing := st.phase == stepClosing
	for stage, members := range st.members {
		for _, m := range members {
			if !m.heard {
				t.silent(stage, m.peer, closing)
			}
		}
	}
	if closing {
		t.reopen("not all members have added up in time")
	} else {
		t.stepDone()
	}
}

// silent bans a member that does not answer. In a step that is not decided,
// others count what it has.
func (t *Trainer) silent(stage int, id wire.PeerID, closing bool) {
	if s := t.stages[stage].find(id); s != nil {
		t.note("stage %d: %s does not answer for step %d, %s", stage+1, id.Short(), t.step.number, t.stages[stage].fault(s, t.now, false))
	}
	if !closing {
		return
	}
	for _, m := range t.micros {
		if p := &m.parts[stage]; p.holder == id && p.state == partCounted {
			p.since = t.now
			t.again(p)
		}
	}
}

func (t *Trainer) stepDone() {
	for _, m := range slices.Clone(t.micros) {
		t.end(m, Counted)
	}
	t.step = step{number: t.step.number + 1, first: t.next, try: t.step.try}
}

// void throws the step away in all stages and begins it again with the same
// micro-batches.
func (t *Trainer) void(reason string) {
	t.note("step %d begins anew with the same micro-batches: %s", t.step.number, reason)
	for _, m := range t.micros {
		t.cancel(m)
		for s := range m.parts {
			m.parts[s] = part{attempt: m.parts[s].attempt}
		}
		m.parts[0].since = t.now
	}
	t.newTry()
}

// newTry makes what servers counted in tries before void.
func (t *Trainer) newTry() {
	t.step = step{number: t.step.number, first: t.step.first, try: t.step.try + 1}
	for stage := range t.stages {
		for _, s := range t.stages[stage].usable(t.now) {
			t.send(s.id, &wire.StageVoid{Trainer: t.cfg.Slot, Step: t.step.number, Try: t.step.try})
		}
	}
}

// drop throws the step and its micro-batches away and goes on with another number.
func (t *Trainer) drop(reason string, number uint64) {
	t.note("step %d is dropped with its micro-batches: %s", t.step.number, reason)
	for _, m := range slices.Clone(t.micros) {
		t.cancel(m)
		t.do(Release{Micro: m.number, Outcome: Abandoned})
		t.totals.Abandoned++
	}
	t.micros, t.step.first, t.step.number = nil, t.next, number
	t.newTry()
}
