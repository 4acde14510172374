package world

import (
	"path/filepath"

	"dunlin/data"
	"dunlin/folder"
	"dunlin/ledger"
	"dunlin/replica"
	"dunlin/store"
	"dunlin/wire"
)

// folder is what a peer that has ended leaves on disk.
type runFolder struct {
	world   *world
	entries []wire.Certified
	store   store.Store
}

// log opens the ledger of a run folder; nobody may be using it.
func (w *world) log(dir string) *ledger.Log {
	w.t.Helper()
	first, err := replica.New(w.spec)
	if err != nil {
		w.t.Fatal(err)
	}
	var state0 []wire.Hash
	for _, h := range first.Heads() {
		state0 = append(state0, h.State)
	}
	log, err := ledger.Open(filepath.Join(dir, "ledger.db"), ledger.RulesOf(w.spec, state0), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return log
}

// past is folder.Past.
func (w *world) past(dir string, at uint64) (*replica.Replica, uint64, error) {
	log := w.log(dir)
	defer log.Close()
	return folder.Past(dir, w.spec, wire.AllStages, log, at)
}

// open reads a run folder; nobody may be using it.
func (w *world) open(dir string) *runFolder {
	w.t.Helper()
	log := w.log(dir)
	defer log.Close()
	if _, err := log.Verify(); err != nil {
		w.t.Error(err)
	}
	f := &runFolder{world: w}
	for {
		more, err := log.Range(uint64(len(f.entries))+1, wire.MaxItems)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(more) == 0 {
			break
		}
		f.entries = append(f.entries, more...)
	}
	var err error
	if f.store, err = store.Open(filepath.Join(dir, "store"), 0); err != nil {
		w.t.Fatal(err)
	}
	return f
}

// commits calls visit for every commit with its table, in order.
func (f *runFolder) commits(visit func(height uint64, c *wire.Commit, table *wire.CommitTable)) {
	t := f.world.t
	t.Helper()
	for i := range f.entries {
		body, err := f.entries[i].Entry.Body()
		if err != nil {
			t.Fatal(err)
		}
		c, ok := body.(*wire.Commit)
		if !ok {
			continue
		}
		var table wire.CommitTable
		b, err := f.store.Get(c.Table, wire.MaxMessage)
		if err == nil {
			err = wire.Decode(b, &table)
		}
		if err != nil {
			t.Fatalf("table of the commit at height %d: %v", f.entries[i].Entry.Height, err)
		}
		visit(f.entries[i].Entry.Height, c, &table)
	}
}

// settings lists the settings entries, in order.
func (f *runFolder) settings() (all []*wire.Settings) {
	for i := range f.entries {
		body, err := f.entries[i].Entry.Body()
		if s, ok := body.(*wire.Settings); err == nil && ok {
			all = append(all, s)
		}
	}
	return all
}

// replay computes the global state from state 0 by the folder's commits alone.
func (f *runFolder) replay() *replica.Replica {
	t := f.world.t
	t.Helper()
	r, err := replica.New(f.world.spec)
	if err != nil {
		t.Fatal(err)
	}
	r.Govern(f.settings()...)
	f.commits(func(height uint64, c *wire.Commit, table *wire.CommitTable) {
		frames := make([][]byte, len(table.Slabs))
		for i, s := range table.Slabs {
			if frames[i], err = f.store.Get(s.Hash, wire.MaxFrame); err != nil {
				t.Fatalf("replay height %d: %v", height, err)
			}
		}
		if err := r.Apply(c, frames); err != nil {
			t.Fatalf("replay height %d: %v", height, err)
		}
	})
	return r
}

// epoch tells what the commits made of the data's first epoch.
type epoch struct {
	windows []int  // by window: commits that were the first to count it
	tokens  uint64 // of all epochs, as the last commit says
	counted uint64 // positions of all epochs that some commit counts
}

// epoch walks the commit tables. A window counts as consumed when the first
// fragment commits it, and no fragment may commit it twice (protocol, R3b).
func (f *runFolder) epoch() epoch {
	t := f.world.t
	t.Helper()
	spec := f.world.spec
	order := data.Order{Seed: spec.Data.Seed, N: int(spec.Data.Windows)}
	out := epoch{windows: make([]int, order.N)}
	consumed := map[uint64]bool{}
	by := make([]map[uint64]bool, spec.Fragments)
	for i := range by {
		by[i] = map[uint64]bool{}
	}
	f.commits(func(height uint64, c *wire.Commit, table *wire.CommitTable) {
		for rank, member := range table.Contributors {
			if !included(table, rank) {
				continue
			}
			for _, r := range member.Windows {
				for p := r.From; p < r.To; p++ {
					if by[c.Fragment][p] {
						t.Errorf("height %d: fragment %d commits position %d again, for slot %d", height, c.Fragment, p, member.Slot)
					}
					by[c.Fragment][p] = true
					if !consumed[p] && p < uint64(order.N) {
						out.windows[order.At(p)]++
					}
					consumed[p] = true
				}
			}
		}
		out.tokens = c.Tokens
	})
	out.counted = uint64(len(consumed))
	return out
}

func included(t *wire.CommitTable, rank int) bool {
	for _, s := range t.Slabs {
		if s.Includes(rank) {
			return true
		}
	}
	return false
}
