package world

import (
	"math/bits"
	"math/rand/v2"
	"testing"
	"time"

	"dunlin/coordinator"
	"dunlin/model"
	"dunlin/peer/reign"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// TestMostBehindRouters: of sixteen workers ten are behind routers that let nobody in,
// and of the pairs of those three in ten cannot meet directly at all. Rounds go on to be
// committed, what members contribute reaches nearly all sums, and all end with the same
// bits. An attempt fails now and then, when a slab's owner is blocked from half of a few
// members, or takes long to find that it is.
func TestMostBehindRouters(t *testing.T) {
	for _, name := range []string{"int8", "default"} { // the one has owners move on, the other has them stay (R10)
		t.Run(name, func(t *testing.T) { swarmtest.Run(t, func(t *testing.T) { mostBehindRouters(t, name) }) })
	}
}

func mostBehindRouters(t *testing.T, name string) {
	const workers, walled, rounds, h, step = 16, 10, 8, 20, 500 * time.Millisecond
	w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) {
		r.Recipe, _ = recipe.Named(name)
		r.Model = model.Config{Layers: 1, Heads: 1, Width: 16, Context: 16, Vocab: 256}
		r.H, r.Batch, r.Fragments = h, 1, 1
	})
	w.start(place{reach: swarm.Reach{Relay: true}})
	rng := rand.New(rand.NewPCG(1, 2))
	var nodes []*node
	blocked := 0
	for i := range workers {
		p := place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(step), reach: swarm.Reach{NAT: true}}
		if p.walled = i < walled; p.walled {
			p.reach.Relays = w.lead.host.Addrs()
		}
		n := w.start(p)
		for _, other := range nodes[:min(i, walled)] {
			if p.walled && rng.Float64() < 0.3 {
				w.net.CutOneWay(n.host, other.host)
				w.net.CutOneWay(other.host, n.host)
				blocked++
			}
		}
		nodes = append(nodes, n)
	}
	settled := w.lead.await("all train", func(s *status.Snapshot) bool { return s.Health.Training == workers })
	first := w.lead.await("rounds that all take part in", commits(settled.Health.Commits+3))
	began := time.Now()
	last := w.lead.await("more rounds", commits(first.Health.Commits+rounds))
	pace := time.Since(began) / rounds
	failed := last.Health.FailedAttempts - first.Health.FailedAttempts
	w.lead.peer.Tell(reign.Organise{Change: coordinator.Change{Phase: wire.PhaseEnded, Reason: "the test is over"}})
	w.end(nodes...)
	shares, included := 0, 0
	w.open(w.leadDir).commits(func(height uint64, _ *wire.Commit, table *wire.CommitTable) {
		if height <= first.Run.Height || height > last.Run.Height {
			return
		}
		for _, s := range table.Slabs {
			shares += len(table.Contributors)
			included += bits.OnesCount64(s.Members)
		}
	})
	t.Logf("%d pairs are blocked; a commit each %s, %d failed attempts; %d of %d contributions reached a sum", blocked, pace, failed, included, shares)
	if pace > 4*h*step {
		t.Errorf("a commit each %s, want %s and at most four times that; %d attempts failed, the last: %s", pace, h*step, failed, last.Health.LastFailure)
	}
	if float64(included) < 0.85*float64(shares) {
		t.Errorf("%d of %d contributions reached a sum", included, shares)
	}
}
