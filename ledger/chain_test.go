package ledger

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"dunlin/wire"
)

func testKey(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
}

func state(text string) wire.Hash { return wire.HashLeaf([]byte(text)) }

// testRules are those of a run with n coordinators and two fragments.
func testRules(n int) Rules {
	r := Rules{Run: state("run"), Fragments: 2, State0: []wire.Hash{state("0.0"), state("1.0")}}
	for i := range n {
		r.Keys = append(r.Keys, wire.PeerIDOf(testKey(i)))
	}
	return r
}

// world is a chain with the coordinators' keys at hand.
type world struct {
	t    *testing.T
	c    *Chain
	term uint64
	all  []wire.Certified
}

func newWorld(t *testing.T, coordinators int) *world {
	t.Helper()
	c, err := NewChain(testRules(coordinators))
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, c: c, term: 1}
}

// certify signs an entry with the first n coordinators' keys.
func certify(e wire.Entry, n int) wire.Certified {
	c := wire.Certified{Entry: e}
	for i := range n {
		c.Certs = append(c.Certs, wire.Attest(&e, i, testKey(i)))
	}
	return c
}

func (w *world) majority() int { return len(w.c.rules.Keys)/2 + 1 }

// try puts a body on top, as a coordinator would.
func (w *world) try(body wire.Body) error {
	e, err := w.c.Next(w.term, body)
	if err != nil {
		return err
	}
	return w.append(certify(e, w.majority()))
}

func (w *world) append(e wire.Certified) error {
	err := w.c.Append(&e)
	if err == nil {
		w.all = append(w.all, e)
	}
	return err
}

func (w *world) must(body wire.Body) {
	w.t.Helper()
	if err := w.try(body); err != nil {
		w.t.Fatal(err)
	}
}

// dropped expects a refusal that says want and leaves the chain alone.
func (w *world) dropped(body wire.Body, want string) {
	w.t.Helper()
	before := fmt.Sprintf("%+v", *w.c)
	err := w.try(body)
	if !errors.Is(err, ErrDropped) || !strings.Contains(err.Error(), want) {
		w.t.Errorf("%s: %v does not say %q", body.Kind(), err, want)
	}
	if after := fmt.Sprintf("%+v", *w.c); before != after {
		w.t.Errorf("%s: a dropped entry changed the chain", body.Kind())
	}
}

func admit(slot wire.Slot, peer int) *wire.Member {
	return &wire.Member{Op: wire.MemberAdmit, Slot: slot, Peer: wire.PeerIDOf(testKey(100 + peer))}
}

func attempt(fragment, base, term, counter uint64) *wire.Attempt {
	return &wire.Attempt{Fragment: fragment, Base: base, ID: wire.AttemptID{Term: term, Counter: counter}, Table: state("table")}
}

// commit continues the chain as it stands.
func (w *world) commit(fragment uint64) *wire.Commit {
	f := w.c.fragments[fragment]
	return &wire.Commit{
		Fragment: fragment, Base: f.head.Version, BaseState: f.head.State, Attempt: f.attempt, Settings: w.c.settingsID,
		Table: state("table"), Result: state("result"), Weight: 1, Tokens: w.c.tokens + 100,
		State: state(fmt.Sprintf("%d.%d", fragment, f.head.Version+1)),
	}
}

// story fills a chain with some of everything.
func (w *world) story(rounds int) {
	w.t.Helper()
	w.must(admit(1, 1))
	w.must(admit(2, 2))
	w.must(&wire.Lease{Slot: 1, Ranges: []wire.Range{{From: 0, To: 64}}})
	counter := w.c.lastAttempt.Counter
	for r := range rounds {
		counter++
		w.must(attempt(uint64(r%2), w.c.fragments[r%2].head.Version, w.term, counter))
		w.must(w.commit(uint64(r % 2)))
	}
	at := &wire.Checkpoint{At: w.c.height, Fragments: w.c.Fragments(), Tokens: w.c.tokens}
	w.must(at)
	done := *at
	done.Complete = true
	w.must(&done)
	w.must(&wire.Settings{Phase: wire.PhaseEnded, Reason: "budget reached"})
}

func TestChainFollowsAStory(t *testing.T) {
	w := newWorld(t, 3)
	w.story(6)
	c := w.c
	if c.Height() != 18 || c.Head() != w.all[17].Entry.Hash() || c.Term() != 1 || c.Tokens() != 600 {
		t.Fatalf("height %d, term %d, %d tokens", c.Height(), c.Term(), c.Tokens())
	}
	if f := c.Fragment(1); f.Version != 3 || f.State != state("1.3") {
		t.Fatalf("fragment 1 at %+v", f)
	}
	if len(c.Members()) != 2 || c.LastSlot() != 2 || c.LastAttempt().Counter != 6 {
		t.Fatalf("members %v, last slot %d, last attempt %s", c.Members(), c.LastSlot(), c.LastAttempt())
	}
	if s, id := c.Settings(); s.Phase != wire.PhaseEnded || id.IsZero() {
		t.Fatalf("settings %+v", s)
	}
	if p, ok := c.Checkpoint(); !ok || p.At != 15 || p.Tokens != 600 {
		t.Fatalf("checkpoint %+v, %v", p, ok)
	}
	// Another chain that reads the same entries is the same chain.
	other := newWorld(t, 3)
	for _, e := range w.all {
		if err := other.append(e); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := fmt.Sprintf("%+v", *c), fmt.Sprintf("%+v", *other.c); a != b {
		t.Fatalf("the reader differs:\n%s\n%s", a, b)
	}
}

func TestCommitIsCompareAndAppend(t *testing.T) {
	w := newWorld(t, 1)
	edit := func(change func(*wire.Commit)) *wire.Commit {
		m := w.commit(0)
		change(m)
		return m
	}
	w.dropped(edit(func(m *wire.Commit) { m.Attempt.Counter = 1; m.Attempt.Term = 1 }), "no attempt is open")
	w.must(attempt(0, 0, 1, 1))
	w.must(attempt(0, 0, 1, 2))
	w.dropped(edit(func(m *wire.Commit) { m.Attempt.Counter = 1 }), "attempt 1.1, the newest is 1.2")
	w.dropped(edit(func(m *wire.Commit) { m.Attempt.Counter = 3 }), "attempt 1.3")
	w.dropped(edit(func(m *wire.Commit) { m.Base = 1 }), "base version 1, its head is 0")
	w.dropped(edit(func(m *wire.Commit) { m.BaseState = state("x") }), "base state")
	w.dropped(edit(func(m *wire.Commit) { m.Settings = state("x") }), "settings")
	w.dropped(edit(func(m *wire.Commit) { m.Fragment = 2 }), "fragment 2 of 2")
	w.dropped(edit(func(m *wire.Commit) { m.State = wire.Hash{} }), "commit of fragment 0")
	m := w.commit(0)
	w.must(m)
	w.dropped(m, "base version 0, its head is 1") // the same commit again, in a new entry
	w.dropped(w.commit(0), "no attempt is open on version 1")
	w.must(attempt(1, 0, 1, 3))
	late := w.commit(1)
	late.Tokens = 1
	w.dropped(late, "1 tokens after 100")
}

// Named interleaving: settings between open and commit.
func TestSettingsBetweenOpenAndCommit(t *testing.T) {
	w := newWorld(t, 1)
	w.must(attempt(0, 0, 1, 1))
	stale := w.commit(0)
	w.must(&wire.Settings{Phase: wire.PhasePaused})
	w.dropped(stale, "those in force are")
	w.must(w.commit(0))
}

// Named interleaving: two fragments commit in reverse order of opening.
func TestFragmentsCommitInReverseOrder(t *testing.T) {
	w := newWorld(t, 1)
	w.must(attempt(0, 0, 1, 1))
	w.must(attempt(1, 0, 1, 2))
	w.must(w.commit(1))
	w.must(w.commit(0))
	if w.c.Fragment(0).Version != 1 || w.c.Fragment(1).Version != 1 {
		t.Fatalf("fragments %v", w.c.Fragments())
	}
}

// Named interleaving: a leader commits and dies untold, the next one retries.
// The commit stands; the retry is dropped.
func TestNextLeaderRetriesWhatWasCommitted(t *testing.T) {
	w := newWorld(t, 3)
	w.must(attempt(0, 0, 1, 1))
	retry := w.commit(0)
	w.must(w.commit(0))
	w.term = 2
	w.dropped(attempt(0, 0, 2, 1), "base version 0, its head is 1")
	retry.Attempt = wire.AttemptID{Term: 2, Counter: 1}
	w.dropped(retry, "base version 0, its head is 1")
	w.must(attempt(0, 1, 2, 1))
	w.must(w.commit(0))
}

func TestAttemptIDsOnlyRise(t *testing.T) {
	w := newWorld(t, 1)
	w.term = 3
	w.dropped(attempt(0, 0, 2, 1), "attempt 2.1 in term 3")
	w.must(attempt(0, 0, 3, 4))
	w.dropped(attempt(1, 0, 3, 4), "attempt 3.4 after attempt 3.4")
	w.dropped(attempt(0, 1, 3, 5), "base version 1")
	if id, open := w.c.Attempt(0); !open || id.Counter != 4 {
		t.Fatalf("attempt %s, %v", id, open)
	}
	w.must(w.commit(0))
	if _, open := w.c.Attempt(0); open {
		t.Fatal("an attempt is open after its commit")
	}
	w.term = 4
	w.must(attempt(1, 0, 4, 1)) // counters begin anew in each term
	w.term = 3
	w.dropped(attempt(1, 0, 3, 9), "term 3 after term 4")
}

func TestMembershipRules(t *testing.T) {
	w := newWorld(t, 1)
	w.must(admit(2, 1))
	w.dropped(admit(2, 2), "slot 2 was given before")
	w.dropped(admit(1, 2), "slot 1 was given before")
	w.dropped(&wire.Lease{Slot: 3, Ranges: []wire.Range{{From: 0, To: 1}}}, "slot 3 is not a member's")
	leave := admit(2, 2)
	leave.Op = wire.MemberLeave
	w.dropped(leave, "belongs to")
	leave.Peer = admit(2, 1).Peer
	w.must(leave)
	w.dropped(leave, "has ended")
	w.dropped(&wire.Lease{Slot: 2, Ranges: []wire.Range{{From: 0, To: 1}}}, "not a member's")
	w.dropped(admit(2, 1), "slot 2 was given before") // a rejoin gets a new slot
	w.must(admit(3, 1))
}

func TestCheckpointRules(t *testing.T) {
	w := newWorld(t, 1)
	w.must(attempt(0, 0, 1, 1))
	w.must(w.commit(0))
	p := wire.Checkpoint{At: 2, Fragments: w.c.Fragments(), Tokens: 100}
	edit := func(change func(*wire.Checkpoint)) *wire.Checkpoint {
		q := p
		q.Fragments = append([]wire.FragmentHead(nil), p.Fragments...)
		change(&q)
		return &q
	}
	w.dropped(edit(func(q *wire.Checkpoint) { q.At = 3 }), "not below")
	w.dropped(edit(func(q *wire.Checkpoint) { q.At = 1 }), "a commit stands at 2")
	w.dropped(edit(func(q *wire.Checkpoint) { q.Fragments = q.Fragments[:1] }), "1 fragments of 2")
	w.dropped(edit(func(q *wire.Checkpoint) { q.Fragments[0].Version = 2 }), "fragment 0")
	w.dropped(edit(func(q *wire.Checkpoint) { q.Fragments[1].State = state("x") }), "fragment 1")
	w.dropped(edit(func(q *wire.Checkpoint) { q.Tokens = 1 }), "1 tokens")
	w.dropped(edit(func(q *wire.Checkpoint) { q.Complete = true }), "not announced")
	w.must(&p)
	w.dropped(edit(func(q *wire.Checkpoint) { q.Complete = true; q.Fragments[0].State = state("x") }), "not announced")
	// Rounds go on while peers take it in.
	w.must(attempt(0, 1, 1, 2))
	w.must(w.commit(0))
	w.must(edit(func(q *wire.Checkpoint) { q.Complete = true }))
	w.dropped(edit(func(q *wire.Checkpoint) { q.Complete = true }), "not announced")
}

func TestWaitingCheckpointsAreBounded(t *testing.T) {
	w := newWorld(t, 1)
	for range maxAnnounced + 5 {
		w.must(&wire.Checkpoint{At: w.c.height, Fragments: w.c.Fragments(), Tokens: 0})
	}
	if len(w.c.announced) != maxAnnounced {
		t.Fatalf("%d checkpoints wait", len(w.c.announced))
	}
	w.dropped(&wire.Checkpoint{At: 0, Fragments: w.c.Fragments(), Complete: true}, "not announced")
}

func TestLinks(t *testing.T) {
	w := newWorld(t, 1)
	w.story(3)
	first, second := w.all[0], w.all[1]
	fresh := newWorld(t, 1)
	if err := fresh.append(second); !errors.Is(err, ErrGap) {
		t.Errorf("entry 2 on an empty chain: %v", err)
	}
	if err := w.append(first); !errors.Is(err, ErrKnown) {
		t.Errorf("entry 1 again: %v", err)
	}
	zero := first
	zero.Entry.Height = 0
	if err := fresh.append(zero); !errors.Is(err, ErrDropped) {
		t.Errorf("an entry of height 0: %v", err)
	}
	unlinked := first.Entry
	unlinked.Prev = state("elsewhere")
	if err := fresh.append(certify(unlinked, 1)); !errors.Is(err, ErrDropped) {
		t.Errorf("entry 1 on something else: %v", err)
	}
	foreign := first.Entry
	foreign.Run = state("another run")
	if err := fresh.append(certify(foreign, 1)); !errors.Is(err, ErrDropped) || !strings.Contains(err.Error(), "belongs to run") {
		t.Errorf("another run's entry: %v", err)
	}
	noTerm := first.Entry
	noTerm.Term = 0
	if err := fresh.append(certify(noTerm, 1)); !errors.Is(err, ErrDropped) {
		t.Errorf("term 0: %v", err)
	}
	unknown := first.Entry
	unknown.Kind = 99
	if err := fresh.append(certify(unknown, 1)); !errors.Is(err, ErrDropped) {
		t.Errorf("unknown kind: %v", err)
	}
	garbage := first.Entry
	garbage.Payload = []byte{0xff}
	if err := fresh.append(certify(garbage, 1)); !errors.Is(err, ErrDropped) {
		t.Errorf("garbage payload: %v", err)
	}
	if fresh.c.Height() != 0 {
		t.Fatal("a refused entry was taken")
	}
}

func TestMajorityHasToSign(t *testing.T) {
	w := newWorld(t, 3)
	e, err := w.c.Next(1, admit(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	stranger := certify(e, 2)
	stranger.Certs[1] = wire.Attest(&e, 1, testKey(50))
	twice := certify(e, 1)
	twice.Certs = append(twice.Certs, twice.Certs[0])
	altered := certify(e, 2)
	altered.Entry.Term = 2
	for name, c := range map[string]wire.Certified{
		"unsigned": certify(e, 0), "minority": certify(e, 1), "stranger": stranger, "one twice": twice, "altered": altered,
	} {
		if err := w.append(c); err == nil || errors.Is(err, ErrFork) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.append(certify(e, 2)); err != nil {
		t.Fatal(err)
	}
}

// Two certified entries at one height stop the chain, whichever way they come.
func TestForkStopsTheChain(t *testing.T) {
	for name, other := range map[string]func(w *world) (wire.Certified, uint64){
		"same height": func(w *world) (wire.Certified, uint64) {
			e := w.all[2].Entry
			return certify(wire.NewEntry(e.Run, 3, e.Prev, 1, admit(9, 9)), 1), 3
		},
		"built upon": func(w *world) (wire.Certified, uint64) {
			e := w.all[2].Entry
			rival := wire.NewEntry(e.Run, 3, e.Prev, 1, admit(9, 9))
			return certify(wire.NewEntry(e.Run, 4, rival.Hash(), 1, admit(10, 9)), 1), 3
		},
	} {
		w := newWorld(t, 1)
		w.must(admit(1, 1))
		w.must(admit(2, 2))
		w.must(admit(3, 3))
		rival, height := other(w)
		unsigned := rival
		unsigned.Certs = nil
		if err := w.append(unsigned); err == nil || errors.Is(err, ErrFork) {
			t.Fatalf("%s: an unsigned rival stopped the chain: %v", name, err)
		}
		err := w.append(rival)
		var fork *ForkError
		if !errors.As(err, &fork) || !errors.Is(err, ErrFork) || fork.Height != height || fork.Ours != w.all[2].Entry.Hash() || fork.Theirs == fork.Ours {
			t.Fatalf("%s: %v", name, err)
		}
		if !strings.Contains(err.Error(), fork.Ours.String()) || !strings.Contains(err.Error(), fork.Theirs.String()) {
			t.Errorf("%s: %q does not name both", name, err)
		}
		if err := w.try(admit(4, 4)); !errors.Is(err, ErrFork) {
			t.Errorf("%s: the chain goes on: %v", name, err)
		}
	}
}

func TestHashAtRemembersTheNewest(t *testing.T) {
	w := newWorld(t, 1)
	for slot := wire.Slot(1); slot <= recentHashes+10; slot++ {
		w.must(admit(slot, 1))
	}
	for _, h := range []uint64{11, 12, recentHashes, recentHashes + 10} {
		if got, ok := w.c.HashAt(h); !ok || got != w.all[h-1].Entry.Hash() {
			t.Errorf("height %d: %s, %v", h, got.Short(), ok)
		}
	}
	for _, h := range []uint64{0, 1, 10, recentHashes + 11} {
		if _, ok := w.c.HashAt(h); ok {
			t.Errorf("height %d is remembered", h)
		}
	}
	if err := w.append(w.all[0]); !errors.Is(err, ErrKnown) {
		t.Errorf("an old entry: %v", err)
	}
}

func TestRulesValidate(t *testing.T) {
	for name, change := range map[string]func(*Rules){
		"run":       func(r *Rules) { r.Run = wire.Hash{} },
		"no keys":   func(r *Rules) { r.Keys = nil },
		"many keys": func(r *Rules) { r.Keys = make([]wire.PeerID, wire.MaxKeys+1) },
		"fragments": func(r *Rules) { r.Fragments = 0 },
		"states":    func(r *Rules) { r.State0 = r.State0[:1] },
	} {
		r := testRules(1)
		change(&r)
		if _, err := NewChain(r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
