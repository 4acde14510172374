package figures

import (
	"testing"
	"time"
)

// Steps of a stage that heard no loss say nothing about it.
func TestLossOfStepsWithoutOne(t *testing.T) {
	var l Life
	for _, loss := range []float64{0, 2, 0, 0, 2} {
		l.Stepped(Step{Loss: loss})
	}
	if l.Loss != 2 {
		t.Errorf("losses of 2, and steps without one, make %v", l.Loss)
	}
}

// Steps that come together, after the driver was kept waiting, give no rate; those that come at their pace do.
func TestRateOfABurstIsNotKnown(t *testing.T) {
	var r Rate
	now := time.Now()
	for i := range uint64(5) {
		r.add(now.Add(time.Duration(i)*time.Microsecond), 64*(i+1))
	}
	if got := r.PerSecond(now.Add(time.Millisecond)); got != 0 {
		t.Errorf("a burst makes %v tokens a second", got)
	}
	r.add(now.Add(time.Second), 320+680)
	if got := r.PerSecond(now.Add(time.Second)); got != 936 {
		t.Errorf("%v tokens a second, want 936", got)
	}
}
