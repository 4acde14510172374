package world

import (
	"errors"
	"testing"

	"dunlin/compute/cpu"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/peer"
	"dunlin/peer/contact"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// threeStages is a run of a model that is spread over three stages.
func threeStages(r *recipe.Run) {
	r.Model = model.Config{Layers: 3, Heads: 2, Width: 32, Context: 16, Vocab: 256}
	r.Stages, r.Batch, r.Micro, r.H, r.Checkpoint = 3, 4, 1, 8, 12
}

// stageWorker is a peer that serves a stage.
func (w *world) stageWorker(key byte, stage int) *node {
	w.t.Helper()
	return w.stageWorkerAt(key, stage, scratch(w.t))
}

func (w *world) stageWorkerAt(key byte, stage int, dir string) *node {
	w.t.Helper()
	return w.start(place{
		key: key, dir: dir, change: func(c *peer.Config) { c.Stage = stage },
		engine: w.stageEngine(stage),
	})
}

func (w *world) stageEngine(stage int) func(*wire.RunSpec, []byte, bool) (engine.Engine, error) {
	return func(spec *wire.RunSpec, _ []byte, joiner bool) (engine.Engine, error) {
		device, err := cpu.New(cpu.Options{Threads: 1})
		if err != nil {
			return nil, err
		}
		w.t.Cleanup(func() { _ = device.Close() })
		return engine.NewStage(spec, stage, device, joiner, "", model.Room{})
	}
}

// TestStagesInVirtualTime trains a model that no peer holds, two peers a stage. One peer
// of each stage is killed, one after the other, and another takes its place; the run goes
// on to its budget, and the peers of a stage end with the same bits, which are the
// coordinator's.
func TestStagesInVirtualTime(t *testing.T) {
	stagesInVirtualTime(t, func(r *recipe.Run) { r.TokenBudget = 40_000 })
}

// TestSynchronousStagesInVirtualTime does so with steps that all peers make together. No
// micro-batch counts in some stages only.
func TestSynchronousStagesInVirtualTime(t *testing.T) {
	stagesInVirtualTime(t, func(r *recipe.Run) { r.TokenBudget, r.Synchronous = 15_000, true })
}

// TestSubspaceStagesInVirtualTime does so with a model in a subspace: 8 of its 32 values pass.
func TestSubspaceStagesInVirtualTime(t *testing.T) {
	stagesInVirtualTime(t, func(r *recipe.Run) { r.TokenBudget, r.Model.Subspace = 20_000, 8 })
}

func stagesInVirtualTime(t *testing.T, change func(*recipe.Run)) {
	t.Helper()
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) {
			threeStages(r)
			change(r)
		})
		w.start(place{})
		stages := make([][]*node, 3)
		for i := range 6 {
			stages[i%3] = append(stages[i%3], w.stageWorker(byte(2+i), i%3))
		}
		seen := uint64(0)
		for stage := range stages {
			seen = w.lead.await("commits", commits(seen+6)).Health.Commits
			stages[stage][0].kill()
			stages[stage] = append(stages[stage][1:], w.stageWorker(byte(20+stage), stage))
			t.Logf("killed a peer of stage %d after %d commits", stage, seen)
		}
		for stage, nodes := range stages {
			for i, n := range nodes {
				if err := n.finish(); err != nil {
					t.Errorf("stage %d, worker %d: %v", stage, i, err)
				}
			}
		}
		s := w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
		t.Logf("%d tokens in %d commits, %d failed attempts, loss %.3f, %d micro-batches, at %s", s.Run.Tokens, s.Health.Commits, s.Health.FailedAttempts, *s.Learning.Train, s.Health.MicroBatches, s.At.Format("15:04:05"))
		if w.spec.Synchronous && (s.Health.MicroBatches == 0 || s.Health.PartlyCounted > 0) {
			t.Errorf("%d of %d micro-batches count in some stages only", s.Health.PartlyCounted, s.Health.MicroBatches)
		}
		if s.Run.Tokens < s.Run.TokenBudget {
			t.Errorf("the run did not end by its budget: %s", w.lead.view())
		}
		for stage, nodes := range stages {
			for i, n := range nodes {
				if got, want := n.snapshot().Run.StateHash, s.Stages[stage].StateHash; got != want || want.IsZero() {
					t.Errorf("stage %d, worker %d has state %s, the coordinator %s", stage, i, got.Short(), want.Short())
				}
			}
		}
		w.lead.halt()
	})
}

// TestPeerMovesToAnotherStage sends one of two peers of a stage to another one. It leaves
// in order, comes back there, and the run goes on with it.
func TestPeerMovesToAnotherStage(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) {
			threeStages(r)
			r.TokenBudget = 25_000
		})
		w.start(place{})
		var nodes []*node
		for i, stage := range []int{0, 1, 2, 2} {
			nodes = append(nodes, w.stageWorker(byte(2+i), stage))
		}
		seen := w.lead.await("commits", commits(8)).Health.Commits
		mover := nodes[3]
		if err := w.lead.host.Send(mover.host.ID(), wire.EncodeMessage(&wire.Move{Stage: 1, Reason: "a test"})); err != nil {
			t.Fatal(err)
		}
		var move *peer.MoveError
		if err := mover.finish(); !errors.As(err, &move) || move.Stage != 1 {
			t.Fatalf("it ends with %v", err)
		}
		back := w.stageWorkerAt(5, 1, mover.place.dir)
		s := w.lead.await("commits with it", commits(seen+20))
		if s.Stages[1].Peers != 2 || s.Stages[2].Peers != 1 {
			t.Errorf("stages %+v", s.Stages)
		}
		for i, n := range append(nodes[:3], back) {
			if err := n.finish(); err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		}
		s = w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
		if got := back.snapshot().Run.StateHash; got != s.Stages[1].StateHash {
			t.Errorf("it has state %s, the coordinator %s", got.Short(), s.Stages[1].StateHash.Short())
		}
		w.lead.halt()
	})
}

// TestStagesOutliveTheirLeader has three coordinators lead a run with stages, one after the other. A newcomer that knows
// a coordinator which does not lead is told the stage that has lost a peer, by the one that does.
func TestStagesOutliveTheirLeader(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		c := newCouncil(t, swarmtest.New(t, home), func(r *recipe.Run) {
			threeStages(r)
			r.TokenBudget = 60_000
		})
		for i := range c.nodes {
			c.begin(i)
		}
		lead, term := c.leader(0)
		var workers []*node
		for i := range 6 {
			workers = append(workers, c.serve(byte(2+i), i%3, c.stageEngine(i%3)))
		}
		c.more(lead, 6)
		c.fell(lead)
		lead, _ = c.leader(term)
		c.more(lead, 6)
		workers[1].kill()
		c.nodes[lead].await("a stage with one peer", func(s *status.Snapshot) bool { return s.Stages[1].Peers == 1 })
		stage := c.whatStage(30, lead)
		if stage != 1 {
			t.Errorf("a newcomer is to serve stage %d", stage)
		}
		workers[1] = c.serve(30, stage, c.stageEngine(stage))
		for i, n := range workers {
			if err := n.finish(); err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		}
		s := c.nodes[lead].await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
		if s.Run.Tokens < s.Run.TokenBudget {
			t.Errorf("the run ended with %d tokens of %d", s.Run.Tokens, s.Run.TokenBudget)
		}
		for i, n := range workers {
			if got, want := n.snapshot().Run.StateHash, s.Stages[i%3].StateHash; got != want || want.IsZero() {
				t.Errorf("worker %d has state %s, the coordinator %s", i, got.Short(), want.Short())
			}
		}
		for i, n := range c.nodes {
			if n != nil {
				n.halt()
				c.nodes[i] = nil
			}
		}
		c.compare()
	})
}

// whatStage asks as somebody new does who knows one coordinator, not the one that leads.
func (c *council) whatStage(key byte, lead int) int {
	c.t.Helper()
	var known []wire.Known
	for i, n := range c.nodes {
		if n != nil && i != lead {
			known = append(known, wire.Known{Peer: n.host.ID(), Addrs: n.host.Addrs()})
		}
	}
	host := c.host(peer.Config{Key: testKey(key), Run: c.id}, place{key: key}, contact.Deaf{})
	defer func() { _ = host.Close() }()
	offer, err := contact.FetchStage(c.t.Context(), transport{host, hooks{}}, known, c.spec)
	if err != nil {
		c.t.Fatal(err)
	}
	return int(offer.Stage)
}
