package folder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"dunlin/replica"
	"dunlin/store"
	"dunlin/wire"
)

// Retention decides which bytes are kept: the results since the second newest
// complete checkpoint, and the checkpoints since then (protocol, "Joining,
// sleeping, returning"). Heads of saved checkpoints lie beside the store, so
// that they can be served and loaded after a restart.
type Retention struct {
	dir       string
	completed []uint64             // heights of complete checkpoints, ascending
	kept      []uint64             // heights with pins, ascending as they come
	Lost      []uint64             // heights of saved states that were found damaged at the start
	mu        sync.Mutex           // guards manifests, which the transport reads
	manifests map[wire.Hash][]byte // by state hash
	stateAt   map[uint64][]wire.Hash
}

func pinAt(height uint64) string { return fmt.Sprintf("height/%d", height) }

// PinSummed names the store's owner of the frames that a slab's owner has announced: they stay until the attempt is
// decided (R8).
func PinSummed(a wire.AttemptID) string { return "summed/" + a.String() }

// PinHeld names the owner of those that a holder has said Have of, which stay as long.
func PinHeld(a wire.AttemptID, result wire.Hash) string {
	return "held/" + a.String() + "/" + result.String()
}

// PinSaving names the owner of a checkpoint's blobs until it is whole and Keep has its head.
func PinSaving(height uint64) string { return fmt.Sprintf("saving/%d", height) }

// pinTables is the store's owner of commit tables, which say who trained on
// what and are kept as long as the ledger.
const pinTables = "tables"

// Commit keeps the frames and the table of an applied commit.
func (r *Retention) Commit(s store.Store, height uint64, name wire.Hash, table *wire.CommitTable) {
	s.Pin(pinTables, name)
	var hashes []store.Hash
	for _, slab := range table.Slabs {
		hashes = append(hashes, slab.Hash)
	}
	s.Pin(pinAt(height), hashes...)
	r.kept = append(r.kept, height)
}

// Complete notes a complete checkpoint and returns the height below which
// nothing is needed any more, once there are two.
func (r *Retention) Complete(c *wire.Checkpoint) (uint64, bool) {
	if !c.Complete {
		return 0, false
	}
	r.completed = append(r.completed, c.At)
	if len(r.completed) < 2 {
		return 0, false
	}
	return r.completed[len(r.completed)-2], true
}

// LetGo unpins what only states below a height need.
func (r *Retention) LetGo(s store.Store, below uint64) {
	var kept []uint64
	for _, h := range r.kept {
		if h >= below {
			kept = append(kept, h)
			continue
		}
		s.Unpin(pinAt(h))
		r.forget(h)
	}
	r.kept = kept
}

// Manifest returns the canonical manifest of a state hash, or nil.
func (r *Retention) Manifest(state wire.Hash) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manifests[state]
}

// MaxManifest bounds a manifest, in bytes.
const MaxManifest = wire.MaxMessage

const headSuffix = ".head"

func headPath(dir string, at uint64) string {
	return filepath.Join(dir, fmt.Sprintf("checkpoint-%d%s", at, headSuffix))
}

// headHeight reads the height from the name of a saved state's head.
func headHeight(name string) (at uint64, ok bool) {
	n, err := fmt.Sscanf(name, "checkpoint-%d", &at)
	return at, n == 1 && err == nil && strings.HasSuffix(name, headSuffix)
}

// Keep pins the checkpoint saved at a height and writes its head.
func (r *Retention) Keep(s store.Store, at uint64, head []byte) error {
	r.kept = append(r.kept, at)
	if err := store.WriteFile(headPath(r.dir, at), head, 0o600); err != nil {
		return fmt.Errorf("checkpoint at height %d: %w", at, err)
	}
	return r.index(s, at, head, s.Get)
}

// index makes a head's manifests servable.
func (r *Retention) index(s store.Store, at uint64, head []byte, get func(store.Hash, int) ([]byte, error)) error {
	var h replica.Head
	if err := wire.Decode(head, &h); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range h.Fragments {
		if f.Manifest.IsZero() {
			continue // of another stage
		}
		b, err := get(f.Manifest, MaxManifest)
		if err != nil {
			return err
		}
		var m wire.Manifest
		if err := wire.Decode(b, &m); err != nil {
			return err
		}
		hashes := []store.Hash{f.Manifest}
		for _, slab := range m.Slabs {
			hashes = append(hashes, slab)
		}
		s.Pin(pinAt(at), hashes...)
		r.manifests[f.State] = b
		r.stateAt[at] = append(r.stateAt[at], f.State)
	}
	return nil
}

// forget drops a checkpoint's head.
func (r *Retention) forget(at uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	states, ok := r.stateAt[at]
	if !ok {
		return
	}
	delete(r.stateAt, at)
	for _, s := range states {
		if !r.usedLocked(s) {
			delete(r.manifests, s)
		}
	}
	_ = os.Remove(headPath(r.dir, at)) // a head without its bytes is refused when it is read
}

func (r *Retention) usedLocked(state wire.Hash) bool {
	for _, states := range r.stateAt {
		for _, s := range states {
			if s == state {
				return true
			}
		}
	}
	return false
}

// OpenRetention reads the heads of an earlier process. A head whose bytes are
// no longer complete is removed: the checkpoint can be had from others.
func OpenRetention(dir string, s store.Store) (*Retention, error) {
	r := &Retention{dir: dir, manifests: map[wire.Hash][]byte{}, stateAt: map[uint64][]wire.Hash{}}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open data folder: %w", err)
	}
	for _, f := range files {
		at, ok := headHeight(f.Name())
		if !ok {
			continue
		}
		head, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err == nil {
			err = r.index(s, at, head, s.Get)
		}
		if err != nil {
			r.forget(at)
			r.Lost = append(r.Lost, at)
			_ = os.Remove(filepath.Join(dir, f.Name())) // the checkpoint can be had from others
			continue
		}
		r.kept = append(r.kept, at)
	}
	return r, nil
}
