package catchup

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"dunlin/wire"
)

// How long this machine waits, and how much it does at once.
const (
	maxFetches   = 64               // under way in all
	maxBytes     = 4 << 20          // of them, but for the first
	maxFromPeer  = 16               // of one peer
	commitsAhead = 8                // whose frames are fetched before it is their turn
	tablesKept   = 16               // that came with entries; later ones are fetched
	entriesWait  = 5 * time.Second  // for entries to come
	orderWait    = time.Minute      // before an order to the replica is said to be slow
	fetchWait    = 2 * time.Minute  // beyond the driver's own watchdog
	firstRetry   = time.Second      // after a failure; doubles
	lastRetry    = 15 * time.Second // up to this
	maxTries     = 5                // to prepare one result
)

// Config is what a replica is brought up by.
type Config struct {
	Self        wire.PeerID
	Coordinator wire.PeerID // may be Self; Leads replaces it
	Spec        *wire.RunSpec
	State       []wire.FragmentHead // state 0, by fragment
	Slabs       []int               // of each fragment
	SlabBytes   []uint64            // of one encoded result slab, by fragment; an estimate
	Holds       []bool              // fragments whose state this peer has; nil: all
}

// Validate checks the configuration.
func (c Config) Validate() error {
	if c.Spec == nil || c.Self.IsZero() || c.Coordinator.IsZero() {
		return errors.New("catch-up: the run spec, the own id and the coordinator's are needed")
	}
	n := int(c.Spec.Fragments)
	if n < 1 || n > wire.MaxFragments || len(c.State) != n || len(c.Slabs) != n || len(c.SlabBytes) != n {
		return fmt.Errorf("catch-up: %d fragments, but %d states, %d slab counts and %d slab sizes", n, len(c.State), len(c.Slabs), len(c.SlabBytes))
	}
	if c.Holds != nil && (len(c.Holds) != n || !slices.Contains(c.Holds, true)) {
		return fmt.Errorf("catch-up: %d fragments, but it is said of %d whether they are held, or none is", n, len(c.Holds))
	}
	for f, s := range c.Slabs {
		if s < 1 || s > wire.MaxSlabs {
			return fmt.Errorf("catch-up: fragment %d of %d slabs", f, s)
		}
	}
	return nil
}

// Machine brings one replica to the head of the ledger and keeps it there. It
// is not safe for concurrent use.
type Machine struct {
	cfg        Config
	stateBytes []uint64 // of each fragment's state

	// The ledger.
	opened   uint64 // the ledger reached this when it was opened
	logged   uint64 // the entries up to here have come
	floor    uint64 // queue holds what matters above here
	tip      uint64 // highest entry that was ever fed
	rereadTo uint64 // what the own ledger is being read up to
	term     uint64
	target   uint64 // some peer says that its ledger reaches this
	ask      ask
	slots    map[wire.Slot]wire.PeerID
	queue    []*entry // commits and marks not applied yet, ascending
	whole    *wire.Checkpoint
	newest   *wire.Checkpoint

	// The replica.
	heads   []wire.FragmentHead
	order   *order
	plan    *plan
	badMark uint64 // a checkpoint that did not load
	brokeAt uint64 // where the state differed last
	reloads int    // since then
	results []*result
	syncTo  uint64
	syncing bool
	saving  *wire.Checkpoint // being written; nil: none
	holds   uint64

	fetcher fetcher

	waiting string // why nothing moves
	now     time.Time
	effects []Effect
}

// entry is a commit or the mark of a checkpoint that is not applied yet.
type entry struct {
	height  uint64
	commit  *wire.Commit
	mark    *wire.Checkpoint
	raw     []byte // table as it came with the entry
	table   *wire.CommitTable
	tableAt *want
	frames  *want
	tries   int
	retry   time.Time
}

// order is what the replica is doing now; one thing at a time, so that no
// commit is applied twice or out of order.
type order struct {
	kind   orderKind
	height uint64
	since  time.Time
}

type orderKind uint8

const (
	orderApply orderKind = iota
	orderPromote
	orderLoad
)

func (k orderKind) String() string {
	return [...]string{"applying", "promoting", "loading"}[k]
}

// New returns a machine whose replica is in state 0 and whose ledger is empty.
// Whatever the ledger holds is fed as Logged.
func New(cfg Config) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Machine{
		cfg: cfg, heads: slices.Clone(cfg.State), slots: map[wire.Slot]wire.PeerID{},
		stateBytes: make([]uint64, cfg.Spec.Fragments), fetcher: newFetcher(),
	}
	for _, t := range cfg.Spec.Tensors {
		m.stateBytes[t.Fragment] += 8 * uint64(t.Size()) // weights and outer momentum
	}
	return m, nil
}

// keeps reports whether the replica has a fragment's state. Commits of others only
// move its head.
func (m *Machine) keeps(fragment int) bool { return m.cfg.Holds == nil || m.cfg.Holds[fragment] }

// Step takes in an event and returns what is to be done, in order.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.now, m.effects = now, nil
	switch e := ev.(type) {
	case Opened:
		m.opened = e.Height
	case Logged:
		m.log(e)
	case Sync:
		m.syncing, m.syncTo = true, e.Head
		m.hint(m.cfg.Coordinator, e.Head)
	case HeadHint:
		m.hint(e.Peer, e.Height)
	case ResultsFrom:
		m.announced(&e.Results)
	case PeerUp:
		m.fetcher.peerUp(e.Peer)
		m.badMark = 0 // it may have what nobody had
	case PeerDown:
		m.fetcher.peerDown(e.Peer, now)
	case Leads:
		m.cfg.Coordinator = e.Peer
	case Reconnected:
		m.sayHaves()
	case Fetched:
		m.fetcher.fetched(e)
	case FetchFailed:
		m.fetcher.failed(e.Ref, e.Peer, e.Gone, now)
	case Prepared:
		m.prepared(e)
	case PrepareFailed:
		m.prepareFailed(e)
	case Applied:
		m.applied(e)
	case ApplyFailed:
		m.applyFailed(e)
	case CheckpointSaved:
		if m.saving != nil && m.saving.At == e.At {
			m.saving, m.holds = nil, e.At
			m.do(Holds(e))
		}
	case SaveFailed:
		if m.saving != nil && m.saving.At == e.At {
			m.saving = nil
			m.note("checkpoint %d is not kept here: %s", e.At, e.Reason)
		}
	case Loaded:
		m.loaded(e)
	case LoadFailed:
		m.loadFailed(e)
	case Tick:
	}
	if m.tip < m.opened { // what is read next may name a newer checkpoint, and what older ones need may be gone
		return m.take()
	}
	m.fetcher.expire(now)
	m.slowOrder()
	m.choosePlan()
	m.advance()
	m.followPlan()
	m.prepareResults()
	m.pump()
	m.askEntries()
	m.checkSynced()
	return m.take()
}

// take returns what is to be done.
func (m *Machine) take() []Effect {
	effects := m.effects
	m.effects = nil
	return effects
}

func (m *Machine) do(e Effect) { m.effects = append(m.effects, e) }

func (m *Machine) note(format string, args ...any) {
	m.do(Note{Text: fmt.Sprintf(format, args...)})
}

// log takes in one entry.
func (m *Machine) log(e Logged) {
	if e.Height <= m.logged {
		return
	}
	m.tip = max(m.tip, e.Height)
	if e.Height != m.logged+1 {
		m.reread()
		return
	}
	m.logged, m.ask.tries = e.Height, 0
	if !m.ask.until.IsZero() {
		m.ask.until = m.now.Add(entriesWait)
	}
	switch b := e.Body.(type) {
	case *wire.Member:
		if b.Op == wire.MemberAdmit {
			m.slots[b.Slot] = b.Peer
		} else {
			delete(m.slots, b.Slot)
		}
	case *wire.Commit:
		q := &entry{height: e.Height, commit: b}
		if len(m.queue) < tablesKept {
			q.raw = e.Table
		}
		m.queue = append(m.queue, q)
	case *wire.Checkpoint:
		m.marked(e.Height, b)
	case *wire.Lease, *wire.Attempt, *wire.Settings:
	}
	if e.Term > m.term {
		m.term = e.Term
		m.sayHaves() // a new reign knows nothing of them
	}
	m.settle()
	m.reread()
}

// settle moves the floor to just below the first entry that is not applied.
func (m *Machine) settle() {
	m.floor = m.logged
	if len(m.queue) > 0 {
		m.floor = m.queue[0].height - 1
	}
}

// pop takes the first entry out of the queue.
func (m *Machine) pop() {
	m.drop(m.queue[0])
	m.queue = m.queue[1:]
	m.settle()
}

func (m *Machine) drop(e *entry) {
	m.fetcher.release(e.tableAt)
	m.fetcher.release(e.frames)
	e.tableAt, e.frames = nil, nil
}

// begin gives the replica an order; finish ends it and reports whether that was it.
func (m *Machine) begin(kind orderKind, height uint64, e Effect) {
	m.order = &order{kind: kind, height: height, since: m.now}
	m.do(e)
}

func (m *Machine) finish(kind orderKind, height uint64) bool {
	if m.order == nil || m.order.kind != kind || m.order.height != height {
		return false
	}
	m.order = nil
	return true
}

// slowOrder says when the replica takes long. It never orders again what may
// still be done.
func (m *Machine) slowOrder() {
	if m.order != nil && !m.now.Before(m.order.since.Add(orderWait)) {
		m.order.since = m.now
		m.note("still %s height %d after %v", m.order.kind, m.order.height, orderWait)
	}
}

// advance applies what is next, in strict order of height.
func (m *Machine) advance() {
	for m.order == nil && m.plan == nil && len(m.queue) > 0 {
		e := m.queue[0]
		if e.mark != nil {
			m.reachMark(e.mark)
			continue
		}
		head := m.heads[e.commit.Fragment]
		if e.commit.Base != head.Version {
			m.note("commit %d of fragment %d is not on its head; it is ignored", e.height, e.commit.Fragment)
			m.pop()
			continue
		}
		if !m.keeps(int(e.commit.Fragment)) {
			m.heads[e.commit.Fragment] = wire.FragmentHead{Version: e.commit.Base + 1, State: e.commit.State}
			m.pop()
			m.do(Follow{Height: e.height, Commit: e.commit})
			continue
		}
		if e.commit.BaseState != head.State && !e.commit.BaseState.IsZero() {
			m.repair(e.height, fmt.Sprintf("fragment %d at version %d is %s here, the run's is %s", e.commit.Fragment, head.Version, head.State.Short(), e.commit.BaseState.Short()))
			return
		}
		if !m.startCommit(e) {
			return
		}
	}
}

// startCommit promotes a commit's prepared shadow, or applies its frames when
// they are here. It reports whether the queue moved.
func (m *Machine) startCommit(e *entry) bool {
	r := m.resultOf(e.commit)
	switch {
	case r != nil && r.state == resultPreparing:
		return false
	case r != nil && r.state == resultPrepared && r.have != e.commit.State:
		m.repair(e.height, fmt.Sprintf("commit %d of fragment %d makes %s here, the run's is %s", e.height, e.commit.Fragment, r.have.Short(), e.commit.State.Short()))
		return false
	case r != nil && r.state == resultPrepared:
		e.table = r.table
		m.begin(orderPromote, e.height, Promote{Height: e.height, Commit: e.commit})
		return true
	}
	if m.needs(e); e.frames == nil || !e.frames.here() || m.now.Before(e.retry) {
		return false
	}
	m.begin(orderApply, e.height, Apply{Height: e.height, Commit: e.commit, Table: e.table})
	return true
}

// needs finds a commit's table and wants its frames.
func (m *Machine) needs(e *entry) {
	if e.commit == nil || e.frames != nil {
		return
	}
	if r := m.resultOf(e.commit); r != nil {
		e.table = r.table
	}
	if e.table == nil && e.raw != nil {
		if wire.HashLeaf(e.raw) == e.commit.Table {
			m.readTable(e, e.raw)
		}
		e.raw = nil
	}
	if e.table == nil && e.tableAt == nil {
		e.tableAt = m.fetcher.want(m.class(), []thing{{ref: Ref{What: wire.WhatBlob, Hash: e.commit.Table}, inline: true}})
	}
	if e.table == nil && e.tableAt.here() {
		m.readTable(e, e.tableAt.list[0].body)
		if e.table == nil {
			m.fetcher.doubt(e.tableAt, m.now)
		}
	}
	if e.table == nil {
		return
	}
	m.fetcher.release(e.tableAt)
	e.tableAt = nil
	e.frames = m.fetcher.want(m.class(), m.frames(e.table))
}

func (m *Machine) readTable(e *entry, b []byte) {
	var t wire.CommitTable
	err := wire.Decode(b, &t)
	if err == nil {
		err = t.Validate(m.cfg.Slabs[e.commit.Fragment])
	}
	if err == nil && t.ResultRoot() != e.commit.Result {
		err = errors.New("its slabs do not make the result that the commit names")
	}
	if err != nil {
		m.note("table of commit %d: %v", e.height, err)
		return
	}
	e.table = &t
}

// frames lists a result's frames: the owner has them first, then the members.
func (m *Machine) frames(t *wire.CommitTable) []thing {
	var members []wire.PeerID
	for _, c := range t.Contributors {
		if p, ok := m.slots[c.Slot]; ok {
			members = append(members, p)
		}
	}
	out := make([]thing, len(t.Slabs))
	for i, s := range t.Slabs {
		out[i] = thing{ref: Ref{What: wire.WhatBlob, Hash: s.Hash}, size: s.Length, owner: s.Owner, members: members}
	}
	return out
}

// class counts what a follower pulls as results and what a latecomer pulls as joining.
func (m *Machine) class() wire.Class {
	if len(m.queue) > 2*len(m.heads) {
		return wire.ClassJoin
	}
	return wire.ClassResult
}

// applied moves the replica by one commit.
func (m *Machine) applied(e Applied) {
	promoted := m.finish(orderPromote, e.Height)
	if !promoted && !m.finish(orderApply, e.Height) {
		return
	}
	q := m.queue[0]
	c := q.commit
	if e.State != c.State {
		m.repair(e.Height, fmt.Sprintf("commit %d of fragment %d makes %s here, the run's is %s", e.Height, c.Fragment, e.State.Short(), c.State.Short()))
		return
	}
	m.heads[c.Fragment] = wire.FragmentHead{Version: c.Base + 1, State: c.State}
	m.waiting = ""
	if e.Height >= m.brokeAt {
		m.reloads = 0
	}
	m.pop()
	m.dropResults(c, promoted)
	m.do(Advanced{Height: e.Height, Commit: c, Table: q.table})
}

// applyFailed tries again, from the frames and later.
func (m *Machine) applyFailed(e ApplyFailed) {
	promoted := m.finish(orderPromote, e.Height)
	if !promoted && !m.finish(orderApply, e.Height) {
		return
	}
	q := m.queue[0]
	m.note("commit %d is not applied: %s", e.Height, e.Reason)
	if r := m.resultOf(q.commit); r != nil {
		m.forget(r)
	}
	if promoted {
		return
	}
	m.fetcher.release(q.frames) // a frame may be lost or damaged: look again
	q.frames = nil
	q.tries++
	q.retry = m.now.Add(backoff(q.tries))
}

// backoff is the wait after the nth failure.
func backoff(n int) time.Duration {
	if n > 4 {
		return lastRetry
	}
	return min(lastRetry, firstRetry<<max(0, n-1))
}

// checkSynced answers Sync when at most the newest round is not applied.
func (m *Machine) checkSynced() {
	if m.syncing && m.plan == nil && m.logged >= m.syncTo && (m.floor >= m.syncTo || len(m.queue) == 0) && len(m.queue) <= len(m.heads) {
		m.syncing = false
		m.do(CaughtUp{Height: m.floor})
	}
}

// Deadline returns when Tick is due; zero: never.
func (m *Machine) Deadline() time.Time {
	next := earlier(m.ask.until, m.fetcher.deadline())
	if m.order != nil {
		next = earlier(next, m.order.since.Add(orderWait))
	}
	if m.plan != nil && m.plan.notBefore.After(m.now) {
		next = earlier(next, m.plan.notBefore)
	}
	if len(m.queue) > 0 && m.order == nil && m.queue[0].retry.After(m.now) {
		next = earlier(next, m.queue[0].retry)
	}
	for _, r := range m.results {
		if r.state == resultFetching && r.retry.After(m.now) {
			next = earlier(next, r.retry)
		}
		if r.state == resultPreparing {
			next = earlier(next, r.since.Add(orderWait))
		}
	}
	return next
}

// earlier returns the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// Snapshot is a replica's way to the head, for people.
type Snapshot struct {
	Applied  uint64 // every entry up to here is applied
	Logged   uint64
	Target   uint64 // that some peer's ledger reaches
	Behind   int    // commits not applied yet
	Fetching int
	Loading  uint64 // checkpoint being loaded; 0: none
	Left     uint64 // bytes that are to come, about, before everything is applied
	Holds    uint64
	Waiting  string // why nothing moves; "" when it does
	Heads    []wire.FragmentHead
}

// Snapshot returns the present view.
func (m *Machine) Snapshot() Snapshot {
	s := Snapshot{
		Applied: m.floor, Logged: m.logged, Target: max(m.target, m.logged), Fetching: len(m.fetcher.busy), Holds: m.holds,
		Waiting: m.waiting, Heads: slices.Clone(m.heads),
	}
	for _, e := range m.queue {
		if e.commit != nil {
			s.Behind++
		}
	}
	if m.plan != nil {
		s.Loading = m.plan.at
	}
	s.Left = m.left()
	return s
}
