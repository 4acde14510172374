package world

import (
	"context"
	"sync"
	"testing"
	"time"

	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// home is a link of the virtual-time world.
var home = swarmtest.Link{RTT: 50 * time.Millisecond, Up: 10e6, Down: 10e6}

// doom is a moment at which a worker dies, once it is armed.
type doom struct {
	armed chan struct{} // closed: the next such moment is the last
	came  chan struct{} // closed when it has come
	once  sync.Once
}

func newDoom() *doom { return &doom{armed: make(chan struct{}), came: make(chan struct{})} }

// meet holds the caller up for good when the moment has come.
func (d *doom) meet(ctx context.Context) {
	select {
	case <-d.armed:
		d.once.Do(func() { close(d.came) })
		<-ctx.Done()
	default:
	}
}

// fate names the moments in mid-round at which the test kills workers.
type fate struct {
	name  string
	hooks func(d *doom) hooks
}

func fates() []fate {
	whileFetching := func(class wire.Class) func(*doom) hooks {
		return func(d *doom) hooks {
			return hooks{fetch: func(ctx context.Context, _ wire.PeerID, r wire.Request) {
				if r.Class == class {
					d.meet(ctx)
				}
			}}
		}
	}
	return []fate{
		{"an owner that pulls its slabs", whileFetching(wire.ClassContribution)},
		{"a holder that pulls results", whileFetching(wire.ClassResult)},
		{"a member of whom owners want slabs", func(d *doom) hooks {
			return hooks{serve: func(ctx context.Context, _ wire.PeerID, r wire.Request) {
				if r.What == wire.WhatSlab {
					d.meet(ctx)
				}
			}}
		}},
	}
}

func commits(n uint64) func(*status.Snapshot) bool {
	return func(s *status.Snapshot) bool { return s.Health.Commits >= n }
}

// TestSwarmInVirtualTime trains with eight workers on home links. Three die in
// mid-round, each in another part of it, one is cut off for half a minute, two
// join late; the run goes on to its budget and everyone who is left ends with
// the same bits.
func TestSwarmInVirtualTime(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint, r.TokenBudget = 8, 8, 130_000 })
		w.start(place{})
		worker := func(i int, h hooks) *node {
			step := time.Duration(100+40*(i%8)) * time.Millisecond
			return w.start(place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(step), hooks: h})
		}
		var living, doomed []*node
		var dooms []*doom
		for i, f := range fates() {
			dooms = append(dooms, newDoom())
			doomed = append(doomed, worker(i, f.hooks(dooms[i])))
		}
		for i := range 5 {
			living = append(living, worker(3+i, hooks{}))
		}

		seen := uint64(0)
		for i, f := range fates() {
			seen = w.lead.await("more commits", commits(seen+4)).Health.Commits
			close(dooms[i].armed)
			<-dooms[i].came
			doomed[i].kill()
			t.Logf("killed %s after %d commits, at %s", f.name, seen, time.Now().Format("15:04:05"))
		}
		cut := living[0]
		w.net.Cut(cut.host)
		seen = w.lead.await("commits without the dead", commits(seen+4)).Health.Commits
		living = append(living, worker(8, hooks{}), worker(9, hooks{}))
		w.lead.await("commits with joiners", commits(seen+4))
		time.Sleep(20 * time.Second)
		w.net.Heal(cut.host)

		for i, n := range living {
			if err := n.finish(); err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		}
		s := w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
		t.Logf("%d tokens in %d commits, %d failed attempts, at %s", s.Run.Tokens, s.Health.Commits, s.Health.FailedAttempts, s.At.Format("15:04:05"))
		if s.Run.Phase != "ended" || s.Run.Tokens < s.Run.TokenBudget {
			t.Errorf("the run did not end by its budget: %s", w.lead.view())
		}
		for i, n := range living {
			if got := n.snapshot().Run.StateHash; got != s.Run.StateHash {
				t.Errorf("worker %d has state %s, the coordinator %s", i, got.Short(), s.Run.StateHash.Short())
			}
		}
		w.lead.halt()
	})
}
