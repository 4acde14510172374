package group

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dunlin/swarm"
	"dunlin/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// switchboard carries calls between members in memory and cuts them off.
type switchboard struct {
	mu    sync.Mutex
	serve map[wire.PeerID]func(context.Context, wire.PeerID, []byte) ([]byte, error)
	ends  map[wire.PeerID]context.Context
	away  map[wire.PeerID]bool
}

var errCut = errors.New("cut off")

// phone is one member's end.
type phone struct {
	board *switchboard
	self  wire.PeerID
}

func (p phone) Call(ctx context.Context, to wire.PeerID, request []byte) ([]byte, error) {
	p.board.mu.Lock()
	serve, end := p.board.serve[to], p.board.ends[to]
	cut := p.board.away[p.self] || p.board.away[to] || serve == nil || end.Err() != nil
	p.board.mu.Unlock()
	if cut {
		return nil, errCut
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(end, cancel)()
	return serve(ctx, p.self, bytes.Clone(request))
}

func (p phone) Answer(ctx context.Context, _ []wire.PeerID, serve func(context.Context, wire.PeerID, []byte) ([]byte, error)) {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	p.board.serve[p.self], p.board.ends[p.self] = serve, ctx
}

// cut separates a member from the others, or joins it again.
func (b *switchboard) cut(id wire.PeerID, away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away[id] = away
}

// member is a Group and what its handler heard.
type member struct {
	id    wire.PeerID
	dir   string
	group *Group

	mu      sync.Mutex
	heard   []string
	leads   bool
	unknown []string
	news    chan struct{}
}

func (m *member) note(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	select {
	case m.news <- struct{}{}:
	default:
	}
}

func (m *member) Agreed(c []byte)    { m.note(func() { m.heard = append(m.heard, string(c)) }) }
func (m *member) Leading(leads bool) { m.note(func() { m.leads = leads }) }
func (m *member) Unknown(c []byte, _ string) {
	m.note(func() { m.unknown = append(m.unknown, string(c)) })
}

func (m *member) has(command string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.heard, command)
}

func (m *member) leading() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leads
}

func key(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
}

// three is a group whose members call each other through callers.
type three struct {
	t       *testing.T
	members []*member
	callers []Caller
	ids     []wire.PeerID
}

func newThree(t *testing.T) *three {
	w := &three{t: t}
	for i := range 3 {
		w.ids = append(w.ids, wire.PeerIDOf(key(i)))
		w.members = append(w.members, &member{id: w.ids[i], dir: t.TempDir()})
	}
	t.Cleanup(func() {
		for i := range w.members {
			w.kill(i)
		}
	})
	return w
}

func (w *three) start(i int) {
	w.t.Helper()
	m := w.members[i]
	m.heard, m.leads, m.news = nil, false, make(chan struct{}, 1)
	g, err := Open(Config{
		Self: m.id, Members: w.ids, Dir: m.dir, Caller: w.callers[i], Handler: m, Pace: Pace{Heartbeat: 150 * time.Millisecond, Commit: 5 * time.Millisecond},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m.group = g
}

func (w *three) kill(i int) {
	m := w.members[i]
	if m.group == nil {
		return
	}
	if err := m.group.Close(); err != nil {
		w.t.Error(err)
	}
	m.group = nil
	m.note(func() { m.leads = false })
}

// until waits for a condition, which a member's handler makes true.
func (w *three) until(what string, holds func() bool) {
	w.t.Helper()
	limit := time.After(15 * time.Second)
	for !holds() {
		tick := time.After(20 * time.Millisecond)
		select {
		case <-w.members[0].news:
		case <-tick:
		case <-limit:
			w.t.Fatalf("waited 15 s in vain: %s", what)
		}
	}
}

// leader waits for a leader among the members that are there, one of which it is not.
func (w *three) leader(not int) int {
	w.t.Helper()
	found := -1
	w.until("somebody leads", func() bool {
		found = slices.IndexFunc(w.members, func(m *member) bool { return m.group != nil && m.leading() })
		return found >= 0 && found != not
	})
	return found
}

// agree has a leader propose until the command is agreed on at every member named.
func (w *three) agree(leader int, command string, at ...int) {
	w.t.Helper()
	if err := w.members[leader].group.Propose([]byte(command)); err != nil {
		w.t.Fatal(err)
	}
	w.until(command, func() bool {
		return !slices.ContainsFunc(at, func(i int) bool { return !w.members[i].has(command) })
	})
}

func inMemory(t *testing.T) (*three, *switchboard) {
	w := newThree(t)
	board := &switchboard{
		serve: map[wire.PeerID]func(context.Context, wire.PeerID, []byte) ([]byte, error){}, ends: map[wire.PeerID]context.Context{}, away: map[wire.PeerID]bool{},
	}
	for i := range 3 {
		w.callers = append(w.callers, phone{board, w.ids[i]})
	}
	for i := range 3 {
		w.start(i)
	}
	return w, board
}

func TestLeaderIsReplacedAndComesBack(t *testing.T) {
	w, _ := inMemory(t)
	first := w.leader(-1)
	w.agree(first, "one", 0, 1, 2)
	w.kill(first)
	second := w.leader(first)
	rest := []int{(first + 1) % 3, (first + 2) % 3}
	w.agree(second, "two", rest...)
	w.start(first)
	w.agree(second, "three", 0, 1, 2)
	for i, m := range w.members {
		if got := fmt.Sprint(m.heard); got != "[one two three]" {
			t.Errorf("member %d heard %s", i, got)
		}
	}
}

// TestCutOffLeaderAgreesOnNothing: what a partitioned leader proposes is known
// as unknown and is never agreed on by it alone.
func TestCutOffLeaderAgreesOnNothing(t *testing.T) {
	w, board := inMemory(t)
	first := w.leader(-1)
	w.agree(first, "one", 0, 1, 2)
	board.cut(w.ids[first], true)
	if err := w.members[first].group.Propose([]byte("void")); err != nil {
		t.Fatal(err)
	}
	second := w.leader(first)
	w.agree(second, "two", (first+1)%3, (first+2)%3)
	w.until("the old leader steps down", func() bool { return !w.members[first].leading() })
	if w.members[first].has("void") || w.members[first].has("two") {
		t.Fatalf("a cut off leader agreed with itself: %v", w.members[first].heard)
	}
	board.cut(w.ids[first], false)
	w.until("the old leader follows", func() bool { return w.members[first].has("two") })
	if w.members[first].has("void") || !slices.Contains(w.members[first].unknown, "void") {
		t.Fatalf("heard %v, unknown %v", w.members[first].heard, w.members[first].unknown)
	}
}

func TestAllGoAndComeBack(t *testing.T) {
	w, _ := inMemory(t)
	w.agree(w.leader(-1), "one", 0, 1, 2)
	for i := range 3 {
		w.kill(i)
	}
	w.start(0)
	w.start(2)
	w.agree(w.leader(-1), "two", 0, 2)
	if got := fmt.Sprint(w.members[2].heard); got != "[one two]" {
		t.Fatal(got)
	}
}

// TestOverHosts runs the same over libp2p on loopback.
func TestOverHosts(t *testing.T) {
	w := newThree(t)
	var hosts []*swarm.Host
	for i := range 3 {
		h, err := swarm.New(t.Context(), swarm.Config{Key: key(i), Protocol: "/dunlin/1/test", Handler: quiet{}})
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
		w.callers = append(w.callers, h)
	}
	defer func() {
		for i := range hosts {
			w.kill(i)
			if err := hosts[i].Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	for i, h := range hosts {
		for j, other := range hosts {
			if i < j {
				if err := h.Connect(t.Context(), other.ID(), other.Addrs()); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.start(i)
	}
	w.agree(w.leader(-1), "one", 0, 1, 2)
	stranger, err := swarm.New(t.Context(), swarm.Config{Key: key(9), Protocol: "/dunlin/1/test", Handler: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if err := stranger.Connect(t.Context(), hosts[0].ID(), hosts[0].Addrs()); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Call(t.Context(), hosts[0].ID(), encodeVote(kindVote, &voteRequest{Term: 99})); err == nil {
		t.Fatal("a stranger's call was answered")
	}
}

type quiet struct{}

func (quiet) Connected(wire.PeerID)       {}
func (quiet) Disconnected(wire.PeerID)    {}
func (quiet) Message(wire.PeerID, []byte) {}
func (quiet) Serve(context.Context, wire.PeerID, []byte) ([]byte, error) {
	return nil, errors.New("nothing here")
}
