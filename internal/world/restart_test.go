package world

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"dunlin/coordinator"
	"dunlin/recipe"

	"dunlin/peer/reign"
	"dunlin/status"
	"dunlin/wire"
)

// TestCoordinatorComesBack: while the coordinator is away its workers train
// on; started again on the same folder it goes on with the same run in a new
// term. Then its folder is lost and an old copy of it put back: it takes over
// what the workers know before it writes anything, and nothing forks (R7).
func TestCoordinatorComesBack(t *testing.T) {
	w := newWorld(t, nil, func(r *recipe.Run) { r.H, r.Checkpoint = 16, 1<<20 })
	w.start(place{})
	var steps [2]atomic.Int64
	var workers []*node
	for i := range steps {
		workers = append(workers, w.start(place{key: byte(2 + i), dir: scratch(t), engine: counted(&steps[i], cpuEngine(t))}))
	}
	more := func(n uint64) *status.Snapshot {
		t.Helper()
		first := uint64(0)
		return w.lead.await("more commits", func(s *status.Snapshot) bool {
			if first == 0 {
				first = s.Health.Commits + 1
			}
			return s.Health.Commits+1 >= first+n
		})
	}
	var listen []string // the coordinator keeps its port
	for _, a := range w.lead.host.Addrs() {
		addr, _, _ := strings.Cut(a, "/p2p/")
		listen = append(listen, addr)
	}
	again := func() {
		t.Helper()
		w.start(place{listen: listen})
	}
	away := func() {
		t.Helper()
		w.lead.halt()
		var before [len(steps)]int64 // of all at once: each has windows for 7.5 s at least
		for i := range steps {
			before[i] = steps[i].Load()
		}
		for i, n := range workers {
			n.await("steps without the coordinator", func(*status.Snapshot) bool { return steps[i].Load() > before[i]+100 })
		}
	}

	more(4)
	away()
	backup := scratch(t)
	if err := os.CopyFS(backup, os.DirFS(w.leadDir)); err != nil {
		t.Fatal(err)
	}
	before := uint64(len(w.open(w.leadDir).entries))
	again()
	height := more(4).Run.Height
	if height <= before {
		t.Errorf("after a restart the run stands at height %d, it was at %d before", height, before)
	}

	away()
	lost, known := w.open(w.leadDir), uint64(0)
	for _, n := range workers {
		known = max(known, n.snapshot().Run.Height)
	}
	w.leadDir = backup
	again()
	w.lead.await("the lost entries", func(s *status.Snapshot) bool { return s.Run.Height > known })
	more(4)
	w.lead.peer.Tell(reign.Organise{Change: coordinator.Change{Phase: wire.PhaseEnded, Reason: "the test is over"}})
	for _, note := range w.end(workers...).Notes {
		if strings.Contains(note.Text, "without its table") {
			t.Errorf("the coordinator does not know what the lost commits consumed: %s", note.Text)
		}
	}

	last := w.open(w.leadDir)
	for i, e := range lost.entries[:known] { // what nobody heard of is lost
		if got := last.entries[i].Entry.Hash(); got != e.Entry.Hash() {
			t.Fatalf("height %d is another entry after the restore", i+1)
		}
	}
	terms := map[uint64]bool{}
	for _, e := range last.entries {
		terms[e.Entry.Term] = true
	}
	if len(terms) != 3 {
		t.Errorf("the entries are of %d terms, want 3", len(terms))
	}
	last.replay()
	last.epoch()
}
