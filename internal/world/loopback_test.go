package world

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/compute/cpu"
	"dunlin/data"
	"dunlin/model"
	"dunlin/peer"
	"dunlin/status"
	"dunlin/store"
	"dunlin/swarm"
	"dunlin/wire"
)

// node is one peer of a test with its host.
type node struct {
	peer *peer.Peer
	host *swarm.Host
	last *status.Snapshot
	news chan struct{} // holds a token after a new snapshot
	mu   sync.Mutex
	stop context.CancelFunc
	done chan error
}

func (n *node) snapshot() *status.Snapshot {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}

// await returns the first snapshot that is as wanted.
func (n *node) await(t *testing.T, wanted func(*status.Snapshot) bool) *status.Snapshot {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		if s := n.snapshot(); s != nil && wanted(s) {
			return s
		}
		select {
		case <-n.news:
		case <-limit:
			t.Fatalf("the snapshot did not become as wanted: %+v", n.snapshot().Run)
		}
	}
}

type transport struct{ *swarm.Host }

func (t transport) Traffic() peer.Traffic {
	s := t.Stats()
	out := peer.Traffic{Sent: s.Socket.Out, Received: s.Socket.In}
	for i, c := range s.Classes {
		out.ClassSent[i], out.ClassReceived[i] = c.Out, c.In
	}
	return out
}

func testKey(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func testCorpus(t *testing.T) *data.Corpus {
	t.Helper()
	var b strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&b, "func f%d(x int) int { return x + %d }\n", i%37, i%11)
	}
	path := t.TempDir() + "/corpus.txt"
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := data.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testRun(t *testing.T, tokens uint64) (peer.RunConfig, *wire.SignedSpec, wire.Hash) {
	t.Helper()
	r := peer.DefaultRun()
	r.Name, r.Corpus, r.TokenBudget = "test", testCorpus(t), tokens
	r.Model, _ = model.Preset("pico")
	r.H, r.Checkpoint = 24, 8
	signed, err := r.Spec(testKey(1), wire.PeerIDOf(testKey(1)), func(b []byte) (store.Hash, error) { return store.HashLeaf(b), nil })
	if err != nil {
		t.Fatal(err)
	}
	return r, signed, wire.HashLeaf(signed.Spec)
}

func start(t *testing.T, cfg peer.Config, lead *node) *node {
	t.Helper()
	n := &node{done: make(chan error, 1), news: make(chan struct{}, 1)}
	cfg.Publish = func(s *status.Snapshot) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.last = s
		select {
		case n.news <- struct{}{}:
		default:
		}
	}
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("who", wire.PeerIDOf(cfg.Key).Short())
	if lead != nil {
		cfg.Coordinator = lead.host.Addrs()
	}
	var err error
	if n.peer, err = peer.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	n.stop = stop
	n.host, err = swarm.New(ctx, swarm.Config{Key: cfg.Key, Protocol: "/dunlin/1/" + cfg.Run.String(), Handler: n.peer})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		err := n.peer.Run(ctx, transport{n.host})
		if closeErr := n.host.Close(); err == nil {
			err = closeErr
		}
		n.done <- err
	}()
	return n
}

func cpuEngine(t *testing.T) func(*wire.RunSpec, []byte, bool) (peer.Engine, error) {
	return func(spec *wire.RunSpec, tokens []byte, joiner bool) (peer.Engine, error) {
		device, err := cpu.New(cpu.Options{Threads: 1})
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = device.Close() })
		return peer.NewLocalEngine(spec, device, tokens, joiner, "")
	}
}

// TestLoopbackSwarmTrains runs a coordinator and three workers of one process
// over real TCP until the token budget is committed.
func TestLoopbackSwarmTrains(t *testing.T) {
	r, signed, run := testRun(t, 300_000)
	dir := t.TempDir()
	folder := peer.Folder{Dir: dir}
	if err := folder.PutData(run, r.Pack); err != nil {
		t.Fatal(err)
	}
	lead := start(t, peer.Config{Key: testKey(1), Signed: signed, Run: run, Dir: folder.Run(run)}, nil)
	var workers []*node
	for i := range 3 {
		workers = append(workers, start(t, peer.Config{
			Key: testKey(byte(2 + i)), Signed: signed, Run: run, Dir: t.TempDir(), Seed: uint64(i), NewEngine: cpuEngine(t),
		}, lead))
	}
	for i, w := range workers {
		select {
		case err := <-w.done:
			if err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		case <-time.After(60 * time.Second):
			t.Fatalf("worker %d did not finish: %+v", i, lead.snapshot())
		}
	}
	s := lead.await(t, func(s *status.Snapshot) bool { return s.Run.Done })
	if s.Run.Tokens < 300_000 || s.Run.Phase != "ended" {
		t.Errorf("run stands at %d tokens, %s", s.Run.Tokens, s.Run.Phase)
	}
	for _, p := range s.Peers {
		if p.StateHash != s.Run.StateHash {
			t.Errorf("%s has state %s, the coordinator %s", p.ID, p.StateHash.Short(), s.Run.StateHash.Short())
		}
	}
	lead.stop()
	if err := <-lead.done; err != nil {
		t.Error(err)
	}
}
