package machine

import (
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

// TestLookKnowsItself: training on a core is not others' work, at ordinary priority and at a low one.
func TestLookKnowsItself(t *testing.T) {
	var w Watcher
	if _, err := w.Look(); err != nil {
		t.Skip(err)
	}
	least := float64(Cores())
	for range 5 { // others may work meanwhile, but hardly each time on every core
		began := time.Now()
		for time.Since(began) < 200*time.Millisecond {
		}
		l, err := w.Look()
		if err != nil {
			t.Fatal(err)
		}
		least = min(least, l.Others)
	}
	if least > float64(Cores())-0.5 {
		t.Errorf("others use %.2f of %d cores while one of them is mine", least, Cores())
	}
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
