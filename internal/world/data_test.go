package world

import (
	"fmt"
	"testing"
	"time"

	"dunlin/model"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm/swarmtest"
)

// TestEpochIsTheSameForAnyNumberOfWorkers is the law of leases on a whole
// swarm: the multiset of windows that commits count over the data's first
// epoch is every window once, for 1, 3 and 8 workers, and with one that dies.
// The budget lies beyond the epoch by what workers may have leased ahead, so
// that nothing of the epoch is still on its way when the run ends.
func TestEpochIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	for _, test := range []struct{ workers, deaths int }{{1, 0}, {3, 0}, {8, 0}, {8, 2}} {
		t.Run(fmt.Sprintf("%d workers, %d die", test.workers, test.deaths), func(t *testing.T) {
			swarmtest.Run(t, func(t *testing.T) {
				w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) {
					r.Model = model.Config{Layers: 2, Heads: 1, Width: 16, Context: 16, Vocab: 256}
					r.Corpus = corpus(t, 250)
					r.H, r.TokenBudget = 8, 16*uint64(600+150*test.workers)
				})
				w.start(place{})
				var workers []*node
				for i := range test.workers {
					step := time.Duration(300+50*i) * time.Millisecond
					workers = append(workers, w.start(place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(step)}))
				}
				for i := range test.deaths {
					seen := w.lead.await("its first commits", commits(1)).Health.Commits
					w.lead.await("more commits", commits(seen+3))
					workers[i].kill()
				}
				for i, n := range workers[test.deaths:] {
					if err := n.finish(); err != nil {
						t.Errorf("worker %d: %v", i, err)
					}
				}
				w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
				w.lead.halt()
				e := w.open(w.leadDir).epoch()
				for window, n := range e.windows {
					if n != 1 {
						t.Errorf("window %d of %d is counted %d times", window, len(e.windows), n)
					}
				}
				if e.tokens != 16*e.counted {
					t.Errorf("the run counts %d tokens, its commits have %d windows of 16", e.tokens, e.counted)
				}
				t.Logf("%d windows in the epoch, %d committed", len(e.windows), e.counted)
			})
		})
	}
}
