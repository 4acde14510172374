package world

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/coordinator"
	"dunlin/engine"
	"dunlin/folder"
	"dunlin/ledger"
	"dunlin/peer"
	"dunlin/peer/reign"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/store"
	"dunlin/swarm/group"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// council is a world whose run has three coordinators.
type council struct {
	*world
	dirs  [3]string
	nodes [3]*node
	kept  uint64 // commands; 0: as many as by default
}

// newCouncil prepares a run; nobody runs yet.
func newCouncil(t *testing.T, net *swarmtest.Network, change func(*recipe.Run)) *council {
	t.Helper()
	c := &council{world: newWorld(t, net, change)}
	var ids []wire.PeerID
	for i := range c.dirs {
		ids = append(ids, wire.PeerIDOf(testKey(coordinatorKey(i))))
		c.dirs[i] = scratch(t)
	}
	var err error
	c.signed, err = c.run.Spec(testKey(1), ids, func(b []byte) (store.Hash, error) { return store.HashLeaf(b), nil })
	if err != nil {
		t.Fatal(err)
	}
	c.id = wire.HashLeaf(c.signed.Spec)
	if c.spec, err = c.signed.Open(c.id); err != nil {
		t.Fatal(err)
	}
	home := folder.Folder{Dir: scratch(t)}
	if err := home.PutData(c.id, c.run.Pack); err != nil { // the others fetch it
		t.Fatal(err)
	}
	c.dirs[0] = home.Run(c.id)
	return c
}

func coordinatorKey(i int) byte { return byte(201 + i) }

// begin starts a coordinator; it knows where those are that run.
func (c *council) begin(i int) {
	c.t.Helper()
	n := &node{t: c.t, world: c.world, place: place{key: coordinatorKey(i)}, done: make(chan error, 1), news: make(chan struct{}, 1)}
	cfg := peer.Config{
		Key: testKey(n.place.key), Signed: c.signed, Run: c.id, Dir: c.dirs[i], Version: "test", Publish: n.publish, Logger: logger(n.place.key),
		Coordinators: c.where(),
		Agree: func(r *reign.Reign) (reign.Agreement, error) {
			return group.Open(group.Config{Self: n.host.ID(), Members: c.spec.Coordinators, Dir: c.dirs[i], Caller: n.host, Handler: r, Logger: logger(n.place.key), Kept: c.kept})
		},
	}
	c.launch(n, cfg)
	c.nodes[i] = n
}

// work starts a worker.
func (c *council) work(key byte, steps *atomic.Int64) *node {
	c.t.Helper()
	return c.serve(key, 0, counted(steps, sleepingEngine(100*time.Millisecond)))
}

// serve starts a worker of a stage.
func (c *council) serve(key byte, stage int, made func(*wire.RunSpec, []byte, bool) (engine.Engine, error)) *node {
	c.t.Helper()
	n := &node{t: c.t, world: c.world, place: place{key: key}, done: make(chan error, 1), news: make(chan struct{}, 1)}
	c.launch(n, peer.Config{
		Key: testKey(key), Signed: c.signed, Run: c.id, Dir: scratch(c.t), Seed: uint64(key), Version: "test", Publish: n.publish, Logger: logger(key),
		Coordinators: c.where(), Stage: stage, NewEngine: made,
	})
	return n
}

func (c *council) launch(n *node, cfg peer.Config) {
	c.t.Helper()
	var err error
	if n.peer, err = peer.New(cfg); err != nil {
		c.t.Fatal(err)
	}
	n.host = c.host(cfg, n.place, handler{n.peer, hooks{}})
	ctx, stop := context.WithCancel(c.t.Context())
	n.stop = stop
	c.t.Cleanup(stop)
	go func() { n.done <- errors.Join(n.peer.Run(ctx, transport{n.host, hooks{}}), n.host.Close()) }()
}

func (c *council) where() map[wire.PeerID][]string {
	out := map[wire.PeerID][]string{}
	for _, n := range c.nodes {
		if n != nil {
			out[n.host.ID()] = n.host.Addrs()
		}
	}
	return out
}

// fell takes a coordinator away as a power cut would.
func (c *council) fell(i int) {
	c.nodes[i].kill()
	c.nodes[i] = nil
}

// leader waits until a coordinator that runs leads in a term above the one given.
func (c *council) leader(above uint64) (int, uint64) {
	c.t.Helper()
	limit := time.After(c.patience)
	for {
		for i, n := range c.nodes {
			if n == nil || n.snapshot() == nil {
				continue
			}
			s := n.snapshot()
			for _, k := range s.Run.Coordinators {
				if k.You && k.Leads && s.Run.Term > above {
					return i, s.Run.Term
				}
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-limit:
			c.t.Fatalf("nobody leads in a term above %d", above)
		}
	}
}

// more waits until a coordinator's ledger has n more commits.
func (c *council) more(i int, n uint64) {
	c.t.Helper()
	first := uint64(0)
	c.nodes[i].await("more commits", func(s *status.Snapshot) bool {
		if first == 0 {
			first = s.Health.Commits + 1
		}
		return s.Health.Commits+1 >= first+n
	})
}

// order gives a coordinator its organiser's order and returns the answer.
func (c *council) order(i int, change coordinator.Change) error {
	c.t.Helper()
	answer := make(chan error, 1)
	c.nodes[i].peer.Tell(reign.Organise{Change: change, Answer: answer})
	select {
	case err := <-answer:
		return err
	case <-time.After(c.patience):
		c.t.Fatalf("no answer to %+v", change)
		return nil
	}
}

// TestCoordinatorIsAwayForLong: while one of three coordinators is away more commands
// are agreed on than the others keep. It comes back, with its own ledger and with an
// empty folder, and leads when the others' leader goes.
func TestCoordinatorIsAwayForLong(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		c := newCouncil(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint = 8, 8 })
		c.kept = 8
		for i := range c.nodes {
			c.begin(i)
		}
		lead, term := c.leader(0)
		var steps [2]atomic.Int64
		workers := []*node{c.work(2, &steps[0]), c.work(3, &steps[1])}
		c.more(lead, 2)
		away, other := (lead+1)%3, (lead+2)%3
		c.fell(away)
		c.more(lead, 40)
		for _, lost := range []bool{false, true} {
			if lost {
				c.fell(away)
				for _, name := range []string{"raft.db", "snapshots", "ledger.db"} {
					if err := os.RemoveAll(filepath.Join(c.dirs[away], name)); err != nil {
						t.Fatal(err)
					}
				}
			}
			height := c.nodes[lead].snapshot().Run.Height
			c.begin(away)
			c.nodes[away].await("what it missed", func(s *status.Snapshot) bool { return s.Run.Height > height })
		}
		c.fell(other) // without it the one that was away is needed for every entry
		c.more(lead, 3)
		c.begin(other)
		c.more(other, 2)
		c.fell(lead)
		next, _ := c.leader(term)
		c.more(next, 3)
		c.begin(lead)
		c.more(lead, 2)

		t.Log("orders are given to a follower")
		follower := (next + 1) % 3
		for _, phase := range []wire.Phase{wire.PhasePaused, wire.PhaseTraining} {
			if err := c.order(follower, coordinator.Change{Phase: phase, Reason: "an order"}); err != nil {
				t.Fatalf("%s: %v", phase, err)
			}
		}
		c.more(next, 2)
		third := 3 - next - follower
		c.fell(next)
		c.fell(third)
		if err := c.order(follower, coordinator.Change{H: 9, Reason: "an order"}); err == nil || !strings.Contains(err.Error(), "no coordinator leads") {
			t.Errorf("without a leader an order is answered with %v", err)
		}
		c.begin(next)
		c.begin(third)
		c.more(follower, 2)
		c.over(workers)
	})
}

// TestThreeCoordinators is the life of a run with three coordinators in virtual
// time: any one may die at any time, the leader in mid-round too, and commits go
// on; a leader that is cut off commits nothing; while all are dead the workers
// train on, and rounds go on when they come back. In the end every ledger is the
// same, and every entry of it has a majority's signatures.
func TestThreeCoordinators(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		c := newCouncil(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint = 20, 8 })
		for i := range c.nodes {
			c.begin(i)
		}
		lead, term := c.leader(0)
		var steps [3]atomic.Int64
		var workers []*node
		for i := range steps {
			workers = append(workers, c.work(byte(2+i), &steps[i]))
		}
		c.more(lead, 4)

		t.Log("the leader dies while a round is under way")
		c.nodes[lead].await("a round", func(s *status.Snapshot) bool {
			return slices.ContainsFunc(s.Rounds, func(r status.Round) bool { return r.Opened != nil && r.Closed == nil })
		})
		first, died := lead, time.Now()
		c.fell(first)
		lead, term = c.leader(term)
		c.more(lead, 1)
		t.Logf("the next commit came %s later", time.Since(died).Round(10*time.Millisecond))
		c.more(lead, 3)

		t.Log("it comes back, a follower dies")
		c.begin(first)
		c.more(first, 2)
		other := 3 - lead - first
		c.fell(other)
		c.more(lead, 3)
		c.begin(other)
		c.more(other, 1)

		t.Log("the leader is cut off")
		old := lead
		c.net.Cut(c.nodes[old].host)
		cutAt := time.Now()
		lead, term = c.leader(term)
		c.more(lead, 3)
		t.Logf("three commits came within %s", time.Since(cutAt).Round(10*time.Millisecond))
		stuck := c.nodes[old].snapshot().Run.Height
		c.more(lead, 2)
		if h := c.nodes[old].snapshot().Run.Height; h != stuck {
			t.Errorf("a leader that is cut off went from height %d to %d", stuck, h)
		}
		c.net.Heal(c.nodes[old].host)
		c.nodes[old].await("the lost entries", func(s *status.Snapshot) bool { return s.Run.Height > stuck+4 })

		t.Log("all die")
		for i := range c.nodes {
			c.fell(i)
		}
		var before [len(steps)]int64 // of all at once: each has windows for 7.5 s at least
		for i := range steps {
			before[i] = steps[i].Load()
		}
		for i := range steps {
			workers[i].await("steps without coordinators", func(*status.Snapshot) bool { return steps[i].Load() > before[i]+40 })
		}
		for i := range c.nodes {
			c.begin(i)
		}
		lead, _ = c.leader(term)
		asked := func(n status.Note) bool { return strings.Contains(n.Text, "before it leads, it asks peers") }
		if !slices.ContainsFunc(c.nodes[lead].snapshot().Notes, asked) {
			t.Error("one leads after all came back and did not ask the workers what they know")
		}
		c.more(lead, 3)
		c.over(workers)
	})
}

// over stops everybody and compares what the coordinators have.
func (c *council) over(workers []*node) {
	c.t.Helper()
	for _, n := range workers {
		n.halt()
	}
	for i, n := range c.nodes {
		if n != nil {
			n.halt()
			c.nodes[i] = nil
		}
	}
	c.compare()
}

// compare verifies the coordinators' ledgers as strangers would and compares them.
func (c *council) compare() {
	c.t.Helper()
	var hashes []map[uint64]wire.Hash
	for _, dir := range c.dirs {
		l, err := ledger.Open(filepath.Join(dir, "ledger.db"), ledger.RulesOf(c.spec, nil), nil)
		if err != nil {
			c.t.Fatal(err)
		}
		if _, err := l.Verify(); err != nil {
			c.t.Error(err)
		}
		own := map[uint64]wire.Hash{}
		for from := uint64(1); from <= l.Height(); {
			entries, err := l.Range(from, wire.MaxItems)
			if err != nil {
				c.t.Fatal(err)
			}
			for i := range entries {
				own[entries[i].Entry.Height] = entries[i].Entry.Hash()
			}
			from += uint64(len(entries))
		}
		hashes = append(hashes, own)
		if err := l.Close(); err != nil {
			c.t.Error(err)
		}
	}
	for height, want := range hashes[0] {
		for i, own := range hashes {
			if have, ok := own[height]; ok && have != want {
				c.t.Errorf("coordinator %d has another entry at height %d", i, height)
			}
		}
	}
}
