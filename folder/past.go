package folder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"dunlin/checkpoint"
	"dunlin/data"
	"dunlin/ledger"
	"dunlin/recipe"
	"dunlin/replica"
	"dunlin/store"
	"dunlin/training"
	"dunlin/wire"
)

// Past rebuilds the state of a run, or of a stage of it, as it was at a height of its ledger, from what a run folder holds:
// the newest saved state that is not later, and the results of the commits after it. 0 is the latest height whose results
// are all here. It returns the height of the newest commit by then. Nobody else may use the folder meanwhile.
func Past(dir string, spec *wire.RunSpec, stage int, log *ledger.Log, at uint64) (*replica.Replica, uint64, error) {
	latest, enough := log.Height(), at == 0
	if at > latest {
		return nil, 0, fmt.Errorf("height %d: the ledger here ends at %d", at, latest)
	}
	if at == 0 {
		at = latest
	}
	blobs, err := store.Open(filepath.Join(dir, "store"), 0)
	if err != nil {
		return nil, 0, err
	}
	saved, err := savedHeights(dir)
	if err != nil {
		return nil, 0, err
	}
	var failed error
	for _, from := range slices.Backward(append([]uint64{0}, saved...)) {
		if from > at {
			continue
		}
		r, height, err := since(dir, spec, stage, log, blobs, from, at)
		if err == nil || enough && height > 0 && errors.Is(err, store.ErrNotFound) {
			return r, height, nil
		}
		failed = errors.Join(err, failed) // the oldest attempt last
	}
	return nil, 0, fmt.Errorf("the state at height %d cannot be rebuilt from this folder: %w", at, failed)
}

// savedHeights lists the heights of the saved states, ascending.
func savedHeights(dir string) ([]uint64, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var heights []uint64
	for _, f := range files {
		if at, ok := headHeight(f.Name()); ok {
			heights = append(heights, at)
		}
	}
	slices.Sort(heights)
	return heights, nil
}

// since replays the commits between a saved state, or state 0, and a height. When it fails at one it returns the state
// before as well.
func since(dir string, spec *wire.RunSpec, stage int, log *ledger.Log, blobs store.Store, from, at uint64) (*replica.Replica, uint64, error) {
	r, err := replica.NewStage(spec, stage, nil)
	newest := from
	if from > 0 && err == nil {
		head, readErr := os.ReadFile(headPath(dir, from))
		if readErr != nil {
			return nil, 0, readErr
		}
		r, newest, err = replica.OpenStage(spec, stage, head, blobs)
	}
	if err != nil {
		return nil, 0, err
	}
	for next := uint64(1); next <= at; {
		entries, err := log.Range(next, wire.MaxItems)
		if err != nil {
			return nil, 0, err
		}
		for i := range entries {
			e := &entries[i].Entry
			if next = e.Height + 1; e.Height > at {
				break
			}
			body, err := e.Body()
			if err != nil {
				return nil, 0, err
			}
			switch c := body.(type) {
			case *wire.Settings:
				r.Govern(c) // those below the saved state govern what comes after it
			case *wire.Commit:
				if e.Height <= from {
					continue
				}
				if err := replay(r, c, blobs); err != nil {
					return r, newest, fmt.Errorf("commit at height %d: %w", e.Height, err)
				}
				newest = e.Height
			default:
			}
		}
	}
	return r, newest, nil
}

// replay applies a commit whose table and frames are in the store; the replica checks that the state follows.
func replay(r *replica.Replica, c *wire.Commit, blobs store.Store) error {
	if c.Fragment < uint64(r.Fragments()) && !r.Holds(int(c.Fragment)) {
		return r.Follow(c)
	}
	b, err := blobs.Get(c.Table, wire.MaxMessage)
	if err != nil {
		return fmt.Errorf("table: %w", err)
	}
	var table wire.CommitTable
	if err := wire.Decode(b, &table); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	frames := make([][]byte, len(table.Slabs))
	for i, s := range table.Slabs {
		if frames[i], err = blobs.Get(s.Hash, wire.MaxFrame); err != nil {
			return fmt.Errorf("frame of slab %d: %w", i, err)
		}
	}
	return r.Apply(c, frames)
}

// Vocabulary reads the shards of a run's vocabulary from its folder; there are none where tokens are bytes. Nobody else may
// use the folder meanwhile.
func Vocabulary(dir string, spec *wire.RunSpec) ([]byte, error) {
	if len(spec.Data.Vocabulary) == 0 {
		return nil, nil
	}
	blobs, err := store.Open(filepath.Join(dir, "store"), 0)
	if err != nil {
		return nil, err
	}
	var names []wire.Hash
	for _, s := range spec.Data.Vocabulary {
		names = append(names, s.Hash)
	}
	return data.OpenShards(names, 1, func(name wire.Hash) ([]byte, error) { return blobs.Get(name, data.MaxShard) })
}

// ModelAt is a global state as a checkpoint, called by its height; of a stage it has that stage's tensors only. vocabulary
// is what the run's shards of it hold.
func ModelAt(r *replica.Replica, height uint64, vocabulary []byte) (*checkpoint.Checkpoint, error) {
	cfg, err := recipe.Model(r.Spec())
	if err != nil {
		return nil, err
	}
	tokens, err := recipe.Tokenizer(r.Spec(), vocabulary)
	if err != nil {
		return nil, err
	}
	text, err := training.Describe(cfg, tokens)
	if err != nil {
		return nil, err
	}
	return &checkpoint.Checkpoint{Step: height, Config: text, Model: r.Tensors(), Tokenizer: tokens.File()}, nil
}

// ExportStage writes what training.Export does of a stage of a run's model, as ModelAt has it: into a new folder, or into
// one that has other stages at the same height. It returns the stages that are missing before other tools open it.
func ExportStage(c *checkpoint.Checkpoint, spec *wire.RunSpec, stage int, to string, number checkpoint.Number) (missing []int, err error) {
	shard := checkpoint.Shard{
		Number: stage, Of: spec.StageCount(), Values: int64(spec.Parameters()), Files: map[string]int{},
		Origin: map[string]string{"run": spec.ID().String(), "height": strconv.FormatUint(c.Step, 10)},
	}
	for i := range spec.Tensors {
		shard.Files[spec.Tensors[i].Name] = spec.StageOf(int(spec.Tensors[i].Fragment))
	}
	missing, err = training.ExportShard(c, shard, to, number)
	if errors.Is(err, checkpoint.ErrOtherModel) {
		err = fmt.Errorf("%w: choose a new folder, or with --at the height of what is there", err)
	}
	return missing, err
}
