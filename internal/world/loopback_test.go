package world

import (
	"testing"

	"dunlin/recipe"
	"dunlin/status"
)

// TestLoopbackSwarmTrains runs a coordinator and three workers of one process
// over real TCP until the token budget is committed.
func TestLoopbackSwarmTrains(t *testing.T) {
	w := newWorld(t, nil, func(r *recipe.Run) { r.TokenBudget, r.Checkpoint = 150_000, 8 })
	w.start(place{})
	var workers []*node
	for i := range 3 {
		workers = append(workers, w.start(place{key: byte(2 + i), dir: scratch(t), engine: cpuEngine(t)}))
	}
	for i, n := range workers {
		if err := n.finish(); err != nil {
			t.Errorf("worker %d: %v", i, err)
		}
	}
	s := w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
	if s.Run.Tokens < 150_000 || s.Run.Phase != "ended" {
		t.Errorf("run stands at %d tokens, %s", s.Run.Tokens, s.Run.Phase)
	}
	for _, p := range s.Peers {
		if p.StateHash != s.Run.StateHash {
			t.Errorf("%s has state %s, the coordinator %s", p.ID, p.StateHash.Short(), s.Run.StateHash.Short())
		}
	}
	w.lead.halt()
}
