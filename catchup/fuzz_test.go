package catchup

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"dunlin/wire"
)

// tape turns fuzzed bytes into choices; at its end it says 0 for ever.
type tape struct {
	b []byte
}

func (t *tape) next(n int) int {
	if len(t.b) == 0 {
		return 0
	}
	c := int(t.b[0])
	t.b = t.b[1:]
	return c % n
}

// watch checks what must hold of every effect, whatever happened.
type watch struct {
	t       *testing.T
	heads   [2]uint64 // versions of the replica
	height  uint64
	order   Effect // under way
	saving  Effect // likewise, beside it
	flights map[Ref]wire.PeerID
	load    map[wire.PeerID]int
}

func (c *watch) ended(ref Ref) {
	if p, ok := c.flights[ref]; ok {
		delete(c.flights, ref)
		c.load[p]--
	}
}

func (c *watch) busy(e Effect) {
	if c.order != nil {
		c.t.Fatalf("%s while %s is under way", e, c.order)
	}
	c.order = e
}

func (c *watch) commit(e Effect, height uint64, b *wire.Commit) {
	c.busy(e)
	if height <= c.height {
		c.t.Fatalf("%s after height %d", e, c.height)
	}
	if b.Base != c.heads[b.Fragment] {
		c.t.Fatalf("%s on version %d", e, c.heads[b.Fragment])
	}
}

func (c *watch) see(m *Machine, e Effect) {
	switch e := e.(type) {
	case Fetch:
		// The machine may have given up on an older one of the same name.
		c.ended(e.Ref)
		c.flights[e.Ref] = e.Peer
		c.load[e.Peer]++
		if len(m.fetcher.busy) > maxFetches || m.fetcher.load[e.Peer] > maxFromPeer {
			c.t.Fatalf("%d fetches, %d of %s", len(m.fetcher.busy), m.fetcher.load[e.Peer], e.Peer.Short())
		}
	case Apply:
		c.commit(e, e.Height, e.Commit)
		if e.Table == nil || wire.HashLeaf(wire.Encode(e.Table)) != e.Commit.Table {
			c.t.Fatalf("%s without the commit's table", e)
		}
	case Promote:
		c.commit(e, e.Height, e.Commit)
	case SaveCheckpoint:
		if c.saving != nil {
			c.t.Fatalf("%s while %s is under way", e, c.saving)
		}
		c.saving = e
	case LoadCheckpoint:
		c.busy(e)
	case Prepare:
		if e.Base != c.heads[e.Fragment] {
			c.t.Fatalf("%s on version %d", e, c.heads[e.Fragment])
		}
	case Advanced:
		if e.Table == nil {
			c.t.Fatalf("%s without a table", e)
		}
	case CaughtUp:
		if m.plan != nil || m.logged < m.syncTo {
			c.t.Fatalf("%s at %d of %d", e, m.logged, m.syncTo)
		}
	case GetEntries, SendHave, DropShadow, Jumped, Reread, Holds, Repair, Note:
	}
}

func FuzzSteps(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 0, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5})
	f.Add([]byte("fetched from anyone, applied in order, never twice, whatever happens in between"))
	f.Add([]byte{2, 0, 0, 2, 0, 0, 2, 0, 0, 2, 0, 0, 2, 0, 0, 3, 0, 4, 0, 9, 9, 9, 9, 5, 5, 5, 9, 9, 9, 9, 9, 9, 5, 5, 5, 5})
	f.Fuzz(play)
}

// TestRandomScripts plays what the fuzzer plays, long and from known seeds.
func TestRandomScripts(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 7))
		script := make([]byte, 1500)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { play(t, script) })
	}
}

// play lets things happen in the order that a script says, and then lets
// everything succeed.
func play(t *testing.T, script []byte) {
	w := newWorld(t, testConfig())
	tp := &tape{b: script}
	c := &watch{t: t, flights: map[Ref]wire.PeerID{}, load: map[wire.PeerID]int{}}
	for n := 0; len(tp.b) > 0 && n < 400; n++ {
		w.now = w.now.Add(time.Duration(tp.next(4)) * time.Second)
		fuzzStep(w, c, tp)
		s := w.m.Snapshot()
		if s.Applied > s.Logged || len(w.m.queue) > int(w.height) {
			t.Fatalf("applied %d of %d, %d queued", s.Applied, s.Logged, len(w.m.queue))
		}
		waits := len(w.m.queue) > 0 || w.m.plan != nil || w.m.order != nil || w.m.logged < w.m.target
		if waits && w.m.Deadline().IsZero() {
			t.Fatal("it waits without a deadline")
		}
	}
	finish(w, c)
}

// feed steps the machine and plays the driver's part for its effects.
func feed(w *world, c *watch, ev Event) {
	switch e := ev.(type) {
	case Applied:
		c.order = nil
		if l, ok := w.entries[e.Height-1].Body.(*wire.Commit); ok && e.State == l.State {
			c.heads[l.Fragment], c.height = l.Base+1, e.Height
		}
	case ApplyFailed, LoadFailed:
		c.order = nil
	case CheckpointSaved, SaveFailed:
		c.saving = nil
	case Loaded:
		load, _ := c.order.(LoadCheckpoint)
		c.order, c.height = nil, e.At
		for f, h := range load.Fragments {
			c.heads[f] = h.Version
		}
	case Fetched:
		c.ended(e.Ref)
	case FetchFailed:
		c.ended(e.Ref)
	}
	w.step(ev)
	w.out.Reset()
}

// fuzzStep lets one thing happen.
func fuzzStep(w *world, c *watch, tp *tape) {
	w.watch = func(e Effect) { c.see(w.m, e) }
	f := uint64(tp.next(2))
	peer := peerNamed(string(rune('a' + tp.next(3))))
	attempt := wire.AttemptID{Term: 1, Counter: uint64(1 + tp.next(2))}
	owners := []string{"ab", "bs", "zz"}[tp.next(3)]
	switch tp.next(12) {
	case 0:
		feed(w, c, PeerUp{Peer: peer})
	case 1:
		feed(w, c, PeerDown{Peer: peer})
	case 2: // the round commits
		if w.version[f] >= 28 {
			return
		}
		table := tableOf(f, w.version[f], attempt, "ab")
		b := wire.Encode(table)
		body := &wire.Commit{
			Fragment: f, Base: w.version[f], BaseState: stateOf(f, w.version[f]), Attempt: attempt, Table: wire.HashLeaf(b),
			Result: table.ResultRoot(), State: stateOf(f, w.version[f]+1),
		}
		w.version[f]++
		if tp.next(2) == 0 {
			b = nil
		}
		logBody(w, c, body, b)
	case 3: // a checkpoint; it may be complete at once
		mark := &wire.Checkpoint{At: w.height}
		for g, v := range w.version {
			mark.Fragments = append(mark.Fragments, wire.FragmentHead{Version: v, State: stateOf(uint64(g), v)})
		}
		logBody(w, c, mark, nil)
		if tp.next(2) == 0 {
			whole := *mark
			whole.Complete = true
			logBody(w, c, &whole, nil)
		}
	case 4:
		v := w.version[f]
		feed(w, c, ResultsFrom{Results: wire.Results{Fragment: f, Base: v - min(v, uint64(tp.next(2))), Attempt: attempt, Table: *tableOf(f, v, attempt, owners)}})
	case 5, 6: // the oldest fetch succeeds, or a later one
		if len(w.asked) == 0 {
			return
		}
		i := tp.next(len(w.asked))
		e := w.asked[i]
		w.asked = append(w.asked[:i:i], w.asked[i+1:]...)
		done := Fetched{Ref: e.Ref}
		if e.Inline {
			done.Body = w.bytesOf(e.Ref)
			if tp.next(8) == 7 {
				done.Body = []byte("lie")
			}
		}
		feed(w, c, done)
	case 7:
		if len(w.asked) == 0 {
			return
		}
		e := w.asked[0]
		w.asked = w.asked[1:]
		feed(w, c, FetchFailed{Ref: e.Ref, Peer: e.Peer, Reason: "lost", Gone: tp.next(2) == 0})
	case 8, 9: // the replica answers
		if len(w.replies) == 0 {
			return
		}
		ev := w.replies[0]
		w.replies = w.replies[1:]
		feed(w, c, answer(ev, tp))
	case 10:
		feed(w, c, []Event{Sync{Head: w.height}, HeadHint{Peer: peer, Height: w.height + uint64(tp.next(3))}, Reconnected{}}[tp.next(3)])
	default:
		if at := w.m.Deadline(); at.After(w.now) {
			w.now = at
		}
		feed(w, c, Tick{})
	}
}

// answer is the replica's, or now and then a failure or another state.
func answer(ev Event, tp *tape) Event {
	bad := tp.next(8)
	switch e := ev.(type) {
	case Applied:
		if bad == 7 {
			return ApplyFailed{Height: e.Height, Reason: "disk full"}
		}
		if bad == 6 {
			e.State = hashOf("another state")
		}
		return e
	case Prepared:
		if bad == 7 {
			return PrepareFailed{Fragment: e.Fragment, Base: e.Base, Attempt: e.Attempt, Result: e.Result, Reason: "disk full"}
		}
		if bad == 6 {
			e.State = hashOf("another state")
		}
		return e
	case CheckpointSaved:
		if bad == 7 {
			return SaveFailed{At: e.At, Reason: "disk full"}
		}
	case Loaded:
		if bad == 7 {
			return LoadFailed{At: e.At, Reason: "disk full"}
		}
	default:
	}
	return ev
}

func logBody(w *world, c *watch, body wire.Body, table []byte) {
	w.height++
	e := Logged{Height: w.height, Term: 1, Body: body, Table: table}
	w.entries = append(w.entries, e)
	feed(w, c, e)
}

// finish lets everything succeed from here on: whatever happened, the replica
// must reach the head.
func finish(w *world, c *watch) {
	w.watch = func(e Effect) { c.see(w.m, e) }
	for _, p := range []string{"a", "b", "z"} {
		feed(w, c, PeerUp{Peer: peerNamed(p)})
	}
	feed(w, c, Sync{Head: w.height})
	for n := 0; ; n++ {
		if n > 20_000 {
			c.t.Fatalf("it does not reach height %d: %+v", w.height, w.m.Snapshot())
		}
		if len(w.replies) > 0 {
			ev := w.replies[0]
			w.replies = w.replies[1:]
			feed(w, c, ev)
			continue
		}
		if len(w.asked) > 0 {
			e := w.asked[0]
			w.asked = w.asked[1:]
			done := Fetched{Ref: e.Ref}
			if e.Inline {
				done.Body = w.bytesOf(e.Ref)
			}
			feed(w, c, done)
			continue
		}
		s := w.m.Snapshot()
		if s.Applied == w.height && !w.m.syncing {
			break
		}
		at := w.m.Deadline()
		if at.IsZero() {
			c.t.Fatalf("it waits without a deadline: %+v", s)
		}
		w.now = at
		feed(w, c, Tick{})
	}
	for f, v := range w.version {
		if w.m.heads[f] != (wire.FragmentHead{Version: v, State: stateOf(uint64(f), v)}) {
			c.t.Fatalf("fragment %d ends at %v, the run's is version %d", f, w.m.heads[f], v)
		}
	}
	if used := len(w.m.fetcher.blobs); used > 2*len(w.m.results)*slabCount {
		c.t.Fatalf("%d things are remembered at the head, %d results are open", used, len(w.m.results))
	}
}
