package core

import (
	"crypto/ed25519"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/round"
	"dunlin/wire"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txt")

func key(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func id(n byte) wire.PeerID { return wire.PeerIDOf(key(n)) }

func testSpec() *wire.RunSpec {
	f := wire.FloatOf
	return &wire.RunSpec{
		Protocol: wire.Protocol, Name: "test", Model: wire.ModelSpec{Family: "gpt2", Layers: 1, Heads: 1, Width: 4, Context: 8, Vocab: 256},
		Tensors: []wire.TensorSpec{{Name: "a", Shape: []uint64{4, 4}}, {Name: "b", Shape: []uint64{4}, Fragment: 1}},
		Data:    wire.DataSpec{Tokenizer: "byte", Train: []wire.ShardSpec{{Tokens: 100}}, HeldOut: []wire.ShardSpec{{Tokens: 10}}, Windows: 12, Batch: 2},
		Inner:   wire.InnerSpec{LR: f(2e-3), Beta1: f(0.9), Beta2: f(0.95), Eps: f(1e-8), Decay: f(0.1), Clip: f(1), FinalRate: f(0.1)},
		Outer:   wire.OuterSpec{LR: f(0.7), Momentum: f(0.9)}, Fragments: 2, H: 4, Contribution: "int8", Result: "int8", Merge: "rebase", Decay: f(1),
		TokenBudget: 1000, Deadlines: wire.DefaultDeadlines(), Checkpoint: 16, Coordinators: []wire.PeerID{id(1)}, Organiser: id(1),
	}
}

func testCore(t testing.TB, self byte, works bool) *Core {
	t.Helper()
	spec := testSpec()
	c, err := New(Config{
		Self: id(self), Coordinator: id(1), Coordinates: self == 1, Run: spec.ID(), Spec: spec, Slabs: []int{1, 1}, SlabBytes: []uint64{64, 64},
		State: []wire.FragmentHead{{State: wire.HashLeaf([]byte("a0"))}, {State: wire.HashLeaf([]byte("b0"))}}, Works: works, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// transcript steps a core and writes down what it was told and what it wants.
type transcript struct {
	core *Core
	now  time.Time
	text strings.Builder
}

func (s *transcript) step(after time.Duration, events ...Event) {
	s.now = s.now.Add(after)
	for _, ev := range events {
		fmt.Fprintf(&s.text, "> %s\n", ev)
		for _, e := range s.core.Step(s.now, ev) {
			fmt.Fprintf(&s.text, "    %s\n", e)
		}
	}
}

func (s *transcript) check(t *testing.T, name string) {
	t.Helper()
	path := "testdata/" + name + ".txt"
	if *update {
		if err := os.WriteFile(path, []byte(s.text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s.text.String() != string(want) {
		t.Errorf("the transcript has changed; explain the difference in the commit and run with -update\n%s", s.text.String())
	}
}

// TestCoordinatorLeadsAndAdmits follows a new coordinator to its first member.
func TestCoordinatorLeadsAndAdmits(t *testing.T) {
	s := transcript{core: testCore(t, 1, false), now: time.Unix(1000, 0)}
	s.step(0, coordinator.Started{}, coordinator.TermRaised{Term: 1})
	s.step(time.Second, PeerUp{Peer: id(2)}, coordinator.HelloFrom{Peer: id(2), Hello: wire.Hello{
		Protocol: wire.Protocol, Run: s.core.cfg.Run, Role: wire.RoleWorker,
	}})
	admit := &wire.Member{Op: wire.MemberAdmit, Slot: 1, Peer: id(2)}
	s.step(0, Logged{Height: 1, Term: 1, Body: admit})
	s.step(0, Message{From: id(2), Message: &wire.LeaseRequest{Slot: 1, Windows: 8}})
	s.step(time.Second, Message{From: id(3), Message: &wire.LeaseRequest{Slot: 1, Windows: 8}})
	s.step(time.Second, PeerDown{Peer: id(2), Reason: "connection lost"})
	s.step(6*time.Second, Tick{})
	s.check(t, "coordinator")
}

// TestAReadyThatCannotCountEndsItsSlot: a worker whose contribution names
// windows that are not leased to it would announce it for ever. Stale ones and
// those of strangers are dropped without a word.
func TestAReadyThatCannotCountEndsItsSlot(t *testing.T) {
	s := transcript{core: testCore(t, 1, false), now: time.Unix(1000, 0)}
	s.step(0, coordinator.Started{}, coordinator.TermRaised{Term: 1})
	s.step(0, PeerUp{Peer: id(2)}, coordinator.HelloFrom{Peer: id(2), Hello: wire.Hello{
		Protocol: wire.Protocol, Run: s.core.cfg.Run, Role: wire.RoleWorker,
	}})
	s.step(0, Logged{Height: 1, Term: 1, Body: &wire.Member{Op: wire.MemberAdmit, Slot: 1, Peer: id(2)}})
	s.step(0, Logged{Height: 2, Term: 1, Body: &wire.Lease{Slot: 1, Ranges: []wire.Range{{From: 0, To: 8}}}})
	ready := func(by byte, base, from, to uint64) Message {
		r := wire.Ready{Slot: 1, Base: base, Root: wire.HashLeaf([]byte("r")), To: 1, Tokens: 8, Windows: []wire.Range{{From: from, To: to}}}
		kind := wire.ReadyKind(s.core.cfg.Run)
		return Message{From: id(by), Message: &wire.SignedReady{Ready: r, Sig: wire.Sign(key(by), kind, wire.Encode(&r))}}
	}
	for _, test := range []struct {
		name    string
		message Message
		refused bool
	}{
		{"one that counts", ready(2, 0, 0, 2), false},
		{"windows of nobody", ready(2, 0, 8, 10), true},
		{"the same of another base", ready(2, 1, 8, 10), false},
		{"the same from a stranger", ready(3, 0, 8, 10), false},
	} {
		refused := false
		for _, e := range s.core.Step(s.now, test.message) {
			if send, ok := e.(Send); ok {
				r, is := send.Message.(*wire.Refuse)
				refused = refused || is && r.Code == wire.RefuseSlot && send.To[0] == test.message.From
			}
		}
		if refused != test.refused {
			t.Errorf("%s: slot refused %v, want %v", test.name, refused, test.refused)
		}
	}
}

// TestWorkerFollowsOnlyTheCoordinator follows a worker to its first step; what
// only the coordinator may say is dropped from anyone else.
func TestWorkerFollowsOnlyTheCoordinator(t *testing.T) {
	s := transcript{core: testCore(t, 2, true), now: time.Unix(1000, 0)}
	s.step(0, Tick{}, PeerUp{Peer: id(1)})
	s.step(0, Message{From: id(3), Message: &wire.Welcome{Slot: 1, Head: 1, Term: 1}})
	s.step(0, Message{From: id(1), Message: &wire.Welcome{Slot: 1, Head: 1, Term: 1}})
	s.step(0, Logged{Height: 1, Term: 1, Body: &wire.Member{Op: wire.MemberAdmit, Slot: 1, Peer: id(2)}})
	s.step(0, DataReady{})
	s.step(0, round.Assigned{Slot: 1, Versions: []uint64{0, 0}})
	s.step(time.Second, coordinator.Warmed{StepTime: 1000})
	s.step(0, coordinator.Drained{Reason: "ctrl-c"})
	s.step(0, Logged{Height: 2, Term: 1, Body: &wire.Member{Op: wire.MemberLeave, Slot: 1, Peer: id(2), Reason: "ctrl-c"}})
	s.check(t, "worker")
}

// TestAGoodbyeWaitsForTheLastStatesHash: where the run has ended a worker leaves when its last state is hashed from memory.
func TestAGoodbyeWaitsForTheLastStatesHash(t *testing.T) {
	c := testCore(t, 2, true)
	left := func(ev Event) bool {
		for _, e := range c.Step(time.Unix(1000, 0), ev) {
			if s, ok := e.(Send); ok {
				if _, is := s.Message.(*wire.Leave); is {
					return true
				}
			}
		}
		return false
	}
	for _, ev := range []Event{
		Tick{},
		PeerUp{Peer: id(1)},
		Message{From: id(1), Message: &wire.Welcome{Slot: 1, Head: 1, Term: 1}},
		Logged{Height: 1, Term: 1, Body: &wire.Member{Op: wire.MemberAdmit, Slot: 1, Peer: id(2)}},
		Logged{Height: 2, Term: 1, Body: &wire.Settings{Phase: wire.PhaseEnded, Reason: "enough"}},
		Tick{},
		StateHashed{Heads: []wire.FragmentHead{{Version: 3}, {}}},
	} {
		if left(ev) {
			t.Fatalf("left at %s", ev)
		}
	}
	if !left(StateHashed{Heads: make([]wire.FragmentHead, 2)}) {
		t.Error("it does not leave once its last state is hashed")
	}
}

// FuzzSteps feeds a peer with every role any events: it must not panic, ask for
// no unbounded number of things, and keep a deadline while it waits.
func FuzzSteps(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	f.Add([]byte{12, 13, 0, 2, 6, 1, 3, 9, 1, 14, 15, 0, 0, 7, 1, 1, 10, 1, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		c := testCore(t, 1, true)
		now := time.Unix(1000, 0)
		height := uint64(0)
		for len(script) >= 4 && height < 200 {
			op, a, b := script[0], script[1], script[2]
			now = now.Add(time.Duration(script[3]) * 40 * time.Millisecond)
			script = script[4:]
			ev := fuzzEvent(op, a, b, &height)
			if n := len(c.Step(now, ev)); n > 4096 {
				t.Fatalf("%d effects after %s", n, ev)
			}
		}
		c.Snapshot()
		c.Coordinator()
		c.Deadline()
	})
}

func fuzzEvent(op, a, b byte, height *uint64) Event {
	peer, f := id(1+a%4), uint64(b%3)
	hash := wire.HashLeaf(binary.LittleEndian.AppendUint16(nil, uint16(a)<<8|uint16(b)))
	attempt := wire.AttemptID{Term: 1, Counter: uint64(1 + b%3)}
	logged := func(body wire.Body) Event {
		*height++
		return Logged{Height: *height, Term: 1, Body: body}
	}
	switch op % 20 {
	case 0:
		return PeerUp{Peer: peer}
	case 1:
		return PeerDown{Peer: peer, Reason: "gone"}
	case 2:
		return coordinator.HelloFrom{Peer: peer, Hello: wire.Hello{Protocol: wire.Protocol, Run: testSpec().ID(), Role: wire.RoleWorker, Slot: wire.Slot(b % 3)}}
	case 3:
		return Message{From: peer, Message: &wire.Welcome{Slot: wire.Slot(b % 3), Head: uint64(b % 8), Term: 1}}
	case 4:
		return Message{From: peer, Message: &wire.Heartbeat{Slot: wire.Slot(b % 3), State: wire.WorkerState(b % 9), Step: uint64(b)}}
	case 5:
		r := wire.Ready{Slot: wire.Slot(1 + b%2), Fragment: f % 2, Root: hash, From: 0, To: 4, Tokens: 64, Windows: []wire.Range{{From: 0, To: 8}}}
		n := 1 + a%4
		return Message{From: peer, Message: &wire.SignedReady{Ready: r, Sig: wire.Sign(key(n), wire.ReadyKind(testSpec().ID()), wire.Encode(&r))}}
	case 6:
		return logged(&wire.Member{Op: wire.MemberOp(1 + b%3), Slot: wire.Slot(1 + a%3), Peer: peer})
	case 7:
		return logged(&wire.Lease{Slot: wire.Slot(1 + a%3), Ranges: []wire.Range{{From: uint64(b), To: uint64(b) + 8}}})
	case 8:
		return logged(&wire.Attempt{Fragment: f % 2, ID: attempt, Table: hash})
	case 9:
		return logged(&wire.Commit{Fragment: f % 2, Attempt: attempt, Table: hash, Result: hash, State: hash, Tokens: uint64(b)})
	case 10:
		return logged(&wire.Settings{Phase: wire.Phase(1 + b%3), Solo: a%2 == 1})
	case 11:
		return logged(&wire.Checkpoint{At: *height, Fragments: make([]wire.FragmentHead, 2), Complete: b%2 == 1})
	case 12:
		return coordinator.Started{Term: uint64(b % 3)}
	case 13:
		return coordinator.TermRaised{Term: 1 + uint64(b%3)}
	case 14:
		return DataReady{}
	case 15:
		return round.Assigned{Slot: wire.Slot(1 + b%2), Versions: []uint64{0, 0}}
	case 16:
		return round.StepDone{Step: uint64(b), Tokens: 16, Windows: []wire.Range{{From: uint64(b) * 2, To: uint64(b)*2 + 2}}, StepTime: 1000}
	case 17:
		return Message{From: peer, Message: &wire.Have{Fragment: f, Attempt: attempt, Result: hash, State: hash}}
	case 18:
		return catchup.Fetched{Ref: catchup.Ref{What: wire.WhatBlob, Hash: hash}}
	default:
		return Tick{}
	}
}
