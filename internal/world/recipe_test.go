package world

import (
	"testing"
	"time"

	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm/swarmtest"
)

// TestOwnerFeedbackInVirtualTime: a run of the default recipe, whose owners keep error feedback, goes through a
// death of three of its workers to one state on all peers; what their owners kept is lost, and counted.
func TestOwnerFeedbackInVirtualTime(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) {
			r.Recipe = recipe.All()[0]
			r.H, r.Checkpoint, r.TokenBudget = 8, 8, 90_000
		})
		w.start(place{})
		var nodes []*node
		for i := range 4 {
			step := time.Duration(100+20*i) * time.Millisecond
			nodes = append(nodes, w.start(place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(step)}))
		}
		w.lead.await("commits", commits(8))
		for _, n := range nodes[:3] {
			n.kill()
		}
		for i, n := range nodes[3:] {
			if err := n.finish(); err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		}
		s := w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
		t.Logf("%d commits, %d failed attempts, %d sums began without error feedback", s.Health.Commits, s.Health.FailedAttempts, s.Health.OwnerRestarts)
		if s.Health.OwnerRestarts == 0 || s.Health.OwnerRestarts > s.Health.Commits/2 {
			t.Errorf("%d sums of %d commits began without error feedback", s.Health.OwnerRestarts, s.Health.Commits)
		}
		for i, n := range nodes[3:] {
			if got := n.snapshot().Run.StateHash; got != s.Run.StateHash {
				t.Errorf("worker %d has state %s, the coordinator %s", i, got.Short(), s.Run.StateHash.Short())
			}
		}
		w.lead.halt()
	})
}
