package round

import (
	"fmt"
	"math"
	"time"

	"dunlin/wire"
)

// Member decides, for one worker, when a fragment's snapshot is due, what its
// contribution covers, and what every commit does to it (R1, R2).
type Member struct {
	spec      Spec
	slot      wire.Slot // 0: none, nothing is contributed
	suspended bool
	phase     wire.Phase
	solo      bool
	term      uint64
	step      uint64 // inner steps of the slot
	stepTime  uint64 // µs
	pace      uint64 // µs, of the newest attempt
	behind    bool   // Rejoin was asked for
	fragments []memberFragment
	tunings   wire.Tunings
	now       time.Time
	out       []Effect
}

// memberFragment is a worker's place in the rounds of one fragment.
type memberFragment struct {
	head    uint64 // newest version in the log
	applied uint64 // newest version that the replica has
	merged  uint64 // newest version that the live weights have
	end     uint64 // step at which the last committed interval ended
	due     uint64 // step of the next snapshot
	before  work   // trained since end, up to the snapshot if one is open
	after   work   // trained since the open snapshot
	open    *undecided
	held    *Merge // with Spec.Delay: waits for the step of the next snapshot
}

// undecided is the one contribution of a fragment that no commit decided yet.
type undecided struct {
	ready wire.Ready // without Root until it is encoded
	sent  time.Time  // or since when it is being encoded
	// Steps since the snapshot was asked for; Encoded says which it covers.
	recent []StepDone
}

func (u *undecided) encoded() bool { return !u.ready.Root.IsZero() }

// work is what was trained in some steps.
type work struct {
	tokens  uint64
	windows []wire.Range // ascending, disjoint
}

func (w *work) add(tokens uint64, windows []wire.Range) {
	w.tokens += tokens
	for _, r := range windows {
		w.windows = addRange(w.windows, r)
	}
}

// NewMember returns a Member without a slot; Assigned gives it one.
func NewMember(spec Spec) (*Member, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	return &Member{spec: spec, phase: wire.PhaseTraining, fragments: make([]memberFragment, len(spec.Slabs)), tunings: wire.NewTunings(spec.H, 0)}, nil
}

// Step takes one event and returns what to do, in order.
func (m *Member) Step(now time.Time, ev Event) []Effect {
	m.now, m.out = now, nil
	switch ev := ev.(type) {
	case Assigned:
		m.assign(ev.Slot, ev.Versions)
	case Suspended:
		m.suspend(ev.Reason)
	case Resumed:
		m.resume(ev.Versions)
	case StepDone:
		m.stepDone(ev)
	case Encoded:
		m.encoded(ev)
	case EncodeFailed:
		if f := m.encoding(ev.Fragment, ev.Base); f != nil {
			m.note("%s: nothing to contribute: %s", about(ev.Fragment, ev.Base), ev.Reason)
			m.miss(f)
		}
	case Logged:
		m.logged(ev)
	case Applied:
		m.appliedCommit(ev)
	case Merged:
		if ev.Fragment < uint64(len(m.fragments)) {
			f := &m.fragments[ev.Fragment]
			f.merged = max(f.merged, min(ev.Version, f.applied))
			m.consider(int(ev.Fragment)) // one that is due waited for this
		}
	case Reconnected:
		m.sendAgain()
	default: // Tick, and events of the other machines
	}
	m.remind()
	return m.out
}

// h returns the inner steps of the interval that leads to a version above the
// newest one in the log.
func (m *Member) h(fragment int, above uint64) uint64 {
	h, _ := m.tunings.At(fragment, m.fragments[fragment].head+above)
	return h
}

func (m *Member) emit(e Effect) { m.out = append(m.out, e) }

func (m *Member) note(format string, args ...any) { m.emit(Note{fmt.Sprintf(format, args...)}) }

// Deadline returns when the next Tick is due, or zero: a contribution that
// nothing was heard of is announced again.
func (m *Member) Deadline() time.Time {
	var next time.Time
	for i := range m.fragments {
		if f := &m.fragments[i]; m.pending(f) && !m.suspended {
			next = earliest(next, f.open.sent.Add(millis(m.spec.Deadlines.Attempt)))
		}
	}
	return next
}

// pending reports whether a contribution waits for being encoded or committed.
func (m *Member) pending(f *memberFragment) bool {
	return f.open != nil && f.open.ready.Base >= f.head && m.phase != wire.PhaseEnded
}

// Undecided returns the number of contributions that may still be part of a
// commit, or are and await their merge.
func (m *Member) Undecided() int {
	n := 0
	for i := range m.fragments {
		if f := &m.fragments[i]; f.open != nil && (m.pending(f) || f.open.ready.Base < f.head) {
			n++
		}
	}
	return n
}

func (m *Member) assign(slot wire.Slot, versions []uint64) {
	m.slot, m.step, m.suspended, m.behind = slot, 0, false, false
	for i := range m.fragments {
		f := &m.fragments[i]
		*f = memberFragment{head: f.head, applied: f.applied, due: m.firstDue(i)}
	}
	m.start(versions)
}

// firstDue spreads the first snapshots of this worker's fragments over H.
func (m *Member) firstDue(fragment int) uint64 {
	i, n := m.spec.place(fragment)
	return FirstDue(m.h(fragment, 1), i, max(1, n))
}

// start takes the versions that the live weights are at. What was applied
// above them meanwhile is merged next.
func (m *Member) start(versions []uint64) {
	for i := range m.fragments {
		if i >= len(versions) || !m.spec.mine(i) {
			continue
		}
		f := &m.fragments[i]
		f.merged, f.applied, f.head = versions[i], max(f.applied, versions[i]), max(f.head, versions[i])
		if f.open != nil && f.open.ready.Base < f.merged {
			m.abandon(f)
		}
		f.held = nil
		if f.applied > f.merged {
			m.emit(Merge{Fragment: uint64(i), Version: f.applied})
		}
	}
}

// suspend stops contributing for a repair. What is announced already may still
// be part of a commit; what is not encoded yet never will.
func (m *Member) suspend(reason string) {
	if m.suspended || m.slot == 0 {
		return
	}
	m.suspended = true
	for i := range m.fragments {
		m.fragments[i].held = nil // start asks for a merge of what is newest then
	}
	m.note("contributes nothing: %s", reason)
	for i := range m.fragments {
		if f := &m.fragments[i]; f.open != nil && !f.open.encoded() {
			m.miss(f)
		}
	}
}

func (m *Member) resume(versions []uint64) {
	m.suspended, m.behind = false, false
	m.start(versions)
	for i := range m.fragments {
		f := &m.fragments[i]
		f.due = max(f.due, m.step+m.firstDue(i))
	}
	m.sendAgain()
}

// abandon forgets a contribution of which nobody told whether a commit has it:
// its work is not claimed again, since no step may be committed twice (R2).
func (m *Member) abandon(f *memberFragment) {
	to := f.open.ready.To
	if !f.open.encoded() {
		m.miss(f) // it was never announced
		return
	}
	f.end, f.before, f.after, f.open = max(f.end, to), f.after, work{}, nil
}

// miss carries the work of a contribution that was not taken over to the next.
func (m *Member) miss(f *memberFragment) {
	for _, s := range f.open.recent {
		f.before.add(s.Tokens, s.Windows)
	}
	f.before.add(f.after.tokens, f.after.windows)
	f.after, f.open = work{}, nil
}

func (m *Member) stepDone(ev StepDone) {
	if m.slot == 0 {
		return
	}
	if ev.Step <= m.step {
		m.note("step %d came after step %d: it is not counted", ev.Step, m.step)
		return
	}
	m.step, m.stepTime = ev.Step, ev.StepTime
	for i := range m.fragments {
		f := &m.fragments[i]
		switch {
		case !m.spec.mine(i):
		case f.open == nil:
			f.before.add(ev.Tokens, ev.Windows)
		case f.open.encoded():
			f.after.add(ev.Tokens, ev.Windows)
		default:
			f.open.recent = append(f.open.recent, ev)
		}
	}
	for i := range m.fragments {
		if m.spec.mine(i) {
			m.checkLag(i)
			m.consider(i)
		}
	}
}

// consider takes a snapshot of a fragment when it is due and its round is
// clear: nothing undecided, and the newest commit merged.
func (m *Member) consider(i int) {
	f := &m.fragments[i]
	if f.held != nil && m.step >= f.due && !m.suspended {
		m.deliver(f, *f.held)
	}
	switch {
	case m.suspended || m.solo || m.phase != wire.PhaseTraining:
	case m.step < f.due || f.open != nil || f.merged != f.applied || f.merged != f.head:
	case f.before.tokens == 0 || len(f.before.windows) == 0:
	default:
		f.open = &undecided{sent: m.now, ready: wire.Ready{Slot: m.slot, Fragment: uint64(i), Base: f.merged, From: f.end, To: m.step}}
		f.due = m.step + OwnSteps(m.h(i, 2), m.pace, m.stepTime)
		m.emit(TakeSnapshot{Fragment: uint64(i), Base: f.merged, From: f.end, To: m.step})
	}
}

// claim says what a contribution covers: all steps since the last committed
// interval, up to the border that the snapshot was taken at. Windows beyond
// what one Ready can name stay for the next.
func (m *Member) claim(f *memberFragment, to uint64) {
	r := &f.open.ready
	r.To = min(max(r.To, to), m.step)
	for _, s := range f.open.recent {
		part := &f.after
		if s.Step <= r.To {
			part = &f.before
		}
		part.add(s.Tokens, s.Windows)
	}
	f.open.recent = nil
	if w := f.before.windows; len(w) > wire.MaxClaims {
		f.after.add(0, w[wire.MaxClaims:])
		f.before.windows = w[:wire.MaxClaims:wire.MaxClaims]
	}
	r.Windows = append([]wire.Range(nil), f.before.windows...)
	most := min(wire.Windows(r.Windows)*m.spec.Context, (r.To-r.From)*m.spec.StepTokens)
	r.Tokens, r.StepTime = min(f.before.tokens, most), m.stepTime
}

// checkLag asks to rejoin when the live weights are more than two versions
// behind the log (R2).
func (m *Member) checkLag(i int) {
	const most = 2
	f := &m.fragments[i]
	if m.behind || f.head <= f.merged+most {
		return
	}
	m.behind = true
	m.emit(Rejoin{fmt.Sprintf("fragment %d is at version %d here, at %d in the log", i, f.merged, f.head)})
}

// encoding returns the fragment whose snapshot of base is being encoded, or nil.
func (m *Member) encoding(fragment, base uint64) *memberFragment {
	if fragment >= uint64(len(m.fragments)) {
		return nil
	}
	f := &m.fragments[fragment]
	if f.open == nil || f.open.encoded() || f.open.ready.Base != base {
		return nil
	}
	return f
}

func (m *Member) encoded(ev Encoded) {
	f := m.encoding(ev.Fragment, ev.Base)
	if f == nil {
		return // a commit decided it meanwhile
	}
	if n := float64(ev.Norm); ev.Root.IsZero() || math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
		m.note("%s: nothing to contribute: what was learned has norm %g", about(ev.Fragment, ev.Base), ev.Norm)
		m.miss(f)
		return
	}
	m.claim(f, ev.Step)
	f.open.ready.Root, f.open.ready.Norm = ev.Root, wire.FloatOf(ev.Norm)
	if m.pending(f) {
		m.send(f)
	}
}

func (m *Member) send(f *memberFragment) {
	f.open.sent = m.now
	m.emit(SendReady{f.open.ready})
}

// sendAgain repeats every Ready that no commit decided.
func (m *Member) sendAgain() {
	if m.suspended {
		return
	}
	for i := range m.fragments {
		if f := &m.fragments[i]; m.pending(f) && f.open.encoded() {
			m.send(f)
		}
	}
}

// remind repeats a Ready that nothing came of for long, in case it was lost.
func (m *Member) remind() {
	limit := millis(m.spec.Deadlines.Attempt)
	for i := range m.fragments {
		f := &m.fragments[i]
		switch {
		case m.suspended || !m.pending(f) || m.now.Before(f.open.sent.Add(limit)):
		case f.open.encoded():
			m.send(f)
		default:
			m.note("%s: encoding takes more than %s", about(uint64(i), f.open.ready.Base), limit)
			f.open.sent = m.now
		}
	}
}

// logged follows the log: heads, the pace, terms and what the run is doing.
func (m *Member) logged(ev Logged) {
	switch b := ev.Body.(type) {
	case *wire.Commit:
		if b.Fragment < uint64(len(m.fragments)) {
			f := &m.fragments[b.Fragment]
			f.head = max(f.head, b.Base+1)
		}
	case *wire.Attempt:
		m.readPace(b, ev.Table)
		m.align(b)
	case *wire.Settings:
		m.set(b)
	default: // nothing else moves a worker's rounds
	}
	if ev.Term > m.term {
		if m.term > 0 {
			m.sendAgain()
		}
		m.term = ev.Term
	}
}

// align counts the next interval of a fragment from the opening of an attempt, which all
// hear at once. In a run with stages a peer's steps come as it is sent micro-batches, so
// that the peers of a stage drift apart, and who is early would wait for the others in every
// round, with as many more inner steps between its snapshot and the merge.
func (m *Member) align(b *wire.Attempt) {
	if m.spec.Stages == nil || m.spec.Delay || b.Fragment >= uint64(len(m.fragments)) {
		return
	}
	if f := &m.fragments[b.Fragment]; f.open != nil && f.open.ready.Base == b.Base {
		f.due = m.step + OwnSteps(m.h(int(b.Fragment), 2), m.pace, m.stepTime)
	}
}

// readPace takes the step time that own steps are measured against.
func (m *Member) readPace(b *wire.Attempt, encoded []byte) {
	var table wire.AttemptTable
	if b.Fragment >= uint64(len(m.fragments)) || !m.spec.mine(int(b.Fragment)) || len(encoded) == 0 || wire.HashLeaf(encoded) != b.Table || wire.Decode(encoded, &table) != nil {
		return
	}
	m.pace = min(table.Pace, maxStepTime)
}

// set follows the settings. After an interval without rounds the fragments'
// snapshots are spread again.
func (m *Member) set(s *wire.Settings) {
	training := func() bool { return m.phase == wire.PhaseTraining && !m.solo }
	before := training()
	m.phase, m.solo = s.Phase, s.Solo
	m.tunings.Take(s)
	m.spec.Deadlines = s.DeadlinesOr(m.spec.Deadlines)
	if before || !training() {
		return
	}
	for i := range m.fragments {
		f := &m.fragments[i]
		f.due = max(f.due, m.step+m.firstDue(i))
	}
}

// appliedCommit has a commit merged and settles the open contribution by it.
func (m *Member) appliedCommit(ev Applied) {
	if ev.Fragment >= uint64(len(m.fragments)) {
		return
	}
	f := &m.fragments[ev.Fragment]
	rank := -1
	if ev.Table != nil {
		rank = ev.Table.Rank(m.slot)
	}
	if rank >= 0 {
		f.end = max(f.end, ev.Table.Contributors[rank].To)
	}
	if ev.Version <= f.applied {
		return
	}
	f.applied, f.head = ev.Version, max(f.head, ev.Version)
	merge := Merge{Fragment: ev.Fragment, Version: ev.Version}
	if f.open != nil && f.open.ready.Base < ev.Version {
		merge.Contributed = true
		merge.Included = make([]bool, m.spec.Slabs[ev.Fragment])
		m.decide(f, ev, rank, merge.Included)
	}
	if m.slot == 0 || m.suspended {
		return // start asks for it once there are weights to merge into
	}
	m.deliver(f, merge)
}

// deliver asks for a merge, or holds it until the next snapshot is due. A commit that
// comes meanwhile is merged with it: it decides no contribution, as none is open.
func (m *Member) deliver(f *memberFragment, merge Merge) {
	if f.held != nil {
		merge.Contributed, merge.Included = f.held.Contributed, f.held.Included
		f.held = nil
	}
	if m.spec.Delay && m.step < f.due {
		f.held = &merge
		return
	}
	m.emit(merge)
}

// decide settles the open contribution: taken, in the slabs that say so, or
// missed.
func (m *Member) decide(f *memberFragment, ev Applied, rank int, included []bool) {
	r := &f.open.ready
	if ev.Version > r.Base+1 {
		m.note("%s: the commit that decided on steps %d to %d was skipped: their work is not claimed again", about(ev.Fragment, r.Base), r.From+1, r.To)
		m.abandon(f)
		return
	}
	if rank < 0 {
		m.note("%s: the work of steps %d to %d is not in the commit and stays for the next", about(ev.Fragment, r.Base), r.From+1, r.To)
		m.miss(f)
		return
	}
	if c := &ev.Table.Contributors[rank]; c.Root != r.Root || c.From != r.From || c.To != r.To {
		m.note("%s: the commit has another contribution of slot %d", about(ev.Fragment, r.Base), m.slot)
		m.miss(f)
		return
	}
	for slab := range included {
		included[slab] = slab < len(ev.Table.Slabs) && ev.Table.Slabs[slab].Includes(rank)
	}
	f.before, f.after, f.open = f.after, work{}, nil
}

// MemberSnapshot is what people see of a worker's rounds of one fragment.
type MemberSnapshot struct {
	Fragment              int
	Head, Applied, Merged uint64
	Step, Due             uint64
	Open                  bool // a contribution is undecided
	From, To              uint64
	Reason                string // what it waits for
}

// Snapshot returns a copy of what people see.
func (m *Member) Snapshot() []MemberSnapshot {
	out := make([]MemberSnapshot, len(m.fragments))
	for i := range m.fragments {
		f := &m.fragments[i]
		s := MemberSnapshot{Fragment: i, Head: f.head, Applied: f.applied, Merged: f.merged, Step: m.step, Due: f.due}
		switch {
		case m.slot == 0:
			s.Reason = "no slot yet"
		case m.suspended:
			s.Reason = "suspended"
		case f.open != nil:
			s.Open, s.From, s.To = true, f.open.ready.From, f.open.ready.To
			s.Reason = "waits for the commit"
			if !f.open.encoded() {
				s.Reason = "is being encoded"
			}
		case f.merged != f.head:
			s.Reason = fmt.Sprintf("version %d is to be merged", f.head)
		default:
			s.Reason = "trains"
		}
		out[i] = s
	}
	return out
}

// addRange puts a range into ascending, disjoint ranges and joins what touches.
func addRange(rs []wire.Range, r wire.Range) []wire.Range {
	if r.From >= r.To {
		return rs
	}
	i := 0
	for i < len(rs) && rs[i].To < r.From {
		i++
	}
	j := i
	for j < len(rs) && rs[j].From <= r.To {
		r.From, r.To = min(r.From, rs[j].From), max(r.To, rs[j].To)
		j++
	}
	if i == j {
		rs = append(rs, wire.Range{})
		copy(rs[i+1:], rs[i:])
		rs[i] = r
		return rs
	}
	rs[i] = r
	return append(rs[:i+1], rs[j:]...)
}
