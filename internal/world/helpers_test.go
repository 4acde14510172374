package world

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dunlin/compute/cpu"
	"dunlin/data"
	"dunlin/engine"
	"dunlin/folder"
	"dunlin/model"
	"dunlin/peer"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/store"
	"dunlin/swarm"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// patience is how long tests wait for what must come in real time: a machine may be slow, and do other things.
const patience = 5 * time.Minute

// world is one run and everybody in it.
type world struct {
	t        *testing.T
	net      *swarmtest.Network // nil: loopback
	run      recipe.Run
	signed   *wire.SignedSpec
	spec     *wire.RunSpec
	id       wire.Hash
	leadDir  string        // the coordinator's run folder
	patience time.Duration // how long await waits
	lead     *node
}

// newWorld prepares a run and the coordinator's folder; nobody runs yet. Change
// may set anything of the run.
func newWorld(t *testing.T, net *swarmtest.Network, change func(*recipe.Run)) *world {
	t.Helper()
	w := &world{t: t, net: net, patience: patience}
	if net != nil {
		w.patience = 2 * time.Hour // of the bubble's clock; the bubble looks for goroutines that stay
	} else {
		before := goleak.IgnoreCurrent()
		t.Cleanup(func() { goleak.VerifyNone(t, before) })
	}
	w.run = recipe.DefaultRun()
	w.run.Recipe, _ = recipe.Named("int8") // whose bytes weigh on links; recipe_test.go has the default
	w.run.Name, w.run.TokenBudget = "test", 1<<40
	w.run.Model, _ = model.Preset("pico")
	change(&w.run)
	if w.run.Corpus == nil {
		w.run.Corpus = corpus(t, 4000)
	}
	var err error
	w.signed, err = w.run.Spec(testKey(1), []wire.PeerID{wire.PeerIDOf(testKey(1))}, func(b []byte) (store.Hash, error) { return store.HashLeaf(b), nil })
	if err != nil {
		t.Fatal(err)
	}
	w.id = wire.HashLeaf(w.signed.Spec)
	if w.spec, err = w.signed.Open(w.id); err != nil {
		t.Fatal(err)
	}
	home := folder.Folder{Dir: scratch(t)}
	if err := home.PutData(w.id, w.run.Pack); err != nil {
		t.Fatal(err)
	}
	w.leadDir = home.Run(w.id)
	return w
}

// corpus is text of so many lines, each of about 38 bytes.
func corpus(t *testing.T, lines int) *data.Corpus {
	t.Helper()
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "func f%d(x int) int { return x + %d }\n", i%37, i%11)
	}
	path := filepath.Join(scratch(t), "corpus.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := data.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// scratch is an empty folder that ends with the test, in memory where the
// system has such a place: what these tests wait for is not a disk.
func scratch(t *testing.T) string {
	t.Helper()
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "dunlin-world-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func testKey(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

// place is what one peer of a test has for itself.
type place struct {
	key     byte
	dir     string
	engine  func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error) // nil for the coordinator
	change  func(*peer.Config)
	hooks   hooks
	listen  []string // addresses; loopback only
	initial []string // addresses of the coordinator; nil: where it runs
	reach   swarm.Reach
	walled  bool // behind a router that lets nobody in
}

// hooks let a test see and hold up what a peer does on the network.
type hooks struct {
	fetch func(ctx context.Context, from wire.PeerID, r wire.Request) // before each request
	serve func(ctx context.Context, to wire.PeerID, r wire.Request)   // before each answer
}

// node is one running peer.
type node struct {
	t     *testing.T
	world *world
	place place
	peer  *peer.Peer
	host  *swarm.Host

	mu   sync.Mutex
	last *status.Snapshot
	news chan struct{} // holds a token after a new snapshot
	stop context.CancelFunc
	done chan error
}

// start runs a peer in the world. A zero place is the coordinator's.
func (w *world) start(p place) *node {
	w.t.Helper()
	lead := p.key == 0
	if lead {
		p.key, p.dir = 1, w.leadDir
	}
	n := &node{t: w.t, world: w, place: p, done: make(chan error, 1), news: make(chan struct{}, 1)}
	cfg := peer.Config{
		Key: testKey(p.key), Signed: w.signed, Run: w.id, Dir: p.dir, Seed: uint64(p.key), Version: "test", NewEngine: p.engine,
		Publish: n.publish, Logger: logger(p.key),
	}
	if !lead {
		addrs := p.initial
		if addrs == nil {
			addrs = w.lead.host.Addrs()
		}
		cfg.Coordinators = map[wire.PeerID][]string{w.lead.host.ID(): addrs}
	}
	if p.change != nil {
		p.change(&cfg)
	}
	var err error
	if n.peer, err = peer.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	n.host = w.host(cfg, p, handler{n.peer, p.hooks})
	ctx, stop := context.WithCancel(w.t.Context())
	n.stop = stop
	w.t.Cleanup(stop)
	go func() {
		err := n.peer.Run(ctx, transport{n.host, p.hooks})
		n.done <- errors.Join(err, n.host.Close())
	}()
	if lead {
		w.lead = n
	}
	return n
}

// host gives a peer its place on the network.
func (w *world) host(cfg peer.Config, p place, h swarm.Handler) *swarm.Host {
	w.t.Helper()
	protocol := "/dunlin/1/" + cfg.Run.String()
	if w.net != nil {
		host := w.net.Host(h, func(c *swarm.Config) { c.Key, c.Protocol, c.Reach = cfg.Key, protocol, p.reach })
		if p.walled {
			w.net.Wall(host)
		}
		return host
	}
	host, err := swarm.New(w.t.Context(), swarm.Config{Key: cfg.Key, Protocol: protocol, Handler: h, Listen: p.listen})
	if err != nil {
		w.t.Fatal(err)
	}
	return host
}

func logger(key byte) *slog.Logger {
	level := slog.LevelError
	if os.Getenv("WORLD_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("who", wire.PeerIDOf(testKey(key)).Short())
}

func (n *node) publish(s *status.Snapshot) {
	n.mu.Lock()
	n.last = s
	n.mu.Unlock()
	select {
	case n.news <- struct{}{}:
	default:
	}
}

func (n *node) snapshot() *status.Snapshot {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}

// await returns the first snapshot that is as wanted.
func (n *node) await(what string, wanted func(*status.Snapshot) bool) *status.Snapshot {
	n.t.Helper()
	limit := time.NewTimer(n.world.patience)
	defer limit.Stop()
	for {
		if s := n.snapshot(); s != nil && wanted(s) {
			return s
		}
		select {
		case <-n.news:
		case err := <-n.done:
			n.t.Fatalf("waiting for %s: the peer ended: %v", what, err)
		case <-limit.C:
			n.t.Fatalf("%s did not come about: %s", what, n.view())
		}
	}
}

// view is the newest snapshot in a few lines, for the message of a failure.
func (n *node) view() string {
	s := n.snapshot()
	if s == nil {
		return "no snapshot"
	}
	text := fmt.Sprintf("%s at height %d, %d of %d tokens, %d commits, %s: %s\n",
		s.Role, s.Run.Height, s.Run.Tokens, s.Run.TokenBudget, s.Health.Commits, s.Run.Phase, s.Run.Reason)
	for _, p := range s.Peers {
		text += fmt.Sprintf("  slot %d alive %v %s (%s) step %d height %d\n", p.Slot, p.Alive, p.State, p.Reason, p.Step, p.Height)
	}
	for _, r := range s.Rounds {
		if r.Closed == nil {
			text += fmt.Sprintf("  round %+v\n", r)
		}
	}
	for _, note := range s.Notes[:min(len(s.Notes), 15)] {
		text += fmt.Sprintf("  %s %s\n", note.At.Format("15:04:05.000"), note.Text)
	}
	return text
}

// finish waits for the end of a peer.
func (n *node) finish() error {
	n.t.Helper()
	limit := time.NewTimer(n.world.patience)
	defer limit.Stop()
	select {
	case err := <-n.done:
		return err
	case <-limit.C:
		n.t.Fatalf("the peer does not end: %s\nthe coordinator: %s", n.view(), n.world.lead.view())
		return nil
	}
}

// halt asks a peer to end in order and waits for it.
func (n *node) halt() {
	n.t.Helper()
	n.stop()
	if err := n.finish(); err != nil {
		n.t.Errorf("ending in order: %v", err)
	}
}

// kill takes a peer away without a word to anybody.
func (n *node) kill() {
	n.world.net.Kill(n.host)
	n.stop()
	_ = n.finish() // it cannot say goodbye, and says so
}

// transport is a swarm.Host as peers know it.
type transport struct {
	*swarm.Host
	hooks hooks
}

func (t transport) Fetch(ctx context.Context, from wire.PeerID, class wire.Class, request []byte, limit int) ([]byte, error) {
	if r, err := wire.DecodeRequest(request); err == nil && t.hooks.fetch != nil {
		t.hooks.fetch(ctx, from, *r)
	}
	return t.Host.Fetch(ctx, from, class, request, limit)
}

func (t transport) Traffic() peer.Traffic {
	s := t.Stats()
	out := peer.Traffic{Sent: s.Socket.Out, Received: s.Socket.In}
	for i, c := range s.Classes {
		out.ClassSent[i], out.ClassReceived[i] = c.Out, c.In
	}
	return out
}

// handler is a peer as the network knows it.
type handler struct {
	*peer.Peer
	hooks hooks
}

func (h handler) Serve(ctx context.Context, to wire.PeerID, request []byte) ([]byte, error) {
	if r, err := wire.DecodeRequest(request); err == nil && h.hooks.serve != nil {
		h.hooks.serve(ctx, to, *r)
	}
	return h.Peer.Serve(ctx, to, request)
}

// cpuEngine trains for real.
func cpuEngine(t *testing.T) func(*wire.RunSpec, []byte, bool) (engine.Engine, error) {
	return func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error) {
		device, err := cpu.New(cpu.Options{Threads: 1})
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = device.Close() })
		return engine.NewLocal(spec, device, tokens, joiner, "", model.Room{})
	}
}

// counted wraps an engine and counts its steps.
func counted(steps *atomic.Int64, build func(*wire.RunSpec, []byte, bool) (engine.Engine, error)) func(*wire.RunSpec, []byte, bool) (engine.Engine, error) {
	return func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error) {
		e, err := build(spec, tokens, joiner)
		return countingEngine{e, steps}, err
	}
}

type countingEngine struct {
	engine.Engine
	steps *atomic.Int64
}

func (c countingEngine) Step(positions []uint64, progress float64) (float64, error) {
	c.steps.Add(1)
	return c.Engine.Step(positions, progress)
}

// sleeper is an engine whose compute is a sleep: its weights move a little, as
// a function of the windows alone.
type sleeper struct {
	live [][]float32
	step time.Duration
	loss float64
}

// sleepingEngine takes so long a step.
func sleepingEngine(step time.Duration) func(*wire.RunSpec, []byte, bool) (engine.Engine, error) {
	return func(spec *wire.RunSpec, tokens []byte, _ bool) (engine.Engine, error) {
		windows, err := data.WindowsOf(int(spec.Model.Context), data.ByteTokens(tokens))
		if err != nil {
			return nil, err
		}
		if uint64(windows.Len()) != spec.Data.Windows {
			return nil, fmt.Errorf("the text has %d windows, the run %d", windows.Len(), spec.Data.Windows)
		}
		e := &sleeper{step: step, loss: 5.5}
		for _, t := range spec.Tensors {
			e.live = append(e.live, make([]float32, t.Size()))
		}
		return e, nil
	}
}

func (e *sleeper) Live() [][]float32 { return e.live }
func (e *sleeper) Pull([]int) error  { return nil }
func (e *sleeper) Push([]int) error  { return nil }
func (e *sleeper) Reopen() error     { return errors.New("sleep is never lost") }
func (e *sleeper) Name() string      { return "sleep" }
func (e *sleeper) Close() error      { return nil }
func (e *sleeper) Remember() error   { return nil }

func (e *sleeper) Step(positions []uint64, _ float64) (float64, error) {
	time.Sleep(e.step) // of the bubble's clock
	for _, p := range positions {
		x := uint32(p)*2654435761 + 1
		for _, tensor := range e.live {
			for i := int(p % 8); i < len(tensor); i += 8 {
				x = x*1664525 + 1013904223
				tensor[i] += float32(int32(x>>16)-1<<15) * 1e-9
			}
		}
	}
	e.loss *= 0.999
	return e.loss, nil
}
