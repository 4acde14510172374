package keeper

import (
	"context"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"dunlin/catchup"
	"dunlin/compress"
	"dunlin/folder"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/replica"
	"dunlin/store"
	"dunlin/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slowDisk is a store whose writes take until it is told.
type slowDisk struct {
	store.Store
	done chan struct{}
}

func (d *slowDisk) Put(b []byte) (store.Hash, error) {
	<-d.done
	return d.Store.Put(b)
}

// TestCheckpointsAreWrittenBesideTheRest: while a checkpoint is on its way to the disk the keeper answers what comes after
// it; then the checkpoint's blobs are pinned until the loop has taken them over. One that is cut short is said to have failed.
func TestCheckpointsAreWrittenBesideTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec, _ := recipetest.Spec(t, func(*recipe.Run) {})
		r, err := replica.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		disk := &slowDisk{Store: store.NewMemory(0), done: make(chan struct{})}
		reports := make(chan any, 8)
		ctx, stop := context.WithCancel(t.Context())
		k := New(r, -1, nil, disk, func(ev any) { reports <- ev })
		ended := make(chan struct{})
		go func() {
			k.Loop(ctx)
			close(ended)
		}()
		k.Orders.Put(catchup.SaveCheckpoint{At: 7})
		k.Orders.Put(WeightsAsked{})
		if ev := <-reports; !isGiven(ev) {
			t.Fatalf("first came %T", ev)
		}
		close(disk.done)
		saved, ok := (<-reports).(Saved)
		if ev := <-reports; !ok || saved.At != 7 || ev != (catchup.CheckpointSaved{At: 7}) {
			t.Fatalf("the checkpoint was not saved: %+v, %v", saved, ev)
		}
		if u := disk.Usage(); u.Blobs == 0 || u.Pinned != u.Bytes {
			t.Errorf("%d of %d bytes are pinned", u.Pinned, u.Bytes)
		}
		disk.Unpin(folder.PinSaving(7))

		disk.done = make(chan struct{})
		k.Orders.Put(catchup.SaveCheckpoint{At: 9})
		synctest.Wait()
		stop()
		close(disk.done)
		<-ended
		if ev, failed := (<-reports).(catchup.SaveFailed); !failed || ev.At != 9 || disk.Usage().Pinned != 0 {
			t.Errorf("an end in the middle: %+v, %d bytes stay pinned", ev, disk.Usage().Pinned)
		}
	})
}

// TestLastStatesAreHashedOnce: once the run has ended, what is told of a state is computed from memory, so that a bit that
// changed by itself shows; but it is computed once, which a bit that changes after that shows; and anew for the fragment that a
// late commit replaces.
func TestLastStatesAreHashedOnce(t *testing.T) {
	spec, _ := recipetest.Spec(t, func(*recipe.Run) {})
	r, err := replica.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(f int) {
		_, weights := r.Weights(f)
		weights[0]++
	}
	disk := store.NewMemory(0)
	var told []wire.FragmentHead
	k := New(r, wire.AllStages, nil, disk, func(ev any) {
		if h, ok := ev.(Hashed); ok {
			told = h.Heads
		}
	})
	order := func(o any) {
		told = nil
		k.obey(t.Context(), o)
		k.rehash()
	}
	commit, table := lateCommit(t, r, disk)

	order(Governed{&wire.Settings{Phase: wire.PhaseTraining}})
	if told != nil {
		t.Error("a state of a run that goes on was hashed")
	}
	flip(1)
	order(Governed{&wire.Settings{Phase: wire.PhaseEnded}})
	if told == nil || told[0] != r.Heads()[0] || told[1] == r.Heads()[1] || told[1] != r.Recompute()[1] {
		t.Fatalf("of an ended run with a wrong bit: %v, the commits named %v", told, r.Heads())
	}
	wrong := told[1]
	flip(1)
	order(Governed{&wire.Settings{Phase: wire.PhaseEnded}})
	if told != nil {
		t.Errorf("hashed and told again: %v", told)
	}
	order(catchup.Apply{Height: 3, Commit: commit, Table: table})
	if told == nil || told[0] != r.Recompute()[0] || told[0].Version != 1 || told[1] != wrong {
		t.Errorf("after a late commit of fragment 0: %v, want %v and %v", told, r.Recompute()[0], wrong)
	}
}

// lateCommit is one of nothing to fragment 0, whose frames are on the disk.
func lateCommit(t *testing.T, r *replica.Replica, disk store.Store) (*wire.Commit, *wire.CommitTable) {
	t.Helper()
	codec, err := compress.ByName(r.Spec().Result)
	if err != nil {
		t.Fatal(err)
	}
	table := &wire.CommitTable{}
	var frames [][]byte
	for i := range r.Layout(0).Slabs() {
		from, to := r.Layout(0).SlabValues(i)
		frame, err := codec.Encode(nil, make([]float32, to-from))
		if err != nil {
			t.Fatal(err)
		}
		h, err := disk.Put(frame)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
		table.Slabs = append(table.Slabs, wire.SlabResult{Slab: uint64(i), Hash: h, Length: uint64(len(frame))})
	}
	shadow, err := r.Prepare(0, 0, frames)
	if err != nil {
		t.Fatal(err)
	}
	return &wire.Commit{BaseState: r.Heads()[0].State, Result: shadow.Result(), State: shadow.State()}, table
}

func isGiven(ev any) bool {
	_, given := ev.(WeightsGiven)
	return given
}
