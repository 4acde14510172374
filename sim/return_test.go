package sim

import (
	"math/rand/v2"
	"testing"
	"time"

	"dunlin/wire"
)

// TestCoordinatorReturns: the coordinator is killed at some message or entry of a round and is back after 6 s. Once all
// workers have said hello the next commit comes within one and a half intervals and 2 s, and whoever is back first does
// not make it alone.
func TestCoordinatorReturns(t *testing.T) {
	const absence, killed = 6 * time.Second, uint64(8) // with several checkpoints, of which the oldest is let go
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 7))
		after := rng.IntN(30)
		sc := Default(1000 + seed)
		sc.Setup.Values, sc.Calm = sc.Setup.Values[:1], 40*time.Second
		var back, interval, took time.Duration
		hello := map[*process]time.Duration{}
		var last, next *wire.Commit
		w := story(t, sc, func(w *World, p *process, what any) {
			c, committed := what.(*wire.Commit)
			switch {
			case committed && c.Base < killed:
				last, interval = c, (w.now-sc.Setup.StepTime[0])/time.Duration(c.Base+1)
			case last == nil || last.Base+1 < killed:
			case back == 0:
				if after--; after < 0 {
					back = w.now + absence
					w.restart(w.hosts[0], absence)
				}
			case w.now < back || next != nil:
			case committed:
				next, took = c, w.now-back
				for _, at := range hello {
					took = min(took, w.now-at)
				}
			default:
				if _, greets := what.(*wire.Hello); greets && hello[p] == 0 {
					hello[p] = w.now
				}
			}
		})
		if next == nil {
			t.Fatalf("seed %d: no commit after the return", seed)
		}
		if most := interval*3/2 + 2*time.Second; took > most {
			t.Errorf("seed %d: the commit after the return took %v, at most %v (interval %v)", seed, took, most, interval)
		}
		if n := len(w.contributors(next).Contributors); n < 2 {
			t.Errorf("seed %d: %d of 3 contributed to the commit after the return", seed, n)
		}
	}
}
