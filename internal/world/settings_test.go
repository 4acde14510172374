package world

import (
	"errors"
	"strings"
	"testing"
	"time"

	"dunlin/coordinator"
	"dunlin/peer"
	"dunlin/peer/reign"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// TestOrganiserChangesARunningRun: H and the outer learning rate change while two workers train, the run pauses and goes
// on, a third worker joins afterwards, and everybody's bits, and those that the folders replay to, are the same.
func TestOrganiserChangesARunningRun(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint = 16, 6 })
		w.start(place{})
		var workers []*node
		join := func() {
			workers = append(workers, w.start(place{key: byte(2 + len(workers)), dir: scratch(t), engine: sleepingEngine(time.Duration(90+20*len(workers)) * time.Millisecond)}))
		}
		join()
		join()
		must := func(c coordinator.Change) {
			t.Helper()
			if err := w.tell(c); err != nil {
				t.Fatal(err)
			}
		}
		commits := func(n uint64) uint64 {
			t.Helper()
			return w.lead.await("commits", func(s *status.Snapshot) bool { return s.Health.Commits >= n }).Health.Commits
		}
		n := commits(3)
		must(coordinator.Change{H: 10, OuterLR: wire.FloatOf(0.3), Reason: "tuned"})
		n = commits(n + 8)
		must(coordinator.Change{Phase: wire.PhasePaused, Reason: "a break"})
		for _, worker := range workers {
			worker.await("rest", func(s *status.Snapshot) bool { return s.Run.Phase == "paused" })
		}
		if err := w.tell(coordinator.Change{H: wire.MaxH + 1}); err == nil {
			t.Error("an H above all is taken")
		}
		must(coordinator.Change{Phase: wire.PhaseTraining, Reason: "on"})
		join()
		n = commits(n + 6)
		must(coordinator.Change{OuterLR: wire.FloatOf(0.6), Reason: "tuned again"})
		commits(n + 8)
		must(coordinator.Change{Phase: wire.PhaseEnded, Reason: "the test is over"})
		w.end(workers...)

		state := w.open(w.leadDir).replay().Hash() // each commit's hash is checked
		for _, dir := range []string{w.leadDir, workers[0].place.dir, workers[2].place.dir} {
			r, _, err := w.past(dir, 0) // from a checkpoint that is above the first tuning
			if err != nil {
				t.Fatal(err)
			}
			if r.Hash() != state {
				t.Errorf("%s replays to another state", dir)
			}
		}
	})
}

// tell has the coordinator carry out an order and returns its answer.
func (w *world) tell(c coordinator.Change) error {
	w.t.Helper()
	answer := make(chan error, 1)
	w.lead.peer.Tell(reign.Organise{Change: c, Answer: answer})
	select {
	case err := <-answer:
		return err
	case <-time.After(w.patience):
		w.t.Fatalf("no answer to %+v", c)
		return nil
	}
}

// TestOrganiserBansAPeer: a worker that is banned is told why and ends, and is refused when it comes back, also by the coordinator's
// next process, while the others train on.
func TestOrganiserBansAPeer(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint = 8, 8 })
		w.start(place{})
		bad := place{key: 2, dir: scratch(t), engine: sleepingEngine(100 * time.Millisecond)}
		worker, good := w.start(bad), w.start(place{key: 3, dir: scratch(t), engine: sleepingEngine(100 * time.Millisecond)})
		seen := w.lead.await("commits of two", func(s *status.Snapshot) bool { return s.Health.Training == 2 && s.Health.Commits >= 4 })

		ban := coordinator.Change{Ban: wire.PeerIDOf(testKey(2)), Reason: "noise"}
		for _, other := range []byte{1, 4} {
			if err := w.tell(coordinator.Change{Ban: wire.PeerIDOf(testKey(other)), Reason: "noise"}); err == nil {
				t.Errorf("peer %d, a coordinator or not in the run, is banned", other)
			}
		}
		for range 2 { // the second time it is so already
			if err := w.tell(ban); err != nil {
				t.Fatal(err)
			}
		}
		refused := func(n *node, what string) {
			t.Helper()
			var why *peer.RefusedError
			if err := n.finish(); !errors.As(err, &why) || why.Code != wire.RefuseBanned || !strings.Contains(why.Reason, "noise") {
				t.Errorf("%s ended with %v", what, err)
			}
		}
		refused(worker, "the banned worker")
		refused(w.start(bad), "the banned worker, come back,")
		w.lead.await("commits of one", commits(seen.Health.Commits+4))
		w.lead.halt()
		w.start(place{})
		w.lead.await("commits after a restart", commits(seen.Health.Commits+8))
		refused(w.start(bad), "the banned worker, come to another process,")
		good.halt()
		w.lead.halt()
	})
}
