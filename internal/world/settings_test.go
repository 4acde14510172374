package world

import (
	"testing"
	"time"

	"dunlin/coordinator"
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
		tell := func(c coordinator.Change) error {
			t.Helper()
			answer := make(chan error, 1)
			w.lead.peer.Tell(reign.Organise{Change: c, Answer: answer})
			select {
			case err := <-answer:
				return err
			case <-time.After(w.patience):
				t.Fatalf("no answer to %+v", c)
				return nil
			}
		}
		must := func(c coordinator.Change) {
			t.Helper()
			if err := tell(c); err != nil {
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
		if err := tell(coordinator.Change{H: wire.MaxH + 1}); err == nil {
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
