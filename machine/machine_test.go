package machine

import (
	"math"
	"runtime"
	"testing"
	"time"
)

// TestLook asks this machine: what it tells must be possible.
func TestLook(t *testing.T) {
	var w Watcher
	first, err := w.Look()
	if err != nil {
		t.Skip(err)
	}
	if first.Others != 0 {
		t.Errorf("the first look finds %v cores in use since it", first.Others)
	}
	sum := 0
	for i := range 50_000_000 { // own work is not others'
		sum += i
	}
	runtime.KeepAlive(sum)
	l, err := w.Look()
	if err != nil || l.Others < 0 || l.Others > float64(Cores()) {
		t.Errorf("others use %v of %d cores, %v", l.Others, Cores(), err)
	}
}

// TestOwnWorkIsNotOthers feeds a watcher what a machine may tell: training is not others' work.
func TestOwnWorkIsNotOthers(t *testing.T) {
	var w Watcher
	now := time.Unix(1000, 0)
	for _, look := range []struct{ after, busy, own, others float64 }{
		{0, 500, 20, 0},                 // the first
		{2, 502, 22, 0},                 // one core, all of it its own
		{2, 505, 24, 0.5},               // beside others
		{1, 505.5, 25, 0},               // what is its own is counted sooner than what is all's
		{1, 1000, 25, float64(Cores())}, // of the machine that this one is a part of
		{0, 1001, 25, 0},                // no time has passed
		{1, 1001 + float64(Cores())/2, 25, float64(Cores()) / 2},
	} {
		now = now.Add(time.Duration(look.after * float64(time.Second)))
		if got := w.since(now, look.busy, look.own); math.Abs(got-look.others) > 1e-9 {
			t.Errorf("%+v: others use %v cores", look, got)
		}
	}
}

// TestOwnWorkIsCounted: what this process works, the system tells, unless it works at a low priority, which counts for nobody.
func TestOwnWorkIsCounted(t *testing.T) {
	before, err := ownSeconds()
	if err != nil {
		t.Skip(err)
	}
	for began := time.Now(); time.Since(began) < time.Minute; {
		for range 10_000_000 { //nolint:revive // it works
		}
		if now, err := ownSeconds(); err != nil || before == 0 || now-before > 0.05 {
			return
		}
	}
	t.Error("a minute of work does not count")
}

func TestMemoryAndDisk(t *testing.T) {
	if total, free, err := Memory(); err == nil && (free == 0 || free > total) {
		t.Errorf("%d of %d bytes of memory are free", free, total)
	}
	if total, free, err := Disk(t.TempDir()); err == nil && free > total {
		t.Errorf("%d of %d bytes of the disk are free", free, total)
	}
	if _, _, err := Disk("/no/such/folder"); err == nil {
		t.Error("a folder that is not there has a disk")
	}
}
