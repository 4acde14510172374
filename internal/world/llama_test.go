package world

import (
	"testing"

	"dunlin/model"
	"dunlin/recipe"
	"dunlin/status"
)

// TestLoopbackSwarmTrainsLlama runs a coordinator and two workers of one process
// over real TCP with a model of the other family, its head apart, and an
// embedding fragment.
func TestLoopbackSwarmTrainsLlama(t *testing.T) {
	w := newWorld(t, nil, func(r *recipe.Run) {
		r.TokenBudget, r.Checkpoint, r.Fragments = 60_000, 8, 3
		r.Model, _ = model.Preset("pico-llama")
		r.Model.Untied = true
	})
	w.start(place{})
	var workers []*node
	for i := range 2 {
		workers = append(workers, w.start(place{key: byte(2 + i), dir: scratch(t), engine: cpuEngine(t)}))
	}
	for i, n := range workers {
		if err := n.finish(); err != nil {
			t.Errorf("worker %d: %v", i, err)
		}
	}
	s := w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
	if s.Run.Tokens < 60_000 || s.Run.Model != "llama 2L/2H/64" {
		t.Errorf("run of %s stands at %d tokens", s.Run.Model, s.Run.Tokens)
	}
	for _, p := range s.Peers {
		if p.StateHash != s.Run.StateHash {
			t.Errorf("%s has state %s, the coordinator %s", p.ID, p.StateHash.Short(), s.Run.StateHash.Short())
		}
	}
	w.lead.halt()
}
