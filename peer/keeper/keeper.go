package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"dunlin/catchup"
	"dunlin/folder"
	"dunlin/peer/mailbox"
	"dunlin/replica"
	"dunlin/store"
	"dunlin/wire"
)

// WeightsAsked asks the keeper for the committed weights of every fragment.
type WeightsAsked struct{ Restart uint64 }

// WeightsGiven answers it. The slices are never written again.
type WeightsGiven struct {
	Restart  uint64 // of the question
	Versions []uint64
	Weights  [][]float32
}

// Committed comes before catchup.Applied: what a worker merges.
type Committed struct {
	Fragment int
	Version  uint64
	Weights  []float32
	Tokens   uint64 // of the run by then; filled in by the loop
	Members  int    // contributors; filled in by the loop
}

// Saved comes before catchup.CheckpointSaved: what the checkpoint needs.
type Saved struct {
	At   uint64
	Head []byte // of replica.Head
}

// Hashed comes after what made a state of a run that has ended: its hashes, computed from memory.
type Hashed struct {
	Heads []wire.FragmentHead // of every fragment; hashes of those that are not held are the commits'
}

// Governed hands the keeper a settings entry of the log.
type Governed struct{ Settings *wire.Settings }

// Keeper owns the replica. It alone computes outer steps, on one goroutine, in
// the order of the orders; results are durable before it says so (R8).
type Keeper struct {
	run     wire.Hash
	stage   int // that the replica holds
	room    replica.Room
	replica *replica.Replica
	store   store.Store
	Orders  *mailbox.Mailbox[any]
	report  func(any)
	shadows map[shadowKey]*replica.Shadow
	saving  sync.WaitGroup
	// Settings of the log so far: a replica that is loaded must know them, too.
	settings []*wire.Settings
	hashed   []fragmentHash      // by fragment, once the run has ended
	told     []wire.FragmentHead // of the newest Hashed
}

// fragmentHash is what was computed from weights, which are replaced together with their momentum and never written.
type fragmentHash struct {
	of   *float32 // the first of them
	hash wire.Hash
}

type shadowKey struct {
	fragment uint64
	attempt  wire.AttemptID
	result   wire.Hash
}

// New makes the keeper of a replica, which is its own from then on; stage is what that holds, room where momenta lie.
func New(r *replica.Replica, stage int, room replica.Room, s store.Store, report func(any)) *Keeper {
	return &Keeper{run: r.Spec().ID(), stage: stage, room: room, replica: r, store: s, Orders: mailbox.New[any](), report: report, shadows: map[shadowKey]*replica.Shadow{}}
}

// Loop carries out orders until the context ends.
func (k *Keeper) Loop(ctx context.Context) {
	defer k.saving.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.Orders.Ready:
		}
		for _, order := range k.Orders.Take() {
			if ctx.Err() != nil {
				return
			}
			k.obey(ctx, order)
		}
		k.rehash()
	}
}

func (k *Keeper) obey(ctx context.Context, order any) {
	switch o := order.(type) {
	case catchup.Prepare:
		k.report(k.prepare(o))
	case catchup.Promote:
		k.report(k.promote(o))
	case catchup.Apply:
		k.report(k.apply(o))
	case catchup.DropShadow:
		k.letGo(shadowKey{o.Fragment, o.Attempt, o.Result})
	case catchup.SaveCheckpoint:
		view := k.replica.View()
		k.saving.Go(func() { k.save(ctx, view, o.At) })
	case catchup.LoadCheckpoint:
		k.report(k.load(o))
	case Governed:
		k.settings = append(k.settings, o.Settings)
		k.replica.Govern(o.Settings)
	case catchup.Follow:
		if err := k.replica.Follow(o.Commit); err != nil {
			k.report(mailbox.Complaint{Text: err.Error()}) // the log is certified: only this program can be wrong
		}
	case WeightsAsked:
		given := WeightsGiven{Restart: o.Restart}
		for f := range k.replica.Fragments() {
			version, weights := k.replica.Weights(f) // none of another stage's
			given.Versions = append(given.Versions, version)
			given.Weights = append(given.Weights, weights)
		}
		k.report(given)
	}
}

// rehash computes the state's hash from memory when training is over, when the hash is what everybody waits for. A fragment is
// hashed once for each state of it: the hash costs seconds in a large model, and the end may last for days.
func (k *Keeper) rehash() {
	if n := len(k.settings); n == 0 || k.settings[n-1].Phase != wire.PhaseEnded {
		return
	}
	if k.hashed == nil {
		k.hashed = make([]fragmentHash, k.replica.Fragments())
	}
	view := k.replica.View()
	heads := view.Heads()
	for f := range heads {
		if !k.replica.Holds(f) {
			continue
		}
		_, weights := k.replica.Weights(f)
		if h := &k.hashed[f]; h.of != &weights[0] {
			if f == 0 {
				sabotage(weights)
			}
			*h = fragmentHash{&weights[0], view.StateHash(f)}
		}
		heads[f].State = k.hashed[f].hash
	}
	if !slices.Equal(heads, k.told) {
		k.told = heads
		k.report(Hashed{heads})
	}
}

// frames reads the result's frames, which are in the store.
func (k *Keeper) frames(table *wire.CommitTable) ([][]byte, error) {
	frames := make([][]byte, len(table.Slabs))
	for i, s := range table.Slabs {
		frame, err := k.store.Get(s.Hash, wire.MaxFrame)
		if err != nil {
			return nil, fmt.Errorf("frame of slab %d: %w", i, err)
		}
		frames[i] = frame
	}
	return frames, nil
}

func (k *Keeper) prepare(o catchup.Prepare) any {
	result := o.Table.ResultRoot()
	key := shadowKey{o.Fragment, o.Attempt, result}
	fail := func(err error) any {
		k.letGo(key)
		failed := catchup.PrepareFailed{Fragment: o.Fragment, Base: o.Base, Attempt: o.Attempt, Result: result, Reason: err.Error()}
		if slab := (*replica.SlabError)(nil); errors.As(err, &slab) {
			failed.Garbage, failed.Slab = true, uint64(slab.Slab)
		}
		return failed
	}
	for _, s := range o.Table.Slabs {
		k.store.Pin(folder.PinHeld(o.Attempt, result), s.Hash)
	}
	frames, err := k.frames(o.Table)
	if err != nil {
		return fail(err)
	}
	shadow, err := k.replica.Prepare(int(o.Fragment), o.Base, frames)
	if err != nil {
		return fail(err)
	}
	if err := k.store.Sync(); err != nil {
		return fail(err)
	}
	k.drop(key)
	k.shadows[key] = shadow
	return catchup.Prepared{Fragment: o.Fragment, Base: o.Base, Attempt: o.Attempt, Result: result, State: shadow.State()}
}

func (k *Keeper) drop(key shadowKey) {
	if s := k.shadows[key]; s != nil {
		s.Drop()
		delete(k.shadows, key)
	}
}

// letGo drops a shadow and the frames behind it.
func (k *Keeper) letGo(key shadowKey) {
	k.drop(key)
	k.store.Unpin(folder.PinHeld(key.attempt, key.result))
}

func (k *Keeper) promote(o catchup.Promote) any {
	key := shadowKey{o.Commit.Fragment, o.Commit.Attempt, o.Commit.Result}
	shadow := k.shadows[key]
	if shadow == nil {
		return catchup.ApplyFailed{Height: o.Height, Reason: "the result is no longer prepared"}
	}
	err := k.replica.Promote(shadow, o.Commit)
	if errors.Is(err, replica.ErrDiverged) {
		state := shadow.State()
		k.letGo(key)
		return catchup.Applied{Height: o.Height, State: state}
	}
	k.drop(key)
	return k.applied(o.Height, o.Commit, err)
}

func (k *Keeper) apply(o catchup.Apply) any {
	frames, err := k.frames(o.Table)
	if err != nil {
		return catchup.ApplyFailed{Height: o.Height, Reason: err.Error()}
	}
	shadow, err := k.replica.Prepare(int(o.Commit.Fragment), o.Commit.Base, frames)
	if err != nil {
		return catchup.ApplyFailed{Height: o.Height, Reason: err.Error()}
	}
	state := shadow.State()
	err = k.replica.Promote(shadow, o.Commit)
	if errors.Is(err, replica.ErrDiverged) {
		return catchup.Applied{Height: o.Height, State: state}
	}
	if err == nil {
		err = k.store.Sync()
	}
	return k.applied(o.Height, o.Commit, err)
}

func (k *Keeper) applied(height uint64, c *wire.Commit, err error) any {
	if err != nil {
		return catchup.ApplyFailed{Height: height, Reason: err.Error()}
	}
	version, weights := k.replica.Weights(int(c.Fragment))
	k.report(Committed{Fragment: int(c.Fragment), Version: version, Weights: weights})
	return catchup.Applied{Height: height, State: c.State}
}

// save writes a state while the replica moves on. The loop pins what saved lists, before it hears
// that the checkpoint is durable.
func (k *Keeper) save(ctx context.Context, view *replica.View, at uint64) {
	var head []byte
	if _, err := view.Save(&writer{Store: k.store, ctx: ctx, pin: folder.PinSaving(at)}, k.run, at, func(b []byte) error {
		head = b
		return nil
	}); err != nil {
		k.store.Unpin(folder.PinSaving(at))
		k.report(catchup.SaveFailed{At: at, Reason: err.Error()})
		return
	}
	k.report(Saved{At: at, Head: head})
	k.report(catchup.CheckpointSaved{At: at})
}

// writer puts the blobs of a checkpoint: pinned, and a few between two syncs, so that who makes a frame durable meanwhile
// does not wait for all of them.
type writer struct {
	store.Store
	ctx context.Context //nolint:containedctx // of one call of save
	pin string
	n   int
}

const blobsAtOnce = 8

func (w *writer) Put(b []byte) (store.Hash, error) {
	if err := w.ctx.Err(); err != nil {
		return store.Hash{}, err
	}
	h, err := w.Store.Put(b)
	if err != nil {
		return h, err
	}
	w.Pin(w.pin, h)
	if w.n++; w.n%blobsAtOnce == 0 {
		err = w.Sync()
	}
	return h, err
}

func (k *Keeper) load(o catchup.LoadCheckpoint) any {
	loaded, err := k.restore(o)
	if err != nil {
		return catchup.LoadFailed{At: o.At, Reason: err.Error()}
	}
	for key := range k.shadows {
		k.letGo(key)
	}
	loaded.Govern(k.settings...)
	k.replica = loaded
	k.report(ReplicaReplaced{loaded})
	return catchup.Loaded{At: o.At}
}

// ReplicaReplaced hands the loop the replica to serve and to hash.
type ReplicaReplaced struct{ Replica *replica.Replica }

func (k *Keeper) restore(o catchup.LoadCheckpoint) (*replica.Replica, error) {
	if o.At == 0 {
		return replica.NewStage(k.replica.Spec(), k.stage, k.room)
	}
	view := k.replica.View()
	manifests := make([]wire.Manifest, len(o.Manifests))
	own := map[wire.Hash][]byte{}
	for f, m := range o.Manifests {
		if m != nil {
			manifests[f] = *m
			continue
		}
		if !k.replica.Holds(f) {
			continue
		}
		manifests[f] = view.Manifest(f)
		for i, h := range manifests[f].Slabs {
			own[h] = view.SlabBytes(nil, f, i)
		}
	}
	return replica.RestoreStage(k.replica.Spec(), k.stage, k.room, o.Fragments, manifests, func(h wire.Hash) ([]byte, error) {
		if b, ok := own[h]; ok {
			return b, nil
		}
		return k.store.Get(h, store.MaxBlob)
	})
}
