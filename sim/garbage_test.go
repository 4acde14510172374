package sim

import (
	"testing"
	"time"
)

// TestOwnerMakesGarbage: a worker whose sums are no frames, named by their right hashes, cost the run an attempt for ever more rounds, and
// what it contributes goes on counting.
func TestOwnerMakesGarbage(t *testing.T) {
	for seed := range uint64(10) {
		sc := Default(3000 + seed)
		sc.Calm = 40 * time.Second
		w := story(t, sc, func(w *World, _ *process, _ any) { w.hosts[1].garbles = true })
		commits, bad := w.commits(), 0
		for _, c := range commits {
			for _, s := range w.contributors(c).Slabs {
				if s.Owner == w.hosts[1].id {
					bad++
				}
			}
		}
		if len(commits) < 20 || bad > 0 {
			t.Errorf("seed %d: %d commits, %d slabs of them garbage", seed, len(commits), bad)
		}
	}
}
