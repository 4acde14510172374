package figures

import "testing"

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
