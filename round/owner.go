package round

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"dunlin/wire"
)

// window is how many requests are in flight to one member.
const window = 8

// maxDown bounds the peers that are remembered to be gone.
const maxDown = 4096

// Owner gathers, for every slab this peer owns in an open attempt, the other
// members' contributions, has them summed as soon as all are there or given
// up, and says so. What it received is kept for later attempts of the round.
type Owner struct {
	spec   Spec
	self   wire.PeerID
	tasks  []*task                     // by fragment, nil without an attempt
	kept   map[wire.Hash]*contribution // by root, of the rounds that are open
	flying map[slabID]wire.PeerID      // requests under way
	busy   map[wire.PeerID]int         // how many of them by member
	down   map[wire.PeerID]time.Time   // disconnected now, since then
	now    time.Time
	out    []Effect
}

// contribution is another member's, with the slabs received so far.
type contribution struct {
	fragment int
	base     uint64
	have     map[uint64]bool
}

type slabID struct {
	root wire.Hash
	slab uint64
}

// task is what this peer owns in the newest attempt of a fragment.
type task struct {
	fragment int
	id       wire.AttemptID
	base     uint64
	members  []wire.AttemptMember
	self     int // own rank, -1 when not a member
	jobs     []*job
	dead     uint64     // ranks given up
	waiting  [][]uint64 // by rank: slabs to ask for, in order
	owners   []int      // by slab: the rank that sums it
	progress time.Time
}

// job is one owned slab; its place in task.jobs is the slab's number.
type job struct {
	state   jobState
	retried uint64 // ranks that failed once
	result  wire.SlabResult
}

type jobState uint8

const (
	gathering jobState = iota
	summing
	done
	failed
)

// NewOwner returns an Owner without work.
func NewOwner(spec Spec, self wire.PeerID) (*Owner, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	return &Owner{
		spec: spec, self: self, tasks: make([]*task, len(spec.Slabs)), kept: make(map[wire.Hash]*contribution),
		flying: make(map[slabID]wire.PeerID), busy: make(map[wire.PeerID]int), down: make(map[wire.PeerID]time.Time),
	}, nil
}

// Step takes one event and returns what to do, in order.
func (o *Owner) Step(now time.Time, ev Event) []Effect {
	o.now, o.out = now, nil
	switch ev := ev.(type) {
	case Logged:
		switch b := ev.Body.(type) {
		case *wire.Attempt:
			o.opened(b, ev.Table)
		case *wire.Commit:
			o.settle(b, ev.Table)
			o.committed(b)
		case *wire.Settings:
			o.spec.Deadlines = b.DeadlinesOr(o.spec.Deadlines)
			if b.Phase == wire.PhaseEnded {
				clear(o.tasks) // nothing is committed any more
			}
		default: // nothing else changes who owns what
		}
	case Reassigned:
		o.reassigned(&ev.Message)
	case SlabFetched:
		o.fetched(ev)
	case FetchFailed:
		o.fetchFailed(ev)
	case PeerUp:
		delete(o.down, ev.Peer)
	case PeerDown:
		o.peerDown(ev.Peer)
	case Summed:
		o.summed(ev)
	case SumFailed:
		if t, j := o.job(ev.Fragment, ev.Attempt, ev.Slab, summing); j != nil {
			o.giveBack(t, j, ev.Slab, 0, ev.Reason)
		}
	case Reconnected:
		o.repeat()
	default: // Tick, and events of the other machines
	}
	o.expire()
	o.ask()
	return o.out
}

func (o *Owner) emit(e Effect) { o.out = append(o.out, e) }

func (o *Owner) note(format string, args ...any) { o.emit(Note{fmt.Sprintf(format, args...)}) }

// Deadline returns when the next Tick is due, or zero. Requests have the
// driver's watchdog; this bounds a task as a whole.
func (o *Owner) Deadline() time.Time {
	var next time.Time
	for _, t := range o.tasks {
		if t != nil && t.open() {
			next = earliest(next, t.progress.Add(millis(o.spec.Deadlines.Attempt)))
		}
	}
	return next
}

// Busy reports whether a slab of this peer is undecided.
func (o *Owner) Busy() bool {
	return slices.ContainsFunc(o.tasks, func(t *task) bool { return t != nil && t.open() })
}

// open reports whether any slab is undecided.
func (t *task) open() bool {
	return slices.ContainsFunc(t.jobs, func(j *job) bool { return j != nil && j.state <= summing })
}

// opened starts on the slabs of a new attempt.
func (o *Owner) opened(b *wire.Attempt, encoded []byte) {
	if b.Fragment >= uint64(len(o.tasks)) || !o.spec.mine(int(b.Fragment)) {
		return
	}
	f := int(b.Fragment)
	if t := o.tasks[f]; t != nil && !after(b.ID, t.id) {
		return
	}
	o.tasks[f] = nil
	if len(encoded) == 0 || wire.HashLeaf(encoded) != b.Table {
		o.note("%s: attempt %s came without its table: nothing is summed for it", about(b.Fragment, b.Base), b.ID)
		return
	}
	var table wire.AttemptTable
	err := wire.Decode(encoded, &table)
	if err == nil {
		err = table.Validate(o.spec.Slabs[f])
	}
	if err != nil {
		o.note("%s: attempt %s: %v", about(b.Fragment, b.Base), b.ID, err)
		return
	}
	t := &task{
		owners:   make([]int, o.spec.Slabs[f]),
		fragment: f, id: b.ID, base: b.Base, members: table.Members, jobs: make([]*job, o.spec.Slabs[f]),
		waiting: make([][]uint64, len(table.Members)), progress: o.now,
		self: slices.IndexFunc(table.Members, func(m wire.AttemptMember) bool { return m.Peer == o.self }),
	}
	if t.self < 0 {
		return
	}
	o.tasks[f] = t
	for r := range t.members {
		switch k := o.kept[t.members[r].Ready.Ready.Root]; {
		case r == t.self:
		case k == nil:
			o.kept[t.members[r].Ready.Ready.Root] = &contribution{fragment: f, base: b.Base, have: make(map[uint64]bool)}
		case k.fragment != f: // whoever copies it need not be in this sum as well
			o.note("fragment %d, attempt %s: %s is left out: it names a contribution to fragment %d", f, t.id, t.members[r].Peer.Short(), k.fragment)
			t.dead |= 1 << uint(r)
		}
	}
	for _, s := range table.Owners {
		for slab := s.From; slab < s.To; slab++ {
			if t.owners[slab] = int(s.Owner); t.owners[slab] == t.self {
				o.take(t, slab)
			}
		}
	}
	for r := range t.members {
		if o.justLost(t.members[r].Peer) {
			o.giveUp(t, r, "disconnected")
		}
	}
}

// take starts on one slab: what is missing of it is queued.
func (o *Owner) take(t *task, slab uint64) {
	t.jobs[slab] = &job{}
	for r := range t.members {
		if t.dead>>uint(r)&1 == 0 && !o.has(t, r, slab) {
			t.waiting[r] = append(t.waiting[r], slab)
		}
	}
	o.decide(t, slab)
}

// has reports whether the slab of a rank's contribution is at hand.
func (o *Owner) has(t *task, rank int, slab uint64) bool {
	if rank == t.self {
		return true
	}
	c := o.kept[t.members[rank].Ready.Ready.Root]
	return c != nil && c.fragment == t.fragment && c.have[slab]
}

// ask sends the requests that the windows permit.
func (o *Owner) ask() {
	for _, t := range o.tasks {
		if t == nil {
			continue
		}
		for r := range t.members {
			m := &t.members[r]
			for len(t.waiting[r]) > 0 && o.busy[m.Peer] < window {
				slab := t.waiting[r][0]
				t.waiting[r] = t.waiting[r][1:]
				id := slabID{m.Ready.Ready.Root, slab}
				_, flying := o.flying[id]
				if j := t.jobs[slab]; j == nil || j.state != gathering || o.has(t, r, slab) || flying {
					continue
				}
				o.flying[id] = m.Peer
				o.busy[m.Peer]++
				o.emit(FetchSlab{Peer: m.Peer, Addrs: m.Addrs, Root: id.root, Slab: slab, Slabs: len(t.jobs)})
			}
		}
	}
}

// landed takes a request off the books.
func (o *Owner) landed(id slabID) {
	peer, ok := o.flying[id]
	if !ok {
		return
	}
	delete(o.flying, id)
	if o.busy[peer]--; o.busy[peer] <= 0 {
		delete(o.busy, peer)
	}
}

func (o *Owner) fetched(ev SlabFetched) {
	o.landed(slabID{ev.Root, ev.Slab})
	c := o.kept[ev.Root]
	if c == nil {
		o.emit(DropSlabs{Roots: []wire.Hash{ev.Root}}) // its round is over
		return
	}
	if ev.Slab >= uint64(o.spec.Slabs[c.fragment]) {
		return
	}
	c.have[ev.Slab] = true
	if t := o.tasks[c.fragment]; t != nil {
		t.progress = o.now
		o.decide(t, ev.Slab)
	}
}

// fetchFailed asks once more; a member that fails twice at a slab is given up
// for the attempt, since what follows would stall the same way.
func (o *Owner) fetchFailed(ev FetchFailed) {
	o.landed(slabID{ev.Root, ev.Slab})
	c := o.kept[ev.Root]
	if c == nil || o.tasks[c.fragment] == nil {
		return
	}
	t := o.tasks[c.fragment]
	if ev.Slab >= uint64(len(t.jobs)) || t.jobs[ev.Slab] == nil {
		return
	}
	t.progress = o.now
	j := t.jobs[ev.Slab]
	for rank := range t.members {
		m, bit := &t.members[rank], uint64(1)<<uint(rank)
		switch {
		case m.Ready.Ready.Root != ev.Root || t.dead&bit != 0:
		case m.Peer != ev.Peer: // the same bytes from another member
			t.waiting[rank] = append(t.waiting[rank], ev.Slab)
		case j.retried&bit == 0 && o.down[ev.Peer].IsZero():
			j.retried |= bit
			t.waiting[rank] = append(t.waiting[rank], ev.Slab)
		default:
			o.giveUp(t, rank, ev.Reason)
		}
	}
}

func (o *Owner) peerDown(peer wire.PeerID) {
	if len(o.down) >= maxDown {
		clear(o.down) // at worst some are asked in vain
	}
	o.down[peer] = o.now
	for _, t := range o.tasks {
		if t == nil {
			continue
		}
		for r := range t.members {
			if t.members[r].Peer == peer && r != t.self && t.dead>>uint(r)&1 == 0 {
				o.giveUp(t, r, "disconnected")
			}
		}
	}
}

// justLost reports whether a peer went so lately that the coordinator, which opened
// an attempt with it, may not have known: a dial would lead nowhere, and only its
// own deadline would tell. One that went before is dialled: it may be back.
func (o *Owner) justLost(peer wire.PeerID) bool {
	since, down := o.down[peer]
	return down && o.now.Before(since.Add(millis(o.spec.Deadlines.Stall)))
}

// giveUp waits no longer for a member in this attempt; what it delivered
// counts.
func (o *Owner) giveUp(t *task, rank int, reason string) {
	t.dead |= 1 << uint(rank)
	t.waiting[rank] = nil
	if !t.open() {
		return
	}
	o.note("fragment %d, attempt %s: %s is not waited for: %s", t.fragment, t.id, t.members[rank].Peer.Short(), reason)
	for slab := range t.jobs {
		o.decide(t, uint64(slab))
	}
}

// decide has a slab summed once every member's is at hand or given up, if
// those at hand are a quorum.
func (o *Owner) decide(t *task, slab uint64) {
	j := t.jobs[slab]
	if j == nil || j.state != gathering {
		return
	}
	var in uint64
	for r := range t.members {
		if o.has(t, r, slab) {
			in |= 1 << uint(r)
		}
	}
	all := allRanks(len(t.members))
	switch {
	case in|t.dead != all:
	case quorum(t.members, in):
		j.state = summing
		t.progress = o.now
		o.emit(SumSlab{Fragment: uint64(t.fragment), Base: t.base, Attempt: t.id, Slab: slab, Ranks: in, Members: t.members})
	default:
		o.giveBack(t, j, slab, all&^in, "too few delivered")
	}
}

// giveBack tells the coordinator that a slab cannot be summed here.
func (o *Owner) giveBack(t *task, j *job, slab, missing uint64, reason string) {
	j.state = failed
	o.emit(Report{&wire.SlabFailed{Fragment: uint64(t.fragment), Attempt: t.id, Slab: slab, Missing: missing, Reason: cut(reason)}})
}

// job returns an owned slab of the current attempt in a state, or nil.
func (o *Owner) job(fragment uint64, id wire.AttemptID, slab uint64, state jobState) (*task, *job) {
	if fragment >= uint64(len(o.tasks)) {
		return nil, nil
	}
	t := o.tasks[fragment]
	if t == nil || t.id != id || slab >= uint64(len(t.jobs)) || t.jobs[slab] == nil || t.jobs[slab].state != state {
		return nil, nil
	}
	return t, t.jobs[slab]
}

// summed announces a result, unless the sum refused so much that the rest is
// below quorum.
func (o *Owner) summed(ev Summed) {
	t, j := o.job(ev.Fragment, ev.Attempt, ev.Slab, summing)
	if j == nil {
		return
	}
	t.progress = o.now
	all := allRanks(len(t.members))
	in := ev.Members & all
	if !quorum(t.members, in) {
		o.giveBack(t, j, ev.Slab, all&^in, "too few are left after the sum's checks")
		return
	}
	j.state = done
	j.result = wire.SlabResult{
		Slab: ev.Slab, Owner: o.self, Hash: ev.Hash, Length: ev.Length, Weight: weightOf(t.members, in), Members: in,
		Before: ev.Before, After: ev.After,
	}
	o.emit(Report{&wire.SlabDone{Fragment: ev.Fragment, Attempt: t.id, Slabs: []wire.SlabResult{j.result}}})
}

// reassigned takes over slabs, or lets go of those that another has now.
func (o *Owner) reassigned(m *wire.Reassign) {
	if m.Fragment >= uint64(len(o.tasks)) {
		return
	}
	t := o.tasks[m.Fragment]
	if t == nil || t.id != m.Attempt || m.Owner >= uint64(len(t.members)) {
		return
	}
	t.progress = o.now
	for _, slab := range m.Slabs {
		if slab >= uint64(len(t.jobs)) {
			continue
		}
		if from := t.owners[slab]; m.Reason == ownerGone && from != t.self && t.dead>>uint(from)&1 == 0 {
			o.giveUp(t, from, m.Reason) // it would be asked in vain for as long as it took the coordinator to find out
		}
		t.owners[slab] = int(m.Owner)
		switch {
		case int(m.Owner) != t.self:
			t.jobs[slab] = nil
		case t.jobs[slab] == nil || t.jobs[slab].state == failed:
			o.take(t, slab)
		case t.jobs[slab].state == done:
			o.emit(Report{&wire.SlabDone{Fragment: m.Fragment, Attempt: t.id, Slabs: []wire.SlabResult{t.jobs[slab].result}}})
		}
	}
}

// repeat says again what the coordinator may have lost.
func (o *Owner) repeat() {
	for _, t := range o.tasks {
		if t == nil {
			continue
		}
		var results []wire.SlabResult
		for _, j := range t.jobs {
			if j != nil && j.state == done {
				results = append(results, j.result)
			}
		}
		if len(results) > 0 {
			o.emit(Report{&wire.SlabDone{Fragment: uint64(t.fragment), Attempt: t.id, Slabs: results}})
		}
	}
}

// expire ends tasks that made no progress: the driver owes an answer to every
// request and every sum, so this is the last resort.
func (o *Owner) expire() {
	limit := millis(o.spec.Deadlines.Attempt)
	for _, t := range o.tasks {
		if t == nil || !t.open() || o.now.Before(t.progress.Add(limit)) {
			continue
		}
		reason := fmt.Sprintf("no progress for %s", limit)
		o.note("fragment %d, attempt %s: %s: its slabs are given back", t.fragment, t.id, reason)
		for slab, j := range t.jobs {
			if j != nil && j.state <= summing {
				o.giveBack(t, j, uint64(slab), 0, reason)
			}
		}
	}
}

// settle passes a commit on to the error feedback. A commit whose table is not at
// hand is not: what follows it begins with empty error feedback, as the rows say.
func (o *Owner) settle(c *wire.Commit, encoded []byte) {
	if !o.spec.OwnerFeedback || !o.spec.mine(int(c.Fragment)) || len(encoded) == 0 || wire.HashLeaf(encoded) != c.Table {
		return
	}
	var table wire.CommitTable
	if err := wire.Decode(encoded, &table); err != nil {
		o.note("%s: the commit's table: %v", about(c.Fragment, c.Base), err)
		return
	}
	o.emit(Settle{Fragment: c.Fragment, Base: c.Base, Table: &table})
}

// committed drops everything of rounds that are over.
func (o *Owner) committed(c *wire.Commit) {
	if c.Fragment >= uint64(len(o.tasks)) {
		return
	}
	if t := o.tasks[c.Fragment]; t != nil && t.base <= c.Base {
		o.tasks[c.Fragment] = nil
	}
	var roots []wire.Hash
	for root, k := range o.kept {
		if uint64(k.fragment) == c.Fragment && k.base <= c.Base {
			roots = append(roots, root)
			delete(o.kept, root)
		}
	}
	if len(roots) > 0 {
		slices.SortFunc(roots, func(a, b wire.Hash) int { return bytes.Compare(a[:], b[:]) })
		o.emit(DropSlabs{Roots: roots})
	}
}

// OwnerSnapshot is what people see of an Owner, by fragment with an attempt.
type OwnerSnapshot struct {
	Fragment                         int
	Attempt                          wire.AttemptID
	Gathering, Summing, Done, Failed int
	GivenUp                          uint64 // ranks
}

// Snapshot returns a copy of what people see.
func (o *Owner) Snapshot() []OwnerSnapshot {
	var out []OwnerSnapshot
	for _, t := range o.tasks {
		if t == nil {
			continue
		}
		s := OwnerSnapshot{Fragment: t.fragment, Attempt: t.id, GivenUp: t.dead}
		counts := [...]*int{&s.Gathering, &s.Summing, &s.Done, &s.Failed}
		for _, j := range t.jobs {
			if j != nil {
				*counts[j.state]++
			}
		}
		out = append(out, s)
	}
	return out
}
