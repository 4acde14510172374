package round

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/wire"
)

// world runs one Leader and some workers over a made-up network, with the log,
// the sums and the spreading of results done in the simplest way that keeps
// the rules. Delivery is in order for each pair and otherwise random.
type world struct {
	t        testing.TB
	rng      *rand.Rand
	now      time.Time
	spec     Spec
	leader   *Leader
	up       bool // the coordinator runs
	term     uint64
	seed     wire.PeerID
	height   uint64
	log      []Logged
	heads    []wire.FragmentHead
	latest   []wire.AttemptID
	settings wire.Hash
	history  *History
	workers  map[wire.PeerID]*simWorker
	slots    wire.Slot
	next     uint64 // position of the next window
	queue    []delivery
	ends     map[[2]uint64]uint64 // slot, fragment: end of the last committed interval
	taken    []map[uint64]bool    // by fragment: positions committed
	commits  int
	trace    []string
	quiet    bool // no faults any more
}

// delivery is an event on its way; those of one lane keep their order.
type delivery struct {
	lane string
	do   func()
}

type simWorker struct {
	peer      wire.PeerID
	slot      wire.Slot
	member    *Member
	owner     *Owner
	alive     bool
	connected bool
	left      time.Time // when the slot ends unless it is back
	step      uint64
	pace      time.Duration
	wait      time.Time
	roots     map[wire.Hash]bool
	seen      int // entries of the log delivered
	partial   map[wire.AttemptID]wire.Hash
	applied   []uint64
	cursor    int // entries applied
}

func newSimWorld(t testing.TB, seed uint64, fragments, workers int) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 5)), now: time.Unix(1000, 0), up: true,
		spec: Spec{
			H: 8, StepTokens: 64, Context: 32,
			Deadlines: wire.DeadlineSpec{ReadyMin: 1000, Stall: 3000, Attempt: 15000, Leave: 5000, Silence: 45000},
		},
		seed: wire.PeerID{0xee}, workers: make(map[wire.PeerID]*simWorker), ends: make(map[[2]uint64]uint64),
		history: NewHistory(fragments), latest: make([]wire.AttemptID, fragments),
	}
	for f := range fragments {
		w.spec.Slabs = append(w.spec.Slabs, 1+f*3)
		w.heads = append(w.heads, wire.FragmentHead{State: wire.HashLeaf([]byte{byte(f)})})
		w.taken = append(w.taken, make(map[uint64]bool))
	}
	w.reign()
	for range workers {
		w.join()
	}
	return w
}

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%8.3f ", float64(w.now.Sub(time.Unix(1000, 0)))/1e9)+fmt.Sprintf(format, args...))
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.trace[max(0, len(w.trace)-120):], "\n"))
}

// reign starts a new term of the coordinator.
func (w *world) reign() {
	w.term++
	leader, err := NewLeader(LeaderConfig{
		Spec: w.spec, Term: w.term, Seed: w.seed, Heads: slices.Clone(w.heads), Settings: wire.Settings{Phase: wire.PhaseTraining},
		SettingsHash: w.settings, History: w.history,
	})
	if err != nil {
		w.fatalf("%v", err)
	}
	w.leader, w.up = leader, true
	w.say("term %d", w.term)
	w.list()
}

func (w *world) join() {
	w.slots++
	peer := wire.PeerID{byte(w.slots), byte(w.slots >> 8)}
	member, err := NewMember(w.spec)
	if err != nil {
		w.fatalf("%v", err)
	}
	owner, err := NewOwner(w.spec, peer)
	if err != nil {
		w.fatalf("%v", err)
	}
	k := &simWorker{
		peer: peer, slot: w.slots, member: member, owner: owner, alive: true, connected: w.up, seen: len(w.log), cursor: len(w.log),
		pace: time.Duration(100+w.rng.IntN(150)) * time.Millisecond, wait: w.now, roots: make(map[wire.Hash]bool),
		partial: make(map[wire.AttemptID]wire.Hash),
	}
	for _, h := range w.heads {
		k.applied = append(k.applied, h.Version)
	}
	w.workers[peer] = k
	w.say("slot %d joins", k.slot)
	w.append(&wire.Member{Op: wire.MemberAdmit, Slot: k.slot, Peer: peer}, nil)
	w.list()
	w.toMember(k, Assigned{Slot: k.slot, Versions: slices.Clone(k.applied)})
}

// list tells the Leader who there is.
func (w *world) list() {
	if !w.up {
		return
	}
	var list []Worker
	for _, k := range w.sorted() {
		list = append(list, Worker{
			Slot: k.slot, Peer: k.peer, Connected: k.connected, Active: k.connected, StepTime: uint64(k.pace / time.Microsecond),
		})
	}
	w.toLeader(Members{list})
}

func (w *world) sorted() []*simWorker {
	return slices.SortedFunc(maps.Values(w.workers), func(a, b *simWorker) int { return cmp.Compare(a.slot, b.slot) })
}

func (w *world) send(lane string, do func()) { w.queue = append(w.queue, delivery{lane, do}) }

func (w *world) toLeader(ev Event) {
	if !w.up {
		return
	}
	w.say("L <- %s", ev)
	effects := w.leader.Step(w.now, ev)
	w.checkDeadline("leader", w.leader.Deadline(), ev)
	for _, e := range effects {
		w.say("L -> %s", e)
		switch e := e.(type) {
		case Append:
			w.send("log", func() { w.tryAppend(e.Body, e.Table) })
		case ProposeCommit:
			c := e.Commit
			w.send("log", func() { w.tryAppend(&c, e.Table) })
		case Send:
			for _, to := range e.To {
				w.send("L>"+to.Short(), func() { w.control(to, e.Message) })
			}
		}
	}
}

func (w *world) checkDeadline(who string, deadline time.Time, ev Event) {
	if !deadline.IsZero() && !deadline.After(w.now) {
		w.fatalf("%s asks for a tick at %s, not after now, after %s", who, deadline, ev)
	}
}

// tryAppend is the ledger's compare-and-append.
func (w *world) tryAppend(body wire.Body, table []byte) {
	if !w.up {
		return
	}
	failed := AppendFailed{Kind: body.Kind(), Reason: "dropped"}
	switch b := body.(type) {
	case *wire.Attempt:
		failed.Fragment, failed.Attempt = b.Fragment, b.ID
		if !w.quiet && w.rng.IntN(12) == 0 {
			w.toLeader(failed)
			return
		}
		if b.ID.Term != w.term || !after(b.ID, w.latest[b.Fragment]) {
			w.fatalf("attempt id %s is used again", b.ID)
		}
		w.latest[b.Fragment] = b.ID
	case *wire.Commit:
		failed.Fragment, failed.Attempt = b.Fragment, b.Attempt
		if b.Base != w.heads[b.Fragment].Version || b.Attempt != w.latest[b.Fragment] || b.Settings != w.settings {
			w.toLeader(failed)
			return
		}
		w.checkCommit(b, table)
		w.heads[b.Fragment] = wire.FragmentHead{Version: b.Base + 1, State: b.State}
		if !w.quiet && w.rng.IntN(8) == 0 {
			defer w.toLeader(AppendFailed{Kind: failed.Kind, Fragment: b.Fragment, Attempt: b.Attempt, Reason: "outcome unknown"})
		}
	}
	w.append(body, table)
}

func (w *world) append(body wire.Body, table []byte) {
	w.height++
	entry := Logged{Height: w.height, Term: w.term, Body: body, Table: table}
	w.log = append(w.log, entry)
	w.toLeader(entry)
	for _, k := range w.sorted() {
		w.send("L>"+k.peer.Short(), func() { w.follow(k) })
	}
}

// checkCommit holds a commit to the rules: it is what its holders have, no
// interval overlaps another, no window counts twice in a fragment.
func (w *world) checkCommit(c *wire.Commit, encoded []byte) {
	var table wire.CommitTable
	if err := wire.Decode(encoded, &table); err != nil {
		w.fatalf("commit table: %v", err)
	}
	if err := table.Validate(w.spec.Slabs[c.Fragment]); err != nil {
		w.fatalf("%v", err)
	}
	if wire.HashLeaf(encoded) != c.Table || table.ResultRoot() != c.Result {
		w.fatalf("a commit of f%d@%d names another table", c.Fragment, c.Base)
	}
	if c.BaseState != w.heads[c.Fragment].State || c.State != stateAfter(c.BaseState, c.Result) {
		w.fatalf("f%d@%d: wrong states", c.Fragment, c.Base)
	}
	var weight uint64
	for _, m := range table.Contributors {
		key := [2]uint64{uint64(m.Slot), c.Fragment}
		if m.From < w.ends[key] {
			w.fatalf("slot %d commits steps (%d, %d] after %d", m.Slot, m.From, m.To, w.ends[key])
		}
		w.ends[key] = m.To
		weight += m.Weight
		for _, r := range m.Windows {
			for p := r.From; p < r.To; p++ {
				if w.taken[c.Fragment][p] {
					w.fatalf("window %d counts twice in fragment %d", p, c.Fragment)
				}
				w.taken[c.Fragment][p] = true
			}
		}
	}
	if weight != c.Weight {
		w.fatalf("weight %d, want %d", c.Weight, weight)
	}
	for _, s := range table.Slabs {
		var in uint64
		count := 0
		for r, m := range table.Contributors {
			if s.Includes(r) {
				in += m.Weight
				count++
			}
		}
		if in != s.Weight || 2*in < weight || count < min(2, len(table.Contributors)) {
			w.fatalf("slab %d of weight %d, members weigh %d of %d", s.Slab, s.Weight, in, weight)
		}
	}
	w.commits++
}

func stateAfter(base, result wire.Hash) wire.Hash {
	return wire.HashLeaf(append(base[:len(base):len(base)], result[:]...))
}

// follow gives a worker the entries that it lacks.
func (w *world) follow(k *simWorker) {
	if !k.alive || !k.connected {
		return
	}
	for ; k.seen < len(w.log); k.seen++ {
		entry := w.log[k.seen]
		w.toMember(k, entry)
		w.toOwner(k, entry)
	}
	w.replay(k)
}

// replay applies the commits that a worker knows of, if it reaches a holder.
func (w *world) replay(k *simWorker) {
	for ; k.cursor < k.seen; k.cursor++ {
		c, ok := w.log[k.cursor].Body.(*wire.Commit)
		if !ok || c.Base < k.applied[c.Fragment] {
			continue
		}
		var table wire.CommitTable
		if err := wire.Decode(w.log[k.cursor].Table, &table); err != nil {
			w.fatalf("%v", err)
		}
		k.applied[c.Fragment] = c.Base + 1
		w.toMember(k, Applied{Fragment: c.Fragment, Version: c.Base + 1, Table: &table})
	}
}

// control delivers a message of the coordinator.
func (w *world) control(to wire.PeerID, m wire.Message) {
	k := w.workers[to]
	if to != w.seed && (k == nil || !k.alive || !k.connected) {
		return
	}
	switch m := m.(type) {
	case *wire.Reassign:
		w.toOwner(k, Reassigned{*m})
	case *wire.Results:
		w.send(fmt.Sprintf("pull %s %d", to.Short(), m.Fragment), func() { w.pull(to, m) })
	}
}

// pull fetches a result: every owner, or a holder of it all, must be alive.
func (w *world) pull(to wire.PeerID, m *wire.Results) {
	root := m.Table.ResultRoot()
	holders := 0
	for _, k := range w.workers {
		if k.alive && k.partial[m.Attempt] == root {
			holders++
		}
	}
	for _, s := range m.Table.Slabs {
		if o := w.workers[s.Owner]; holders == 0 && (o == nil || !o.alive) {
			w.say("%s cannot pull %s: an owner is gone", to.Short(), m.Attempt)
			return
		}
	}
	if m.Base != w.heads[m.Fragment].Version {
		return
	}
	have := wire.Have{Fragment: m.Fragment, Base: m.Base, Attempt: m.Attempt, Result: root, State: stateAfter(w.heads[m.Fragment].State, root)}
	if to == w.seed {
		for _, s := range m.Table.Slabs {
			w.toLeader(SeedHas{s.Hash})
		}
		w.toLeader(HaveFrom{to, have})
		return
	}
	if k := w.workers[to]; k != nil && k.alive {
		k.partial[m.Attempt] = root
		w.report(k, &have)
	}
}

// report takes a message from a worker to the coordinator.
func (w *world) report(k *simWorker, m wire.Message) {
	if !k.connected {
		return
	}
	w.send(k.peer.Short()+">L", func() {
		if !k.connected {
			return
		}
		switch m := m.(type) {
		case *wire.SignedReady:
			w.toLeader(ReadyFrom{k.peer, *m})
		case *wire.SlabDone:
			w.toLeader(SlabDoneFrom{k.peer, *m})
		case *wire.SlabFailed:
			w.toLeader(SlabFailedFrom{k.peer, *m})
		case *wire.Have:
			w.toLeader(HaveFrom{k.peer, *m})
		}
	})
}

func (w *world) toMember(k *simWorker, ev Event) {
	if !k.alive {
		return
	}
	effects := k.member.Step(w.now, ev)
	w.checkDeadline("member", k.member.Deadline(), ev)
	for _, e := range effects {
		w.say("%d M -> %s", k.slot, e)
		switch e := e.(type) {
		case TakeSnapshot:
			w.send("encode "+k.peer.Short(), func() {
				root := wire.HashLeaf(fmt.Appendf(nil, "%d/%d/%d/%d", k.slot, e.Fragment, e.Base, e.To))
				k.roots[root] = true
				w.toMember(k, Encoded{Fragment: e.Fragment, Base: e.Base, Step: k.step, Root: root, Norm: 1 + float32(k.slot)})
			})
		case SendReady:
			w.report(k, &wire.SignedReady{Ready: e.Ready})
		case Merge:
			w.send("merge "+k.peer.Short(), func() { w.toMember(k, Merged{Fragment: e.Fragment, Version: e.Version}) })
		}
	}
}

func (w *world) toOwner(k *simWorker, ev Event) {
	if !k.alive {
		return
	}
	effects := k.owner.Step(w.now, ev)
	w.checkDeadline("owner", k.owner.Deadline(), ev)
	for _, e := range effects {
		w.say("%d O -> %s", k.slot, e)
		switch e := e.(type) {
		case FetchSlab:
			w.send("bulk "+k.peer.Short()+e.Peer.Short(), func() {
				from := w.workers[e.Peer]
				if from == nil || !from.alive || !from.roots[e.Root] || (!w.quiet && w.rng.IntN(30) == 0) {
					w.toOwner(k, FetchFailed{Peer: e.Peer, Root: e.Root, Slab: e.Slab, Reason: "unreachable"})
					return
				}
				w.toOwner(k, SlabFetched{Peer: e.Peer, Root: e.Root, Slab: e.Slab})
			})
		case SumSlab:
			w.send("sum "+k.peer.Short(), func() {
				if !w.quiet && w.rng.IntN(40) == 0 {
					w.toOwner(k, SumFailed{Fragment: e.Fragment, Attempt: e.Attempt, Slab: e.Slab, Reason: "disk full"})
					return
				}
				hash := wire.HashLeaf(fmt.Appendf(nil, "%d/%d/%b/%s", e.Fragment, e.Slab, e.Ranks, e.Members[0].Ready.Ready.Root))
				w.toOwner(k, Summed{Fragment: e.Fragment, Attempt: e.Attempt, Slab: e.Slab, Hash: hash, Length: 100, Members: e.Ranks})
			})
		case Report:
			w.report(k, e.Message)
		}
	}
}

// deliver carries out one thing under way; false when there is none.
func (w *world) deliver() bool {
	if len(w.queue) == 0 {
		return false
	}
	i := w.rng.IntN(len(w.queue))
	i = slices.IndexFunc(w.queue, func(d delivery) bool { return d.lane == w.queue[i].lane })
	d := w.queue[i]
	w.queue = slices.Delete(w.queue, i, i+1)
	d.do()
	return true
}

// forward lets time pass: workers step, ticks fire, slots end.
func (w *world) forward(by time.Duration) {
	w.now = w.now.Add(by)
	if d := w.leader.Deadline(); w.up && !d.IsZero() && !d.After(w.now) {
		w.toLeader(Tick{})
	}
	for _, k := range w.sorted() {
		if !k.connected && !k.left.IsZero() && w.up && !w.now.Before(k.left) {
			w.say("slot %d ends", k.slot)
			delete(w.workers, k.peer)
			w.append(&wire.Member{Op: wire.MemberLeave, Slot: k.slot, Peer: k.peer}, nil)
			w.list()
			k.alive = false // a lost slot is a new worker here
			continue
		}
		if !k.alive {
			continue
		}
		w.toMember(k, Tick{})
		w.toOwner(k, Tick{})
		if !w.now.Before(k.wait) {
			k.wait = w.now.Add(k.pace)
			k.step++
			w.next += 2
			w.toMember(k, StepDone{
				Step: k.step, Tokens: 64, Windows: []wire.Range{{From: w.next - 2, To: w.next}}, StepTime: uint64(k.pace / time.Microsecond),
			})
		}
	}
}

func (w *world) run(events int, faults bool) {
	w.quiet = !faults
	for range events {
		switch n := w.rng.IntN(100); {
		case n < 80 && w.deliver():
		case n < 97 || !faults:
			w.forward(time.Duration(1+w.rng.IntN(60)) * time.Millisecond)
		default:
			w.fault()
		}
	}
}

func simulate(t testing.TB, seed uint64, events int) {
	rng := rand.New(rand.NewPCG(seed, 6))
	w := newSimWorld(t, seed, 1+rng.IntN(3), 1+rng.IntN(4))
	defer func() {
		if r := recover(); r != nil {
			w.fatalf("seed %d: panic: %v", seed, r)
		}
	}()
	w.say("seed %d", seed)
	w.run(events, true)
	w.settle()
	w.run(1000, false)
	before := slices.Clone(w.heads)
	w.run(4000, false)
	for f := range w.heads {
		if w.heads[f].Version < before[f].Version+2 {
			w.fatalf("seed %d: fragment %d went from version %d to %d only after all faults ended: %+v", seed, f, before[f].Version, w.heads[f].Version, w.leader.Snapshot().Rounds[f])
		}
	}
	for _, k := range w.sorted() {
		if k.alive && k.connected {
			for _, s := range k.member.Snapshot() {
				if s.Head > s.Applied+1 || s.Applied > s.Merged+1 {
					w.fatalf("seed %d: slot %d fell behind: %+v", seed, k.slot, s)
				}
			}
		}
	}
}

func TestWorldKeepsTheRulesUnderFaults(t *testing.T) {
	for seed := range uint64(60) {
		simulate(t, seed, 3000)
	}
}

func FuzzWorld(f *testing.F) {
	f.Add(uint64(1000))
	f.Fuzz(func(t *testing.T, seed uint64) { simulate(t, seed, 2000) })
}

func TestWorldWithoutFaultsCommitsEveryStep(t *testing.T) {
	w := newSimWorld(t, 3, 2, 3)
	w.run(20000, false)
	if w.leader.Snapshot().Failed > 0 || w.commits < 10 {
		w.fatalf("%d commits, %d failed attempts", w.commits, w.leader.Snapshot().Failed)
	}
	for _, k := range w.sorted() {
		for f := range w.heads {
			if end := w.ends[[2]uint64{uint64(k.slot), uint64(f)}]; k.step > end+3*w.spec.H {
				w.fatalf("slot %d is at step %d, fragment %d has %d of them", k.slot, k.step, f, end)
			}
		}
	}
}
