package machine

import (
	"errors"
	"runtime"
	"time"
)

// ErrUntold says that this system does not tell a figure.
var ErrUntold = errors.New("this system does not tell")

// Load is what a look at the machine finds.
type Load struct {
	Others  float64 // cores that other programs used since the last look, 0 to Cores; background work of low priority does not count
	Battery bool    // it runs on battery
}

// Watcher looks at the machine again and again. One goroutine uses it.
type Watcher struct {
	last     time.Time
	busy     float64 // seconds of all processors since the machine started
	own      float64 // of this process
	measured bool
}

// Look returns the load since the last look; the first one finds nobody else. The error says what this system does not
// tell, of which the load then says nothing.
func (w *Watcher) Look() (Load, error) {
	var l Load
	others, errOthers := w.others()
	battery, errBattery := onBattery()
	l.Others, l.Battery = others, battery
	return l, errors.Join(errOthers, errBattery)
}

func (w *Watcher) others() (float64, error) {
	now := time.Now()
	busy, errBusy := busySeconds()
	own, errOwn := ownSeconds()
	if err := errors.Join(errBusy, errOwn); err != nil {
		return 0, err
	}
	return w.since(now, busy, own), nil
}

// since takes in what processors have worked until now, in all and for this process, and returns the cores that others used.
func (w *Watcher) since(now time.Time, busy, own float64) float64 {
	before := *w
	*w = Watcher{now, busy, own, true}
	span := now.Sub(before.last).Seconds()
	if !before.measured || span <= 0 {
		return 0
	}
	used := (busy - before.busy - (own - before.own)) / span
	return min(max(used, 0), float64(Cores()))
}

// Cores is how many processors this machine has.
func Cores() int { return runtime.NumCPU() }
