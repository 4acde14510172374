package keeper

import (
	"context"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"dunlin/catchup"
	"dunlin/folder"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/replica"
	"dunlin/store"
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
		k.Orders.Put(catchup.SaveCheckpoint{At: 7, Fragments: r.Heads()})
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
		k.Orders.Put(catchup.SaveCheckpoint{At: 9, Fragments: r.Heads()})
		synctest.Wait()
		stop()
		close(disk.done)
		<-ended
		if ev, failed := (<-reports).(catchup.SaveFailed); !failed || ev.At != 9 || disk.Usage().Pinned != 0 {
			t.Errorf("an end in the middle: %+v, %d bytes stay pinned", ev, disk.Usage().Pinned)
		}
	})
}

func isGiven(ev any) bool {
	_, given := ev.(WeightsGiven)
	return given
}
