package world

import (
	"testing"
	"time"

	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// TestCoordinatorMoves: the coordinator comes back at another address than the
// invite names. It calls the members that it knows, and a worker that was away
// meanwhile hears from one of them where it is.
func TestCoordinatorMoves(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint = 8, 8 })
		w.patience = 5 * time.Minute
		w.start(place{})
		stay := w.start(place{key: 2, dir: scratch(t), engine: sleepingEngine(100 * time.Millisecond)})
		invite := w.lead.host.Addrs()
		leaver := place{key: 3, dir: scratch(t), engine: sleepingEngine(100 * time.Millisecond), initial: invite}
		away := w.start(leaver)
		seen := w.lead.await("commits", commits(3)).Health.Commits
		away.await("a session with the other worker", func(s *status.Snapshot) bool { return away.host.Connected(stay.host.ID()) })
		away.halt()
		w.lead.halt()
		w.start(place{}) // at a new address
		w.lead.await("commits at the new address", commits(seen+2))
		if slicesOverlap(invite, w.lead.host.Addrs()) {
			t.Fatal("the coordinator did not move")
		}
		back := w.start(leaver)
		back.await("training again", func(s *status.Snapshot) bool { return s.Run.Phase == "training" })
		for _, n := range []*node{back, stay} {
			n.halt()
		}
		w.lead.halt()
	})
}

func slicesOverlap(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}

// TestDataComeFromVolunteers: a joiner takes token shards from a worker, too.
func TestDataComeFromVolunteers(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Corpus = 8, corpus(t, 70_000) })
		w.start(place{})
		first := w.start(place{key: 2, dir: scratch(t), engine: sleepingEngine(100 * time.Millisecond)})
		w.lead.await("a commit", commits(1))
		second := w.start(place{key: 3, dir: scratch(t), engine: sleepingEngine(100 * time.Millisecond)})
		second.await("training", func(s *status.Snapshot) bool { return s.Run.Phase == "training" })
		if given := first.host.Stats().Classes[wire.ClassData].Out; given < 1<<20 {
			t.Errorf("the worker gave %d bytes of data, want a shard", given)
		}
		for _, n := range []*node{first, second, w.lead} {
			n.halt()
		}
	})
}
