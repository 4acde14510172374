package world

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/peer"
	"dunlin/peer/contact"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// TestNewcomerMeasuresItsLink: the coordinator pulls noise from a newcomer and says how fast that went; one with nothing to
// give is refused.
func TestNewcomerMeasuresItsLink(t *testing.T) {
	w := newWorld(t, nil, func(*recipe.Run) {})
	w.start(place{})
	defer w.lead.halt()
	n := contact.NewNewcomer()
	host := w.host(peer.Config{Key: testKey(31), Run: w.id}, place{}, n)
	defer host.Close()
	lead := w.lead.host
	if err := host.Connect(t.Context(), lead.ID(), lead.Addrs()); err != nil {
		t.Fatal(err)
	}
	bytes, took, err := n.MeasureUp(t.Context(), transport{Host: host}, lead.ID())
	if err != nil || bytes != 1<<20 || took <= 0 || took > 10*time.Second {
		t.Errorf("%d bytes up in %s, %v", bytes, took, err)
	}
	if bytes, _, err := contact.NewNewcomer().MeasureUp(t.Context(), transport{Host: host}, lead.ID()); err == nil || bytes != 0 {
		t.Errorf("noise under another name: %d bytes, %v", bytes, err)
	}
	if bytes, took, err := contact.MeasureDown(t.Context(), transport{Host: host}, lead.ID(), w.spec, 1<<20, 10*time.Second); err != nil || bytes == 0 || took <= 0 {
		t.Errorf("%d bytes down in %s, %v", bytes, took, err)
	}
}

// TestLeavingInALongRound: a worker that is stopped while a round is summed for longer than it waits gives the round up, says
// goodbye and ends in order.
func TestLeavingInALongRound(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint, r.TokenBudget = 8, 1<<20, 1<<40 })
		w.start(place{})
		var slow atomic.Bool
		hold := hooks{fetch: func(ctx context.Context, _ wire.PeerID, r wire.Request) {
			if slow.Load() && r.Class == wire.ClassContribution {
				select {
				case <-ctx.Done():
				case <-time.After(time.Minute):
				}
			}
		}}
		var workers []*node
		for i := range 3 {
			workers = append(workers, w.start(place{key: byte(2 + i), dir: scratch(t), engine: sleepingEngine(100 * time.Millisecond), hooks: hold}))
		}
		w.lead.await("commits", commits(3))
		slow.Store(true)
		w.lead.await("a round that is summed", func(s *status.Snapshot) bool {
			return slices.ContainsFunc(s.Rounds, func(r status.Round) bool { return r.Closed == nil && r.Opened != nil })
		})
		workers[0].halt()
		for _, n := range workers[1:] {
			n.kill()
		}
		w.lead.halt()
	})
}
