package coordinator

import (
	"fmt"
	"math/rand/v2"
	"reflect"
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

func (t *tape) peer() wire.PeerID { return peerNamed(string(rune('a' + t.next(4)))) }

func (t *tape) ranges() []wire.Range {
	var out []wire.Range
	for range t.next(3) {
		from := uint64(t.next(60))
		out = append(out, span(from, from+1+uint64(t.next(20))))
	}
	return out
}

// body is an entry that some coordinator may have written.
func (t *tape) body(heads []wire.FragmentHead) (wire.Body, []byte) {
	slot := wire.Slot(1 + t.next(6))
	f := uint64(t.next(2))
	switch t.next(6) {
	case 0:
		return &wire.Member{Op: wire.MemberOp(1 + t.next(3)), Slot: slot, Peer: t.peer()}, nil
	case 1:
		return &wire.Lease{Slot: slot, Ranges: t.ranges()}, nil
	case 2:
		table := wire.AttemptTable{Members: []wire.AttemptMember{{Ready: wire.SignedReady{Ready: wire.Ready{Slot: slot, Windows: t.ranges()}}}}}
		b := wire.Encode(&table)
		return &wire.Attempt{Fragment: f, Base: heads[f].Version, ID: wire.AttemptID{Term: 1, Counter: 1}, Table: wire.HashLeaf(b)}, b
	case 3:
		table := wire.CommitTable{
			Contributors: []wire.Contributor{{Slot: slot, From: 0, To: uint64(t.next(9)), Windows: t.ranges()}},
			Slabs:        []wire.SlabResult{{Members: uint64(t.next(3))}},
		}
		b := wire.Encode(&table)
		c := &wire.Commit{Fragment: f, Base: heads[f].Version - uint64(t.next(2)), Table: wire.HashLeaf(b), Tokens: uint64(t.next(200)), State: hashOf("state")}
		if t.next(4) == 0 {
			b = nil
		}
		return c, b
	case 4:
		return &wire.Settings{Phase: wire.Phase(1 + t.next(3))}, nil
	}
	return &wire.Checkpoint{At: uint64(t.next(20)), Fragments: heads, Complete: t.next(2) == 0}, nil
}

func FuzzSteps(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0, 5, 1, 0, 3, 0, 0, 0})
	f.Add([]byte("a coordinator that hears the same things in any order must not fall over"))
	f.Add([]byte{1, 0, 2, 0, 4, 0, 0, 0, 0, 0, 5, 0, 0, 4, 0, 6, 0, 3, 200, 9, 9, 9, 9, 10, 1, 13, 2, 14, 0})
	f.Fuzz(play)
}

// TestRandomScripts plays what the fuzzer plays, long and from known seeds.
func TestRandomScripts(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 7))
		script := make([]byte, 2500)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { play(t, script) })
	}
}

// play lets things happen in the order that a script says.
func play(t *testing.T, script []byte) {
	w := newWorld(t, testSpec(), 2)
	w.spec.Checkpoint, w.spec.TokenBudget = 2, 3000
	tp := &tape{b: script}
	asked := uint64(0)
	for range 400 {
		if len(tp.b) == 0 {
			break
		}
		w.term = max(w.term, asked*uint64(tp.next(2))) // made durable now, or later
		w.now = w.now.Add(time.Duration(tp.next(5)) * time.Second)
		ev := randomEvent(w, tp)
		effects := w.m.Step(w.now, ev)
		if len(effects) > 40 {
			t.Fatalf("%d effects of %s", len(effects), ev)
		}
		_ = ev.String()
		for _, e := range effects {
			_ = e.String()
			switch e := e.(type) {
			case Append:
				if w.m.reign.phase != leading {
					t.Fatalf("%s before it leads", e)
				}
				// What it writes must be what everyone accepts.
				entry := wire.NewEntry(hashOf("run"), 1, hashOf("run"), 1, e.Body)
				if _, err := entry.Body(); err != nil {
					t.Fatalf("%s: %v", e, err)
				}
				w.queue = append(w.queue, e.Body)
			case RaiseTerm:
				if e.Term <= w.m.reign.term || e.Term <= w.m.logTerm {
					t.Fatalf("term %d after %d", e.Term, w.term)
				}
				asked = e.Term
			default:
			}
		}
		if w.m.reign.phase == leading && len(w.m.proposed) > 0 && w.m.Deadline().IsZero() {
			t.Fatal("it waits for the log without a deadline")
		}
		if w.m.height > 0 && w.m.tokens > 1<<40 {
			t.Fatalf("%d tokens", w.m.tokens)
		}
		_ = w.m.Snapshot()
		w.m.leases.mustBeDisjoint(t)
	}
	replayed(t, w)
}

// replayed checks that the log alone makes the same state.
func replayed(t *testing.T, w *world) {
	t.Helper()
	old := w.m
	w.fresh(2)
	for _, e := range w.entries {
		w.m.Step(w.now, e)
	}
	a, b := old.Snapshot(), w.m.Snapshot()
	got := fmt.Sprint(b.Height, b.Phase, b.Heads, b.Commits, b.Tokens, b.Windows, b.Leased, b.Returned, b.Complete, len(b.Members))
	want := fmt.Sprint(a.Height, a.Phase, a.Heads, a.Commits, a.Tokens, a.Windows, a.Leased, a.Returned, a.Complete, len(a.Members))
	if got != want {
		t.Fatalf("replayed: %s\nlived:    %s", got, want)
	}
}

// mustBeDisjoint checks that no position has two holders.
func (l *leases) mustBeDisjoint(t *testing.T) {
	t.Helper()
	all := l.returned.clone()
	n := all.count()
	for _, slot := range sorted(l.slots) {
		s := l.slots[slot]
		all.addAll(s.windows)
		n += s.windows.count()
		for _, done := range s.done {
			for _, r := range done {
				if !s.windows.covers(r) {
					t.Fatalf("slot %d has committed %v beyond its windows %v", slot, done, s.windows)
				}
			}
		}
	}
	if all.count() != n {
		t.Fatalf("a position has two holders: returned %v, slots %v", l.returned, l.slots)
	}
	for _, r := range l.returned {
		if len(l.consumed.overlap(r)) > 0 {
			t.Fatalf("returned %v overlaps consumed %v", l.returned, l.consumed)
		}
	}
}

func randomEvent(w *world, tp *tape) Event {
	p := tp.peer()
	slot := wire.Slot(tp.next(6))
	switch tp.next(15) {
	case 0:
		return Started{Term: w.term}
	case 1:
		return TermRaised{Term: w.term}
	case 2:
		return HelloFrom{Peer: p, Fork: tp.next(9) == 8, Hello: wire.Hello{
			Protocol: 1, Run: hashOf("run"), Role: wire.Role(1 + tp.next(2)), Slot: slot * wire.Slot(tp.next(2)), Head: uint64(tp.next(3)), HeadTerm: uint64(tp.next(3)),
		}}
	case 3:
		return HeartbeatFrom{Peer: p, Heartbeat: wire.Heartbeat{Slot: slot, State: wire.WorkerState(tp.next(9)), Height: uint64(tp.next(20)), Step: uint64(tp.next(256)) << (8 * tp.next(8)), Holds: uint64(tp.next(20)), StepTime: uint64(tp.next(200))}}
	case 4:
		return LeaseAsked{Peer: p, Request: wire.LeaseRequest{Slot: slot, Windows: 1 + uint64(tp.next(256))<<tp.next(17)}}
	case 5, 6:
		if len(w.queue) == 0 {
			return Tick{}
		}
		body := w.queue[0]
		w.queue = w.queue[1:]
		w.height++
		e := Logged{Height: w.height, Term: w.term, Body: body}
		w.entries = append(w.entries, e)
		return e
	case 7:
		body, table := tp.body(w.m.Heads())
		w.height++
		e := Logged{Height: w.height, Term: w.term, Body: body, Table: table}
		w.entries = append(w.entries, e)
		return e
	case 8:
		return Disconnected{Peer: p, Reason: "reset"}
	case 9:
		return LeaveFrom{Peer: p, Leave: wire.Leave{Slot: slot}}
	case 10:
		return SeedHolds{At: uint64(tp.next(20))}
	case 11:
		return Organised{Change: Change{Phase: wire.Phase(tp.next(5)), H: uint64(tp.next(600)), Workers: uint64(tp.next(3))}}
	case 12:
		if len(w.queue) == 0 {
			return Connected{Peer: p}
		}
		body := w.queue[0]
		w.queue = w.queue[1:]
		return AppendFailed{Body: body, Reason: "disk full"}
	case 13:
		if tp.next(8) == 0 {
			return Banned{Peer: p, Reason: "poison"}
		}
		w.queue = nil // lost without a word
	}
	return Tick{}
}

func FuzzJoinerSteps(f *testing.F) {
	f.Add([]byte{1, 0, 3, 1, 6, 0, 7, 0, 8, 0})
	f.Add([]byte("a worker may hear anything from its coordinator at any time, and more"))
	f.Fuzz(func(t *testing.T, script []byte) {
		j, err := NewJoiner(joinerConfig(10), rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Fatal(err)
		}
		tp := &tape{b: script}
		now := time.Unix(0, 0)
		height := uint64(0)
		training := false
		for range 400 {
			if len(tp.b) == 0 {
				break
			}
			now = now.Add(time.Duration(tp.next(4)) * time.Second)
			slot := wire.Slot(tp.next(4))
			events := []JoinerEvent{
				Tick{},
				Reached{},
				Lost{Reason: "reset"},
				Welcomed{Welcome: wire.Welcome{Slot: slot}},
				Refused{Refuse: wire.Refuse{Code: wire.RefuseSlot}},
				Diverged{Reason: "differs"},
				CaughtUp{Height: height},
				Warmed{StepTime: 5},
				WindowsLeft{Windows: uint64(tp.next(100))},
				HandedOver{},
				Logged{Height: height, Body: &wire.Member{Op: wire.MemberOp(1 + tp.next(2)), Slot: slot, Peer: tp.peer()}},
				Logged{Height: height, Body: &wire.Settings{Phase: wire.Phase(1 + min(tp.next(9), 2))}},
				Logged{Height: height, Body: &wire.Lease{Slot: slot, Ranges: tp.ranges()}},
				Drained{Reason: "disk", AtOnce: true},
				Drained{Reason: "ctrl-c"},
			}
			i := tp.next(len(events) + 1)
			if i >= len(events)-2 && tp.next(6) > 0 {
				i = 0
			}
			ev := events[min(i, len(events)-1)]
			effects := j.Step(now, ev)
			if len(effects) > 16 {
				t.Fatalf("%d effects of %s", len(effects), ev)
			}
			for n, e := range effects {
				_ = e.String()
				switch e := e.(type) {
				case StartTraining:
					if training || j.slot == 0 {
						t.Fatalf("starts to train, training %v, slot %d", training, j.slot)
					}
					training = true
				case StopTraining:
					if !training {
						t.Fatal("stops what does not run")
					}
					training = false
				case SendHeartbeat:
					if e.Slot == 0 || e.State != wire.StateDraining && e.State != j.state {
						t.Fatalf("%s in state %s", e, j.state)
					}
				case Finished:
					if n != len(effects)-1 || training {
						t.Fatal("finished and not")
					}
				default:
				}
			}
			if j.finished {
				if !j.Deadline().IsZero() || len(j.Step(now, Tick{})) > 0 {
					t.Fatal("goes on after it is finished")
				}
				break
			}
			if j.Deadline().IsZero() && j.state != wire.StateTraining && !reflect.DeepEqual(ev, Tick{}) {
				t.Fatalf("waits in %s for ever", j.state)
			}
		}
	})
}
