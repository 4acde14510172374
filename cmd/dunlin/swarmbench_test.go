package main

import (
	"math"
	"testing"
	"time"

	"dunlin/cmd/dunlin/localswarm"
	"dunlin/status"
)

func TestMedianOfOddAndEvenCounts(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("median %v, want 5", m)
	}
	if m := median([]float64{8, 2, 4, 6}); m != 5 {
		t.Errorf("median %v, want 5", m)
	}
}

func TestEfficiencyIsTheRatioOfMediansInItsInterval(t *testing.T) {
	r := swarmSpeed{}
	for i, on := range []float64{900, 910, 890, 905, 895} {
		r.Windows = append(r.Windows, swarmWindow{Rounds: true, TokensPerSecond: on}, swarmWindow{TokensPerSecond: 1000 + float64(i-2)*5})
	}
	r.conclude()
	if math.Abs(r.Efficiency-0.9) > 1e-12 || r.On != 900 || r.Off != 1000 {
		t.Errorf("efficiency %v of %v over %v", r.Efficiency, r.On, r.Off)
	}
	if low, high := r.Interval[0], r.Interval[1]; low >= 0.9 || high <= 0.9 || low < 0.87 || high > 0.93 {
		t.Errorf("interval %v around 0.9", r.Interval)
	}
}

func TestWindowPlanAlternatesAtLeastTen(t *testing.T) {
	for _, whole := range []time.Duration{time.Second, 60 * time.Second, 180 * time.Second, time.Hour} {
		count, length := windowPlan(whole)
		if count < leastWindows || count%2 != 0 || length < leastWindow {
			t.Errorf("%v: %d windows of %v", whole, count, length)
		}
		if spent := time.Duration(count) * (length + settleWithin); whole > time.Minute && (spent > whole || spent < whole*9/10) {
			t.Errorf("%v: windows take %v", whole, spent)
		}
	}
}

// TestTallySumsSlotsAndProcesses follows one worker through a new slot, a
// restart and a coordinator that has not heard of it yet.
func TestTallySumsSlotsAndProcesses(t *testing.T) {
	var w localswarm.Tally
	for _, p := range []status.Peer{
		{Slot: 1, Clock: 1000, Tokens: 100, Step: 10, Sent: 50, OuterSteps: 1},
		{Slot: 1, Clock: 3000, Tokens: 300, Step: 30, Sent: 70, OuterSteps: 3},
		{Slot: 2}, // admitted again, no heartbeat yet
		{Slot: 2, Clock: 4000, Tokens: 40, Step: 4, Sent: 80, OuterSteps: 3}, // the same process
		{Slot: 3, Clock: 500, Tokens: 10, Step: 1, Sent: 5, OuterSteps: 0},   // a new one
		{Slot: 3, Clock: 1500, Tokens: 210, Step: 21, Sent: 9, OuterSteps: 2},
	} {
		w.Heard(&p)
	}
	want := localswarm.Counters{Tokens: 300 + 40 + 210, Steps: 30 + 4 + 21, Outer: 3 + 2, Sent: 80 + 9}
	if got := w.Total(); got != want {
		t.Errorf("total %+v, want %+v", got, want)
	}
	if rate := w.TokensPerSecond(); rate != 200 {
		t.Errorf("%v tokens/s in the last slot, want 200", rate)
	}
}

// TestTallyHearsAProcessOnlyInItsOwnSlot has a worker come back to its folder after the run has ended: the coordinator's
// page still shows the heartbeat of the process that was killed.
func TestTallyHearsAProcessOnlyInItsOwnSlot(t *testing.T) {
	var w localswarm.Tally
	w.Restart() // the first process
	if w.Present() {
		t.Error("present before anything was heard")
	}
	killed := status.Peer{Slot: 0, Clock: 3000, Tokens: 300}
	w.Heard(&killed)
	if !w.Present() {
		t.Error("absent although it was heard")
	}
	w.Restart()
	w.Heard(&killed)
	if w.Present() {
		t.Error("present by the heartbeat of the process before")
	}
	w.Heard(&status.Peer{Slot: 4, Clock: 500, Tokens: 10})
	if total := w.Total().Tokens; !w.Present() || total != 310 {
		t.Errorf("present %v with %d tokens, want true with 310", w.Present(), total)
	}
}
