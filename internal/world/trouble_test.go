package world

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"dunlin/peer"
	"dunlin/recipe"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// trouble is a swarm to which a seeded chance does harm.
type trouble struct {
	*world
	t       *testing.T
	rng     *rand.Rand
	workers []*node
	heal    []func() // what undoes the cuts that stand
}

// TestSwarmInTrouble runs a swarm on lossy links while chance kills workers and
// starts them again on their folders, stops others in order, cuts off some or
// the coordinator, and breaks single ways between two of them. When that ends
// the run reaches its budget with everybody's bits equal and no window counted
// twice. WORLD_SEED chooses another chance.
func TestSwarmInTrouble(t *testing.T) {
	seed := uint64(1)
	if s := os.Getenv("WORLD_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	swarmtest.Run(t, func(t *testing.T) {
		link := home
		link.Loss, link.Seed = 0.005, seed
		x := &trouble{t: t, rng: rand.New(rand.NewPCG(seed, 2))}
		x.world = newWorld(t, swarmtest.New(t, link), func(r *recipe.Run) { r.H, r.Checkpoint, r.TokenBudget = 8, 8, 120_000 })
		x.start(place{})
		for i := range 6 {
			step := time.Duration(100+50*i) * time.Millisecond
			x.workers = append(x.workers, x.start(place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(step)}))
		}
		x.lead.await("the first commits", commits(2))
		for range 10 {
			x.harm()
			time.Sleep(time.Duration(1000+x.rng.IntN(6000)) * time.Millisecond)
		}
		for _, undo := range x.heal {
			undo()
		}
		var there []*node
		for i, n := range x.workers {
			var refused *peer.RefusedError
			switch err := n.finish(); {
			case errors.As(err, &refused) && refused.Code == wire.RefuseEnded:
				t.Logf("seed %d: worker %d came back too late: %v", seed, i, err)
			case err != nil:
				t.Errorf("seed %d: worker %d: %v", seed, i, err)
			default:
				there = append(there, n)
			}
		}
		s := x.agree(there...)
		t.Logf("seed %d: %d tokens in %d commits, %d failed attempts, at %s", seed, s.Run.Tokens, s.Health.Commits, s.Health.FailedAttempts, s.At.Format("15:04:05"))
		f := x.open(x.leadDir)
		f.epoch()
		if got := f.replay().Hash(); got != s.Run.StateHash {
			t.Errorf("seed %d: replayed to %s, the run ended with %s", seed, got.Short(), s.Run.StateHash.Short())
		}
	})
}

// harm does one bad thing, and undoes an older one now and then.
func (x *trouble) harm() {
	if len(x.heal) > 0 && x.rng.IntN(2) == 0 {
		x.heal[0]()
		x.heal = x.heal[1:]
	}
	i, j := x.rng.IntN(len(x.workers)), x.rng.IntN(len(x.workers))
	a, b := x.workers[i], x.workers[j]
	what := x.rng.IntN(5)
	x.t.Log(time.Now().Format("15:04:05"), "harm", what, i, j)
	switch what {
	case 0:
		a.kill()
		x.workers[i] = x.start(a.place)
	case 1:
		a.stop()
		if err := a.finish(); err != nil {
			x.t.Logf("worker %d in trouble: %v", i, err) // cut off, it cannot hand over
		}
		x.workers[i] = x.start(a.place)
	case 2:
		x.net.Cut(a.host)
		x.heal = append(x.heal, func() { x.net.Heal(a.host) })
	case 3:
		lead := x.lead.host
		x.net.Cut(lead)
		x.heal = append([]func(){func() { x.net.Heal(lead) }}, x.heal...)
	case 4:
		if a != b {
			x.net.CutOneWay(a.host, b.host)
			x.heal = append(x.heal, func() { x.net.HealOneWay(a.host, b.host) })
		}
	}
}
