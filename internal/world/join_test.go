package world

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// end waits for the run's end and for everyone's, and checks that all have the
// same bits, each computed from its memory.
func (w *world) end(workers ...*node) *status.Snapshot {
	w.t.Helper()
	for i, n := range workers {
		if err := n.finish(); err != nil {
			w.t.Errorf("worker %d: %v", i, err)
		}
	}
	return w.agree(workers...)
}

// agree compares the states of workers that have finished with the
// coordinator's, and ends it.
func (w *world) agree(workers ...*node) *status.Snapshot {
	w.t.Helper()
	s := w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
	for i, n := range workers {
		if got := n.snapshot().Run; got.StateHash != s.Run.StateHash {
			w.t.Errorf("worker %d has state %s at height %d, the coordinator %s at %d",
				i, got.StateHash.Short(), got.Height, s.Run.StateHash.Short(), s.Run.Height)
		}
	}
	w.lead.halt()
	return s
}

// TestJoinThenReplayEqualsHavingBeenThere: a worker that joins in the middle
// has, bit for bit, the state of those who were there from the start, whether
// it replays every commit or begins at a checkpoint. So has whoever replays
// the ledger from state 0 without having been in the run at all.
func TestJoinThenReplayEqualsHavingBeenThere(t *testing.T) {
	for _, test := range []struct {
		name       string
		checkpoint int    // commits between two
		late       uint64 // commits before it joins: so many that a checkpoint is the cheaper way
		budget     uint64
		manifests  bool
	}{{"by replay", 1 << 20, 14, 40_000, false}, {"from a checkpoint", 4, 30, 60_000, true}} {
		t.Run(test.name, func(t *testing.T) {
			swarmtest.Run(t, func(t *testing.T) {
				w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) {
					r.H, r.Checkpoint, r.TokenBudget, r.Model.Width = 8, test.checkpoint, test.budget, 32
				})
				w.start(place{})
				var workers []*node
				for i := range 3 {
					workers = append(workers, w.start(place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(time.Duration(100+30*i) * time.Millisecond)}))
				}
				s := w.lead.await("commits", commits(test.late))
				var manifests atomic.Int64
				var made *recorder
				joiner := w.start(place{
					key: 9, dir: scratch(t),
					engine: func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error) {
						if !joiner {
							t.Error("the engine is not told that it joins in the middle of a run")
						}
						e, err := sleepingEngine(100*time.Millisecond)(spec, tokens, joiner)
						made = &recorder{Engine: e}
						return made, err
					},
					hooks: hooks{fetch: func(_ context.Context, _ wire.PeerID, r wire.Request) {
						if r.What == wire.WhatManifest {
							manifests.Add(1)
						}
					}},
				})
				last := w.end(append(workers, joiner)...)
				if last.Run.Tokens < last.Run.TokenBudget {
					t.Errorf("ended at %d tokens", last.Run.Tokens)
				}
				if (manifests.Load() > 0) != test.manifests {
					t.Errorf("the joiner asked for %d manifests of checkpoints", manifests.Load())
				}
				if first := w.spec.Progress(float64(s.Run.Tokens)); made.progress[0] < first {
					t.Errorf("the joiner's schedules began at progress %v, the run stood at %v", made.progress[0], first)
				}
				f := w.open(w.leadDir)
				if got := f.replay().Hash(); got != last.Run.StateHash || uint64(len(f.entries)) != last.Run.Height {
					t.Errorf("replayed to %s at height %d, the run ended with %s at %d", got.Short(), len(f.entries), last.Run.StateHash.Short(), last.Run.Height)
				}
				for _, dir := range []string{w.leadDir, joiner.place.dir} {
					if r, _, err := w.past(dir, 0); err != nil || r.Hash() != last.Run.StateHash {
						t.Errorf("the state is not rebuilt from the folder: %v", err)
					}
				}
				commits := 0
				f.commits(func(height uint64, c *wire.Commit, _ *wire.CommitTable) {
					if commits++; commits%6 != 1 { // each is rebuilt from what lies below
						return
					}
					r, newest, err := w.past(w.leadDir, height)
					if err != nil || newest != height || r.Heads()[c.Fragment] != (wire.FragmentHead{Version: c.Base + 1, State: c.State}) {
						t.Errorf("the state at height %d is not rebuilt: newest commit %d, %v", height, newest, err)
					}
				})
				if _, _, err := w.past(w.leadDir, last.Run.Height+1); err == nil || !strings.Contains(err.Error(), "ends at") {
					t.Errorf("a height that is not there yet: %v", err)
				}
				if test.manifests {
					if err := os.RemoveAll(filepath.Join(joiner.place.dir, "store")); err != nil {
						t.Fatal(err)
					}
					for _, at := range []uint64{0, last.Run.Height / 2} {
						if _, _, err := w.past(joiner.place.dir, at); err == nil || !strings.Contains(err.Error(), "cannot be rebuilt") {
							t.Errorf("height %d of a folder without results: %v", at, err)
						}
					}
					return
				}
				if got := w.open(joiner.place.dir).replay().Hash(); got != last.Run.StateHash {
					t.Errorf("what the joiner keeps replays to %s, the run ended with %s", got.Short(), last.Run.StateHash.Short())
				}
			})
		})
	}
}

// TestWorkersComeBack: a worker that was stopped and one that lost its power
// start again with their folders, go on from what is in them and end with
// everybody's bits.
func TestWorkersComeBack(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint, r.TokenBudget = 8, 1<<20, 60_000 })
		w.start(place{})
		var places []place
		var workers []*node
		for i := range 3 {
			places = append(places, place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(time.Duration(100+30*i) * time.Millisecond)})
			workers = append(workers, w.start(places[i]))
		}
		before := w.lead.await("commits", commits(10)).Run.Height
		workers[0].halt()
		workers[1].kill()
		for i := range 2 {
			again := places[i]
			again.hooks.fetch = func(_ context.Context, _ wire.PeerID, r wire.Request) {
				if r.Class == wire.ClassData {
					t.Error("it fetches data that are in its folder")
				}
			}
			workers[i] = w.start(again)
			s := workers[i].await("its own ledger", func(s *status.Snapshot) bool { return true })
			if s.Run.Height+5 < before {
				t.Errorf("worker %d starts at height %d, the run stood at %d when it ended", i, s.Run.Height, before)
			}
		}
		w.end(workers...)
		slots := map[string][]uint64{}
		for _, e := range w.open(w.leadDir).entries {
			if body, err := e.Entry.Body(); err == nil {
				if m, ok := body.(*wire.Member); ok && m.Op == wire.MemberAdmit {
					slots[m.Peer.Short()] = append(slots[m.Peer.Short()], uint64(m.Slot))
				}
			}
		}
		for i, n := range workers {
			want := []int{2, 2, 1}[i]
			if got := slots[wire.PeerIDOf(testKey(n.place.key)).Short()]; len(got) != want {
				t.Errorf("worker %d was given the slots %v, want %d", i, got, want)
			}
		}
	})
}

// TestJoinerStartsInTime: from its start to its first inner step a joiner takes at most
// ten seconds and what its bytes take at nine tenths of its own way down, or of its
// donors' ways up.
func TestJoinerStartsInTime(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		link := swarmtest.Link{RTT: 50 * time.Millisecond, Up: 2e6, Down: 6e6}
		w := newWorld(t, swarmtest.New(t, link), func(r *recipe.Run) {
			r.Model = model.Config{Layers: 2, Heads: 2, Width: 128, Context: 32, Vocab: 256}
			r.H, r.Batch, r.Checkpoint, r.Corpus = 16, 1, 4, corpus(t, 30_000)
		})
		w.start(place{})
		var donors []*node
		for i := range 3 {
			donors = append(donors, w.start(place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(time.Duration(500+50*i) * time.Millisecond)}))
		}
		w.lead.await("a checkpoint and commits above it", commits(14))
		var first time.Time
		stepped := make(chan struct{})
		start := time.Now()
		joiner := w.start(place{key: 9, dir: scratch(t), engine: func(spec *wire.RunSpec, tokens []byte, joins bool) (engine.Engine, error) {
			e, err := sleepingEngine(500*time.Millisecond)(spec, tokens, joins)
			return firstStep{e, func() { first = time.Now(); close(stepped) }, new(sync.Once)}, err
		}})
		<-stepped
		var bytes uint64
		for class, count := range joiner.host.Stats().Classes {
			if wire.Class(class) != wire.ClassControl {
				bytes += count.In
			}
		}
		took := first.Sub(start)
		way := 0.9 * min(float64(link.Down), float64((len(donors)+1)*link.Up))
		bound := 10*time.Second + time.Duration(float64(8*bytes)/way*1e9)
		t.Logf("the first inner step came after %s, with %d bytes (bound: %s)", took.Round(10*time.Millisecond), bytes, bound.Round(10*time.Millisecond))
		if bytes < 3<<20 || took > bound {
			t.Errorf("the first inner step came after %s, with %d bytes; bound: %s", took, bytes, bound)
		}
		for _, n := range append(donors, joiner) {
			n.halt()
		}
		w.lead.halt()
	})
}

// firstStep tells of an engine's first step as it begins.
type firstStep struct {
	engine.Engine
	tell func()
	once *sync.Once
}

func (f firstStep) Step(positions []uint64, progress float64) (float64, error) {
	f.once.Do(f.tell)
	return f.Engine.Step(positions, progress)
}
