package world

import (
	"context"
	"testing"
	"time"

	"dunlin/recipe"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// TestOwnerGivesNothing: one of four workers says what it has summed and gives it to nobody, as a result that only its maker has. It owns
// nothing after that for ever longer, and rounds go on with what it contributes.
func TestOwnerGivesNothing(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint, r.TokenBudget = 8, 8, 120_000 })
		w.start(place{})
		var workers []*node
		for i := range 4 {
			p := place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(100 * time.Millisecond)}
			if i == 0 {
				p.hooks.serve = func(ctx context.Context, _ wire.PeerID, r wire.Request) {
					if r.Class == wire.ClassResult {
						<-ctx.Done()
					}
				}
			}
			workers = append(workers, w.start(p))
		}
		for i, n := range workers {
			if err := n.finish(); err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		}
		s := w.agree(workers...)
		if s.Health.FailedAttempts > 3 {
			t.Errorf("%d attempts of %d commits failed", s.Health.FailedAttempts, s.Health.Commits)
		}
		t.Logf("%d tokens in %d commits, %d failed attempts, at %s", s.Run.Tokens, s.Health.Commits, s.Health.FailedAttempts, s.At.Format("15:04:05"))
	})
}
