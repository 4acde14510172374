package group

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dunlin/swarm"
	"dunlin/swarm/swarmtest"
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
	heard   []string // since it was last restored
	before  history  // of that
	leads   bool
	unknown []string
	news    chan struct{}
}

// history is a number of commands and a hash over all of them.
type history struct {
	commands uint64
	hash     [sha256.Size]byte
}

func (h *history) add(command string) {
	h.commands++
	h.hash = sha256.Sum256(append(h.hash[:], command...))
}

// history returns what the member has been told, in both ways.
func (m *member) history() history {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.before
	for _, c := range m.heard {
		h.add(c)
	}
	return h
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

func (m *member) Agreed(c []byte) { m.note(func() { m.heard = append(m.heard, string(c)) }) }
func (m *member) Condense(done func([]byte, error)) {
	h := m.history()
	done(append(binary.BigEndian.AppendUint64(nil, h.commands), h.hash[:]...), nil)
}

func (m *member) Restored(b []byte) {
	m.note(func() {
		m.heard, m.before = nil, history{commands: binary.BigEndian.Uint64(b), hash: [sha256.Size]byte(b[8:])}
	})
}

func (m *member) Leading(leads bool) { m.note(func() { m.leads = leads }) }
func (m *member) Unknown(c []byte, _ string) {
	m.note(func() { m.unknown = append(m.unknown, string(c)) })
}

func (m *member) has(command string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.heard, command)
}

// all returns what it heard since it was last restored.
func (m *member) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.heard)
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
	kept    uint64
	pulse   time.Duration
}

// quick replaces a leader soon; a member that writes much needs more time.
const quick = 150 * time.Millisecond

func newThree(t *testing.T) *three {
	w := &three{t: t, pulse: quick}
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
	m.heard, m.before, m.leads, m.news = nil, history{}, false, make(chan struct{}, 1)
	g, err := Open(Config{
		Self: m.id, Members: w.ids, Dir: m.dir, Caller: w.callers[i], Handler: m, Kept: w.kept,
		Pace: Pace{Heartbeat: w.pulse, Commit: 5 * time.Millisecond, Condense: 20 * time.Millisecond},
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

// until waits for a condition, which a member's handler makes true; time is the bubble's.
func (w *three) until(what string, holds func() bool) {
	w.t.Helper()
	limit := time.After(time.Minute)
	for !holds() {
		tick := time.After(20 * time.Millisecond)
		select {
		case <-w.members[0].news:
		case <-tick:
		case <-limit:
			w.t.Fatalf("waited a minute in vain: %s", what)
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

// inMemory has three members call each other through a switchboard, in virtual time: no machine is too slow for their pulse.
func inMemory(t *testing.T, kept uint64, pulse time.Duration, test func(*testing.T, *three, *switchboard)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newThree(t)
		w.kept, w.pulse = kept, pulse
		board := &switchboard{
			serve: map[wire.PeerID]func(context.Context, wire.PeerID, []byte) ([]byte, error){}, ends: map[wire.PeerID]context.Context{}, away: map[wire.PeerID]bool{},
		}
		for i := range 3 {
			w.callers = append(w.callers, phone{board, w.ids[i]})
		}
		for i := range 3 {
			w.start(i)
		}
		test(t, w, board)
	})
}

func TestLeaderIsReplacedAndComesBack(t *testing.T) {
	inMemory(t, 0, quick, func(t *testing.T, w *three, _ *switchboard) {
		first := w.leader(-1)
		w.agree(first, "one", 0, 1, 2)
		w.kill(first)
		second := w.leader(first)
		rest := []int{(first + 1) % 3, (first + 2) % 3}
		w.agree(second, "two", rest...)
		w.start(first)
		w.agree(second, "three", 0, 1, 2)
		for i, m := range w.members {
			if got := fmt.Sprint(m.all()); got != "[one two three]" {
				t.Errorf("member %d heard %s", i, got)
			}
		}
	})
}

// TestCutOffLeaderAgreesOnNothing: what a partitioned leader proposes is known
// as unknown and is never agreed on by it alone.
func TestCutOffLeaderAgreesOnNothing(t *testing.T) {
	inMemory(t, 0, quick, func(t *testing.T, w *three, board *switchboard) {
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
			t.Fatalf("a cut off leader agreed with itself: %v", w.members[first].all())
		}
		board.cut(w.ids[first], false)
		w.until("the old leader follows", func() bool { return w.members[first].has("two") })
		if w.members[first].has("void") || !slices.Contains(w.members[first].unknown, "void") {
			t.Fatalf("heard %v, unknown %v", w.members[first].all(), w.members[first].unknown)
		}
	})
}

func TestAllGoAndComeBack(t *testing.T) {
	inMemory(t, 0, quick, func(t *testing.T, w *three, _ *switchboard) {
		w.agree(w.leader(-1), "one", 0, 1, 2)
		for i := range 3 {
			w.kill(i)
		}
		w.start(0)
		w.start(2)
		w.agree(w.leader(-1), "two", 0, 2)
		if got := fmt.Sprint(w.members[2].all()); got != "[one two]" {
			t.Fatal(got)
		}
	})
}

// flood has a leader propose numbered commands and waits until the members named have
// been told of all of them.
func (w *three) flood(leader, from, to int, at ...int) {
	w.t.Helper()
	for n := from; n < to; n++ {
		command := fmt.Appendf(nil, "%06d %s", n, strings.Repeat("x", 200))
		w.until("there is room", func() bool { return w.members[leader].group.Propose(command) == nil })
		if n%32 == 0 {
			time.Sleep(20 * time.Millisecond) // of the bubble's clock, by which a log is cut
		}
	}
	w.until("the flood is over", func() bool {
		return !slices.ContainsFunc(at, func(i int) bool { return w.members[i].history().commands < uint64(to) })
	})
}

// TestLogStaysBounded: what a member keeps does not grow with the number of commands,
// one that was away for longer than they are kept is told what they came to, and one
// that starts again is told that and the newest.
func TestLogStaysBounded(t *testing.T) {
	const kept, many = 64, 3000
	inMemory(t, kept, time.Second, func(t *testing.T, w *three, board *switchboard) {
		lead := w.leader(-1)
		away, other := (lead+1)%3, (lead+2)%3
		w.flood(lead, 0, 100, 0, 1, 2)
		board.cut(w.ids[away], true)
		w.flood(lead, 100, many/3, lead, other)
		size := func(i int) int64 {
			info, err := os.Stat(filepath.Join(w.members[i].dir, "raft.db"))
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}
		early := size(lead)
		w.flood(lead, many/3, many, lead, other)
		w.until("the log is cut", func() bool {
			first, err := w.members[lead].group.store.FirstIndex()
			return err == nil && first > many-3*kept
		})
		if now := size(lead); now > early+early/4 {
			t.Errorf("raft.db went from %d to %d bytes", early, now)
		}
		if n := len(w.members[away].all()); n > 200 {
			t.Fatalf("a member that is cut off heard %d commands", n)
		}
		board.cut(w.ids[away], false)
		w.flood(lead, many, many+10, 0, 1, 2)
		w.kill(other)
		w.start(other)
		w.flood(lead, many+10, many+20, 0, 1, 2)
		want := w.members[lead].history()
		for _, i := range []int{away, other} {
			m := w.members[i]
			if got := m.history(); got != want {
				t.Errorf("member %d was told of %d commands, not as the leader was", i, got.commands)
			}
			if m.before.commands == 0 || len(m.heard) > many/3 {
				t.Errorf("member %d was told of %d commands in one and then heard %d", i, m.before.commands, len(m.heard))
			}
		}
		// A leader that was away itself.
		w.kill(lead)
		w.flood(w.leader(lead), many+20, many+30, away, other)
	})
}

// TestOverHosts runs the same over libp2p.
func TestOverHosts(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, swarmtest.Link{RTT: 10 * time.Millisecond, Up: 100e6, Down: 100e6})
		host := func(i int) *swarm.Host {
			return network.Host(quiet{}, func(c *swarm.Config) { c.Key = key(i) })
		}
		var hosts []*swarm.Host
		for i := range 3 {
			hosts = append(hosts, host(i))
		}
		w := newThree(t) // whose members end before their hosts
		for _, h := range hosts {
			w.callers = append(w.callers, h)
		}
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
		stranger := host(9)
		if err := stranger.Connect(t.Context(), hosts[0].ID(), hosts[0].Addrs()); err != nil {
			t.Fatal(err)
		}
		if _, err := stranger.Call(t.Context(), hosts[0].ID(), encodeVote(kindVote, &voteRequest{Term: 99})); err == nil {
			t.Fatal("a stranger's call was answered")
		}
	})
}

type quiet struct{}

func (quiet) Connected(wire.PeerID)       {}
func (quiet) Disconnected(wire.PeerID)    {}
func (quiet) Message(wire.PeerID, []byte) {}
func (quiet) Serve(context.Context, wire.PeerID, []byte) ([]byte, error) {
	return nil, errors.New("nothing here")
}
