package coordinator

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/wire"
)

// Bounds on leases.
const (
	// MaxLease bounds the windows of one lease.
	MaxLease = 1 << 16
	// maxUnsettled bounds the windows that a slot may hold without their being
	// committed, which a worker that is cut off for long needs many of.
	maxUnsettled = 1 << 18
)

// leases is who may train on which windows and which are consumed (R3b). It
// moves only by log entries, so that every reader of the log has the same.
type leases struct {
	fragments int
	staged    bool   // the windows of a trainer's lease are claimed by peers of every stage
	context   uint64 // tokens of a window
	batch     uint64 // windows of an inner step
	next      uint64 // the first position never leased
	returned  intervals
	consumed  intervals
	forgotten uint64 // positions below it were leased before a commit whose table is missing
	slots     map[wire.Slot]*lease
	pending   map[wire.Slot][]wire.Range // proposed and not in the log yet
	held      map[uint64]*heldBack       // by fragment: what an open attempt quotes
}

// lease is one slot's part.
type lease struct {
	windows intervals   // granted and not yet committed by every fragment
	done    []intervals // by fragment: those of windows that it has committed
	granted uint64      // windows since the slot began
	steps   uint64      // inner steps that the slot is known to have made
	ended   bool        // the slot is gone; windows are what open attempts still quote, or, with stages, may yet be claimed
}

// heldBack is what the newest attempt of a fragment may still commit. A slot
// that ends meanwhile gives back the rest only: a window that is leased again
// while an attempt quotes it could be committed twice.
type heldBack struct {
	base uint64
	by   map[wire.Slot][]wire.Range
}

func newLeases(spec *wire.RunSpec) *leases {
	return &leases{
		fragments: int(spec.Fragments), staged: spec.Staged(), context: spec.Model.Context, batch: spec.Data.Batch,
		slots: map[wire.Slot]*lease{}, pending: map[wire.Slot][]wire.Range{}, held: map[uint64]*heldBack{},
	}
}

func (l *leases) begin(slot wire.Slot) {
	l.slots[slot] = &lease{done: make([]intervals, l.fragments)}
}

// end gives back what the slot has neither consumed nor in an open attempt.
func (l *leases) end(slot wire.Slot) {
	s := l.slots[slot]
	if s == nil || s.ended {
		return
	}
	s.ended = true
	delete(l.pending, slot)
	if l.staged {
		l.outlive()
		return
	}
	l.settle(slot)
}

// maxOutlived bounds the slots whose windows may be claimed after their end.
const maxOutlived = 64

// outlive keeps the windows of trainers that are gone for the peers that trained on
// them. They are not leased again, since nobody knows which were trained on.
func (l *leases) outlive() {
	var ended []wire.Slot
	for _, slot := range sorted(l.slots) {
		s := l.slots[slot]
		switch {
		case !s.ended:
		case len(s.windows) == 0:
			delete(l.slots, slot)
		default:
			ended = append(ended, slot)
		}
	}
	for len(ended) > maxOutlived {
		delete(l.slots, ended[0])
		ended = ended[1:]
	}
}

// settle returns an ended slot's windows that no open attempt quotes.
func (l *leases) settle(slot wire.Slot) {
	s := l.slots[slot]
	if s == nil || !s.ended || l.staged {
		return
	}
	back := s.windows.clone()
	for _, h := range l.held {
		back.removeAll(h.by[slot])
	}
	s.windows.removeAll(back)
	for i := range s.done {
		s.done[i].removeAll(back)
	}
	back.removeAll(l.consumed)
	back.remove(span(0, l.forgotten))
	l.returned.addAll(back)
	if len(s.windows) == 0 {
		delete(l.slots, slot)
	}
}

// leased moves by a lease entry. Positions that another slot has are skipped:
// the first entry of the log counts.
func (l *leases) leased(b *wire.Lease) {
	fresh := union(b.Ranges)
	l.reach(fresh)
	s := l.slots[b.Slot]
	if s == nil || s.ended {
		return
	}
	delete(l.pending, b.Slot)
	for _, r := range fresh {
		free := l.returned.overlap(r)
		l.returned.removeAll(free)
		s.windows.addAll(free)
		s.granted += free.count()
	}
	if l.staged {
		s.giveUp()
	}
}

// maxAwaited bounds the windows of a trainer that stages may still commit: one that has
// more could lease nothing any more.
const maxAwaited = maxUnsettled - MaxLease

// giveUp forgets the oldest windows of a trainer that has too many: what a peer of some
// stage had counted and took along when it died, its fragment never commits.
func (s *lease) giveUp() {
	for over := s.windows.count(); over > maxAwaited; over = s.windows.count() {
		oldest := s.windows[0]
		gone := span(oldest.From, oldest.From+min(oldest.Len(), over-maxAwaited))
		s.windows.remove(gone)
		for i := range s.done {
			s.done[i].remove(gone)
		}
	}
}

// reach moves the end of the stream behind ranges; what lies between is free.
func (l *leases) reach(rs []wire.Range) {
	for _, r := range rs {
		if r.To > l.next {
			l.returned.add(span(l.next, r.To))
			l.next = r.To
		}
	}
}

// propose returns the ranges of a slot's next lease and sets them aside: until
// the log has them or the slot ends, no other lease names them. Asked again, it
// returns the same ones.
func (l *leases) propose(slot wire.Slot, windows uint64) ([]wire.Range, error) {
	if pending := l.pending[slot]; len(pending) > 0 {
		return pending, nil
	}
	granted, err := l.grant(slot, windows)
	if err != nil {
		return nil, err
	}
	l.pending[slot] = granted
	return granted, nil
}

// stepped takes in a slot's own word about the inner steps it has made.
func (l *leases) stepped(slot wire.Slot, steps uint64) {
	if s := l.slots[slot]; s != nil {
		s.steps = max(s.steps, min(steps, s.granted/l.batch+1))
	}
}

// grant returns the ranges of the next lease of a slot, or nothing and why.
func (l *leases) grant(slot wire.Slot, windows uint64) ([]wire.Range, error) {
	s := l.slots[slot]
	if s == nil || s.ended {
		return nil, errNoSlot
	}
	want := min(windows, MaxLease)
	unused := s.granted - min(s.granted, s.steps*l.batch)
	if l.staged {
		unused = 0 // a peer's inner steps are not its trainer's
	}
	if unused >= 2*want {
		return nil, fmt.Errorf("it has %d windows that it has not trained on yet", unused)
	}
	unsettled := s.windows.count()
	if unsettled >= maxUnsettled {
		return nil, fmt.Errorf("%d of its windows are not committed yet", unsettled)
	}
	want = min(want, 2*want-unused, maxUnsettled-unsettled)
	return l.free(want), nil
}

// free picks positions that nobody has and no proposal names: returned ones
// first, then the next of the stream.
func (l *leases) free(want uint64) []wire.Range {
	pool, next := l.returned.clone(), l.next
	for _, pending := range l.pending {
		pool.removeAll(pending)
		for _, r := range pending {
			next = max(next, r.To)
		}
	}
	var out intervals
	for _, r := range pool {
		if want == 0 || len(out) == wire.MaxRanges-1 {
			break
		}
		n := min(want, r.Len())
		out.add(span(r.From, r.From+n))
		want -= n
	}
	if want > 0 {
		out.add(span(next, next+want))
	}
	return out
}

var (
	errNoSlot = errors.New("the slot is not in the run")
	errTwice  = errors.New("a window is named twice")
)

// check says whether a contribution of a fragment may count these windows.
func (l *leases) check(slot wire.Slot, fragment uint64, windows []wire.Range) error {
	s := l.slots[slot]
	if s == nil || fragment >= uint64(l.fragments) {
		return errNoSlot
	}
	if union(windows).count() != wire.Windows(windows) {
		return errTwice
	}
	if l.staged {
		return l.checkStaged(fragment, windows)
	}
	for _, r := range windows {
		if !s.windows.covers(r) {
			return fmt.Errorf("windows [%d, %d) are not leased to slot %d", r.From, r.To, slot)
		}
		if len(s.done[fragment].overlap(r)) > 0 {
			return fmt.Errorf("fragment %d has committed windows of [%d, %d) already", fragment, r.From, r.To)
		}
	}
	return nil
}

// checkStaged is check where trainers hold the leases and peers of each stage claim
// their windows: leased to anyone, and not committed by the fragment.
func (l *leases) checkStaged(fragment uint64, windows []wire.Range) error {
	left := union(windows)
	for _, slot := range sorted(l.slots) {
		s := l.slots[slot]
		for _, r := range windows {
			if len(s.done[fragment].overlap(r)) > 0 {
				return fmt.Errorf("fragment %d has committed windows of [%d, %d) already", fragment, r.From, r.To)
			}
			left.removeAll(s.windows.overlap(r))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("windows [%d, %d) are not leased", left[0].From, left[0].To)
	}
	return nil
}

// attempted remembers what an attempt quotes; older attempts of its fragment
// cannot commit any more (R7).
func (l *leases) attempted(fragment, base uint64, t *wire.AttemptTable) {
	old := l.held[fragment]
	h := &heldBack{base: base, by: map[wire.Slot][]wire.Range{}}
	for i := range t.Members {
		r := &t.Members[i].Ready.Ready
		h.by[r.Slot] = r.Windows
		l.recall(r.Slot, r.Windows)
	}
	l.held[fragment] = h
	l.release(old)
}

// newReign ends what was open: attempts of an older term cannot commit (R7).
func (l *leases) newReign() {
	for _, f := range sorted(l.held) {
		h := l.held[f]
		delete(l.held, f)
		l.release(h)
	}
}

// recall takes windows that an ended slot gave back out of the pool again: the
// attempt that quotes them was under way when the slot ended.
func (l *leases) recall(slot wire.Slot, windows []wire.Range) {
	s := l.slots[slot]
	if s != nil && !s.ended || l.staged {
		return
	}
	for _, r := range windows {
		free := l.returned.overlap(r)
		if len(free) == 0 {
			continue
		}
		if s == nil {
			s = &lease{done: make([]intervals, l.fragments), ended: true}
			l.slots[slot] = s
		}
		l.returned.removeAll(free)
		s.windows.addAll(free)
	}
}

// release settles the ended slots of an attempt that is over.
func (l *leases) release(h *heldBack) {
	if h == nil {
		return
	}
	slots := make([]wire.Slot, 0, len(h.by))
	for slot := range h.by {
		slots = append(slots, slot)
	}
	slices.Sort(slots)
	for _, slot := range slots {
		l.settle(slot)
	}
}

// committed moves by a commit entry and its table.
func (l *leases) committed(fragment uint64, t *wire.CommitTable) {
	for rank, c := range t.Contributors {
		if !contributed(t, rank) {
			continue
		}
		l.reach(c.Windows)
		l.consumed.addAll(c.Windows)
		l.returned.removeAll(c.Windows)
		s := l.slots[c.Slot]
		if s == nil || fragment >= uint64(l.fragments) {
			continue
		}
		s.steps = max(s.steps, c.To)
		if l.staged {
			for _, s := range l.slots { // each moves by itself
				s.settled(fragment, c.Windows)
			}
			continue
		}
		s.settled(fragment, c.Windows)
	}
	h := l.held[fragment]
	delete(l.held, fragment)
	l.release(h)
}

// settled notes that a fragment has committed windows.
func (s *lease) settled(fragment uint64, windows []wire.Range) {
	moved := false
	for _, r := range windows {
		if done := s.windows.overlap(r); len(done) > 0 {
			s.done[fragment].addAll(done)
			moved = true
		}
	}
	if moved {
		s.prune()
	}
}

// prune forgets windows that every fragment has committed.
func (s *lease) prune() {
	all := s.done[0].clone()
	for _, done := range s.done[1:] {
		var both intervals
		for _, r := range done {
			both.addAll(all.overlap(r))
		}
		all = both
	}
	s.windows.removeAll(all)
	for i := range s.done {
		s.done[i].removeAll(all)
	}
}

// forget is committed without the table: whatever was leased by now counts as
// consumed, because losing windows is better than committing some twice.
func (l *leases) forget(fragment uint64) {
	l.forgotten = l.next
	l.returned.remove(span(0, l.forgotten))
	h := l.held[fragment]
	delete(l.held, fragment)
	l.release(h)
}

// fresh returns how many windows of a commit no earlier commit consumed.
func (l *leases) fresh(t *wire.CommitTable) uint64 {
	var all intervals
	for rank, c := range t.Contributors {
		if contributed(t, rank) {
			all.addAll(c.Windows)
		}
	}
	all.removeAll(l.consumed)
	return all.count()
}

// contributed reports whether a member is in any slab's sum. One that is in
// none has committed nothing: its windows count when they really arrive.
func contributed(t *wire.CommitTable, rank int) bool {
	return slices.ContainsFunc(t.Slabs, func(s wire.SlabResult) bool { return s.Includes(rank) })
}
