package round

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dunlin/wire"
)

// LeaderConfig configures a Leader for one term.
type LeaderConfig struct {
	Spec
	Term         uint64
	Seed         wire.PeerID         // of the local seed: a commit needs its Have
	Heads        []wire.FragmentHead // at the start, in fragment order
	Settings     wire.Settings       // in force
	SettingsHash wire.Hash           // zero before the first entry of settings
	History      *History            // of all commits so far; nil in a run without any
}

// Validate lists every fault at once.
func (c LeaderConfig) Validate() error {
	if err := c.Spec.Validate(); err != nil {
		return err
	}
	if len(c.Heads) != len(c.Slabs) {
		return fmt.Errorf("round: %d heads of %d fragments", len(c.Heads), len(c.Slabs))
	}
	if c.History != nil && c.History.fragments != len(c.Slabs) {
		return fmt.Errorf("round: history of %d fragments for %d", c.History.fragments, len(c.Slabs))
	}
	if c.Seed.IsZero() {
		return fmt.Errorf("round: the leader needs the seed's id")
	}
	return nil
}

// Leader drives the rounds of all fragments for one term of a coordinator. It
// moves only by what stands in the log; what it holds otherwise (Readys, sums,
// holders) is lost with it and sent again to the next one.
type Leader struct {
	cfg      LeaderConfig
	settings wire.Settings
	inForce  wire.Hash // hash of the settings
	tunings  wire.Tunings
	deposed  bool     // the log has a later term
	listed   bool     // a first list of members came
	counter  uint64   // of attempts in this term
	workers  []Worker // ascending slot
	slots    map[wire.Slot]*slotRecord
	history  *History
	rounds   []*leaderRound
	closed   []RoundStatus // newest last, at most keepClosed
	attempts uint64
	failed   uint64
	now      time.Time
	out      []Effect
}

// slotRecord is what the Leader remembers of a slot while it lasts.
type slotRecord struct {
	trained   bool            // was active at some time in this term
	returning bool            // had the slot before this term and was not active since
	refuse    []uint64        // per fragment: base + 1 of the round open at admission
	ignore    []uint64        // per fragment: base + 1 of the round that does not wait for it
	usual     []time.Duration // per fragment: from a round's first Ready to its own; below 0: not known
	mute      []uint64        // per fragment: version below which it owns nothing
	mutes     int             // times that this began, less commits with its sums since
}

// Phase is where a fragment's round stands.
type Phase uint8

// Phases of a round.
const (
	Collecting Phase = iota // Readys come in
	Opening                 // an attempt is on its way into the log
	Summing                 // owners gather and sum
	Spreading               // holders pull the result
	Committing              // a commit is on its way into the log
)

func (p Phase) String() string {
	return [...]string{"collecting", "opening", "summing", "spreading", "committing"}[p]
}

// about names a round for people, by the version that it makes.
func about(fragment, base uint64) string {
	return fmt.Sprintf("fragment %d to version %d", fragment, base+1)
}

// leaderRound is the one undecided round of a fragment.
type leaderRound struct {
	fragment int
	head     wire.FragmentHead
	phase    Phase
	readys   map[wire.Slot]*readyRecord
	first    time.Time // of the Readys; zero while there are none
	due      time.Time // from here on the round opens without the rest
	wake     time.Time // while collecting: when to look again
	times    readyTimes
	strikes  map[wire.Slot]int // times that a member did not deliver
	failures int               // attempts that failed at this base
	attempt  *attempt
	history  []Failure // newest last, at most keepFailures
}

func (r *leaderRound) String() string { return about(uint64(r.fragment), r.head.Version) }

// NewLeader starts a term.
func NewLeader(cfg LeaderConfig) (*Leader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Leader{cfg: cfg, slots: make(map[wire.Slot]*slotRecord), history: cfg.History}
	if l.history == nil {
		l.history = NewHistory(len(cfg.Slabs))
	}
	l.tunings = wire.NewTunings(cfg.H, 0)
	l.govern(&cfg.Settings, cfg.SettingsHash)
	for f, head := range cfg.Heads {
		r := &leaderRound{fragment: f, head: head}
		r.reset()
		l.rounds = append(l.rounds, r)
	}
	return l, nil
}

// reset forgets everything that belongs to the version just left.
func (r *leaderRound) reset() {
	r.phase, r.attempt, r.failures = Collecting, nil, 0
	r.readys = make(map[wire.Slot]*readyRecord)
	r.strikes = make(map[wire.Slot]int)
	r.first, r.due, r.wake = time.Time{}, time.Time{}, time.Time{}
}

// Step takes one event and returns what to do, in order.
func (l *Leader) Step(now time.Time, ev Event) []Effect {
	l.now, l.out = now, nil
	if _, ok := ev.(Logged); l.deposed && !ok {
		return nil
	}
	switch ev := ev.(type) {
	case Members:
		l.list(ev.List)
	case ReadyFrom:
		l.ready(ev)
	case SlabDoneFrom:
		l.slabDone(ev)
	case SlabFailedFrom:
		l.slabFailed(ev)
	case HaveFrom:
		l.have(ev)
	case SeedHas:
		l.seedHas(ev.Hash)
	case SeedRefused:
		l.seedRefused(ev)
	case Logged:
		l.logged(ev)
	case AppendFailed:
		l.appendFailed(ev)
	default: // Tick, and events of the other machines
	}
	for _, r := range l.rounds {
		l.advance(r)
	}
	return l.out
}

func (l *Leader) emit(e Effect) { l.out = append(l.out, e) }

func (l *Leader) note(format string, args ...any) { l.emit(Note{fmt.Sprintf(format, args...)}) }

// advance lets a round do what is due. One step may make the next one due: a
// failed attempt may open another at once.
func (l *Leader) advance(r *leaderRound) {
	if l.deposed {
		return
	}
	for range 4 {
		before := r.phase
		switch r.phase {
		case Collecting:
			l.collect(r)
		case Opening, Committing:
			if !l.now.Before(r.attempt.progress.Add(l.limit())) {
				l.fail(r, fmt.Sprintf("the log did not answer for %s while %s", l.limit(), r.phase), 0)
			}
		case Summing:
			l.watchOwners(r)
		case Spreading:
			l.watchHolders(r)
		}
		if r.phase == before {
			return
		}
	}
}

func (l *Leader) limit() time.Duration { return millis(l.cfg.Deadlines.Attempt) }

// Deadline returns when the next Tick is due, or zero.
func (l *Leader) Deadline() time.Time {
	var next time.Time
	if l.deposed {
		return next
	}
	for _, r := range l.rounds {
		switch r.phase {
		case Collecting:
			next = earliest(next, r.wake)
		case Opening, Committing:
			next = earliest(next, r.attempt.progress.Add(l.limit()))
		case Summing:
			next = earliest(next, l.ownersDeadline(r))
		case Spreading:
			if r.attempt.stranded {
				continue // until the members change
			}
			next = earliest(next, l.holdersDeadline(r))
			if !r.attempt.has(l.cfg.Seed) {
				next = earliest(next, l.tellAgain(r.attempt))
			}
		}
	}
	return next
}

// list takes over a new list of members.
func (l *Leader) list(workers []Worker) {
	defer l.tellReturned(l.spreading())()
	l.workers = l.workers[:0]
	for _, w := range workers {
		if w.Slot != 0 {
			l.workers = append(l.workers, w)
		}
	}
	slices.SortStableFunc(l.workers, func(a, b Worker) int { return cmp.Compare(a.Slot, b.Slot) })
	l.workers = slices.CompactFunc(l.workers, func(a, b Worker) bool { return a.Slot == b.Slot })
	for i := range l.workers {
		w := &l.workers[i]
		s := l.slots[w.Slot]
		admitted := s == nil && l.listed
		s = l.record(w.Slot)
		if !l.listed {
			s.returning = true
		}
		if admitted {
			l.excuse(w.Slot, s.refuse)
		}
		if w.Active && !s.trained {
			if !s.returning {
				l.excuse(w.Slot, s.ignore)
			}
			s.trained, s.returning = true, false
		}
	}
	l.listed = true
}

// spreading returns the rounds whose results are on their way to holders.
func (l *Leader) spreading() []*leaderRound {
	return slices.DeleteFunc(slices.Clone(l.rounds), func(r *leaderRound) bool { return r.phase != Spreading })
}

// tellReturned tells who cannot be reached now, and can when it is called, what is spreading.
func (l *Leader) tellReturned(rounds []*leaderRound) func() {
	if len(rounds) == 0 {
		return func() {}
	}
	there := make(map[wire.PeerID]bool)
	for _, p := range l.peers() {
		there[p] = true
	}
	return func() {
		back := slices.DeleteFunc(l.peers(), func(p wire.PeerID) bool { return there[p] })
		for _, r := range rounds {
			if len(back) > 0 {
				l.announce(r, back...)
			}
		}
	}
}

// record returns the slot's record, a new one if need be.
func (l *Leader) record(slot wire.Slot) *slotRecord {
	s := l.slots[slot]
	if s == nil {
		n := len(l.rounds)
		s = &slotRecord{refuse: make([]uint64, n), ignore: make([]uint64, n), mute: make([]uint64, n), usual: slices.Repeat([]time.Duration{-1}, n)}
		l.slots[slot] = s
	}
	return s
}

// excuse marks the rounds for which others are ready already.
func (l *Leader) excuse(slot wire.Slot, marks []uint64) {
	for f, r := range l.rounds {
		if len(r.readys) > 0 && r.readys[slot] == nil {
			marks[f] = r.head.Version + 1
		}
	}
}

// worker returns the member that holds a slot, or nil.
func (l *Leader) worker(slot wire.Slot) *Worker {
	i, ok := slices.BinarySearchFunc(l.workers, slot, func(w Worker, s wire.Slot) int { return cmp.Compare(w.Slot, s) })
	if !ok {
		return nil
	}
	return &l.workers[i]
}

// stage returns the workers that hold a fragment, ascending slot.
func (l *Leader) stage(fragment int) []Worker {
	if l.cfg.Stages == nil {
		return l.workers
	}
	var out []Worker
	for _, w := range l.workers {
		if w.Stage == l.cfg.Stages[fragment] {
			out = append(out, w)
		}
	}
	return out
}

// peers returns everyone who can be reached now.
func (l *Leader) peers() []wire.PeerID {
	var out []wire.PeerID
	for _, w := range l.workers {
		if w.Connected {
			out = append(out, w.Peer)
		}
	}
	return out
}

// open reports whether the settings allow new attempts.
func (l *Leader) open() bool {
	return (l.settings.Phase == 0 || l.settings.Phase == wire.PhaseTraining) && !l.settings.Solo
}

// collect opens an attempt when all that are waited for are ready, or when the
// ready ones are a quorum and the deadline has passed or the rest is not worth it.
func (l *Leader) collect(r *leaderRound) {
	if len(r.readys) == 0 || !l.open() {
		r.wake = time.Time{}
		return
	}
	late := !l.now.Before(r.due)
	if waiting := l.waiting(r); len(waiting) > 0 && !late {
		if l.now.Before(r.wake) {
			return
		}
		if until := l.worthUntil(r, waiting); l.now.Before(until) {
			r.wake = until
			return
		}
	}
	if r.failures > 0 && !late {
		r.wake = r.due // give the swarm time before the next try
		return
	}
	chosen, quorum := l.candidates(r), l.quorum(r)
	if len(chosen) >= quorum {
		l.propose(r, choose(chosen))
		return
	}
	if !l.now.Before(r.wake) {
		l.note("%s waits for workers: %d are ready and connected, %d are needed", r, len(chosen), quorum)
		r.wake = l.now.Add(l.limit())
	}
}

// propose appends an attempt of these members in rank order.
func (l *Leader) propose(r *leaderRound, members []candidate) {
	l.counter++
	id := wire.AttemptID{Term: l.cfg.Term, Counter: l.counter}
	table := attemptTable(members, l.owners(r.fragment, members), paceOf(l.stage(r.fragment)))
	encoded := wire.Encode(table)
	for _, m := range members {
		r.readys[m.worker.Slot].quoted = true
	}
	r.attempt = newAttempt(id, table, wire.HashLeaf(encoded), l.cfg.Slabs[r.fragment], l.now)
	r.phase = Opening
	l.attempts++
	body := &wire.Attempt{Fragment: uint64(r.fragment), Base: r.head.Version, ID: id, Table: r.attempt.table}
	l.emit(Append{Body: body, Table: encoded})
}

// fail gives an attempt up and blames the ranks that did not deliver. The
// first retry comes at once, later ones after doubling pauses.
func (l *Leader) fail(r *leaderRound, reason string, blame uint64) {
	for rank := range r.attempt.members {
		if blame>>uint(rank)&1 == 1 {
			r.strikes[r.attempt.members[rank].Ready.Ready.Slot]++
		}
	}
	l.failed++
	r.failures++
	r.remember(Failure{At: l.now, Attempt: r.attempt.id, Reason: reason})
	l.note("%s: attempt %s failed while %s: %s", r, r.attempt.id, r.phase, reason)
	l.close(r, reason)
	pause := time.Duration(0)
	if r.failures > 1 {
		pause = min(l.limit(), millis(l.cfg.Deadlines.ReadyMin)<<min(r.failures-2, 16))
	}
	r.phase, r.attempt = Collecting, nil
	switch {
	case len(r.readys) == 0:
		l.reopen(r)
	case r.failures > 1: // whoever is in it may be unable to end it alone
		l.letIn(r)
	}
	r.due = l.now.Add(pause)
	r.wake = r.due
}

// logged moves the Leader by what stands in the log.
func (l *Leader) logged(ev Logged) {
	if ev.Term > l.cfg.Term && !l.deposed {
		l.deposed = true
		l.note("this coordinator's term %d is over: the ledger is at term %d", l.cfg.Term, ev.Term)
	}
	switch b := ev.Body.(type) {
	case *wire.Member:
		if b.Op != wire.MemberAdmit {
			l.remove(b.Slot)
		}
	case *wire.Settings:
		l.change(*b)
	case *wire.Attempt:
		l.opened(b)
	case *wire.Commit:
		l.committed(b, ev.Table)
	default: // leases and checkpoints move no round
	}
}

// change puts settings in force. A commit under the old ones can no longer
// enter the log, so it is proposed anew; when the run ended, all is given up.
func (l *Leader) change(s wire.Settings) {
	l.govern(&s, s.Hash())
	for _, r := range l.rounds {
		if s.Phase == wire.PhaseEnded && r.attempt != nil {
			l.note("%s: attempt %s is given up: the run ended", r, r.attempt.id)
			l.close(r, "the run ended")
			r.phase, r.attempt = Collecting, nil
		}
		if r.phase == Committing {
			r.phase = Spreading
		}
	}
}

// govern takes over what settings say.
func (l *Leader) govern(s *wire.Settings, hash wire.Hash) {
	l.settings, l.inForce = *s, hash
	l.tunings.Take(s)
	l.cfg.Deadlines = s.DeadlinesOr(l.cfg.Deadlines)
}

// reopen lets everyone take part in a round that nobody is ready for any more.
func (l *Leader) reopen(r *leaderRound) {
	r.first, r.due, r.wake = time.Time{}, time.Time{}, time.Time{}
	l.letIn(r)
}

// letIn lets those take part who came while the round was open.
func (l *Leader) letIn(r *leaderRound) {
	for _, s := range l.slots {
		s.refuse[r.fragment], s.ignore[r.fragment] = 0, 0
	}
}

// remove forgets a slot that ended and what it had ready.
func (l *Leader) remove(slot wire.Slot) {
	delete(l.slots, slot)
	l.history.Ended(slot)
	l.workers = slices.DeleteFunc(l.workers, func(w Worker) bool { return w.Slot == slot })
	for _, r := range l.rounds {
		delete(r.readys, slot)
		if r.phase == Collecting && len(r.readys) == 0 {
			l.reopen(r)
		}
	}
}

// opened starts the sums of an attempt that the log has.
func (l *Leader) opened(b *wire.Attempt) {
	if b.ID.Term == l.cfg.Term {
		l.counter = max(l.counter, b.ID.Counter)
	}
	if b.Fragment >= uint64(len(l.rounds)) {
		return
	}
	r := l.rounds[b.Fragment]
	if r.phase != Opening || r.attempt.id != b.ID {
		return
	}
	if b.Base != r.head.Version {
		l.fail(r, "the fragment moved on", 0)
		return
	}
	r.attempt.begin(l.now)
	r.phase = Summing
}

// committed moves a fragment to its next version, whoever's attempt it was.
func (l *Leader) committed(c *wire.Commit, encoded []byte) {
	if c.Fragment >= uint64(len(l.rounds)) {
		return
	}
	r := l.rounds[c.Fragment]
	l.settle(r, c, encoded)
	if c.Base < r.head.Version {
		return // history
	}
	switch {
	case r.attempt == nil:
	case r.attempt.id == c.Attempt:
		l.close(r, "")
	default:
		l.note("%s: attempt %s is committed, so %s is given up", about(c.Fragment, c.Base), c.Attempt, r.attempt.id)
		l.close(r, "another attempt committed")
	}
	for _, w := range l.waiting(r) {
		if s := l.record(w.Slot); !r.first.IsZero() {
			s.usual[r.fragment] = mixed(s.usual[r.fragment], l.now.Sub(r.first))
		}
	}
	r.head = wire.FragmentHead{Version: c.Base + 1, State: c.State}
	r.reset()
}

// settle records what a commit leaves for later rounds.
func (l *Leader) settle(r *leaderRound, c *wire.Commit, encoded []byte) {
	var table wire.CommitTable
	switch {
	case r.attempt != nil && r.attempt.results != nil && r.attempt.resultsHash == c.Table:
		table = *r.attempt.results
	case len(encoded) > 0 && wire.HashLeaf(encoded) == c.Table:
		if err := wire.Decode(encoded, &table); err != nil {
			l.note("%s: the commit's table: %v", about(c.Fragment, c.Base), err)
			return
		}
	default:
		l.history.Untold(r.fragment)
		return
	}
	l.history.Committed(c, &table)
	for _, w := range l.workers {
		if s := l.record(w.Slot); s.mutes > 0 && slices.ContainsFunc(table.Slabs, func(s wire.SlabResult) bool { return s.Owner == w.Peer }) {
			s.mutes-- // it can
		}
	}
}

// appendFailed hears that the log did not take an entry, or may not have.
func (l *Leader) appendFailed(ev AppendFailed) {
	if ev.Fragment >= uint64(len(l.rounds)) {
		return
	}
	r := l.rounds[ev.Fragment]
	if r.attempt == nil || r.attempt.id != ev.Attempt {
		return
	}
	switch {
	case ev.Kind == wire.KindAttempt && r.phase == Opening:
		l.fail(r, "the log did not take it: "+ev.Reason, 0)
	case ev.Kind == wire.KindCommit && r.phase == Committing:
		l.note("%s: the ledger will tell whether attempt %s is committed: %s", r, r.attempt.id, ev.Reason)
	}
}
