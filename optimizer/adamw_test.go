package optimizer_test

import (
	"math"
	"testing"

	"dunlin/compute"
)

// TestJoinerRamp: with a constant gradient of one sign Adam moves by the rate, so
// the moves show min(1, k(1−β₂)/2).
func TestJoinerRamp(t *testing.T) {
	cfg := defaults
	cfg.Joiner, cfg.Clip, cfg.Beta2 = true, 0, 0.5
	b := newBench(t, []compute.Tensor{{Name: "a", Shape: []int{1}}}, []float32{0}, cfg)
	last := 0.0
	for k := 1; k <= 6; k++ {
		b.step([]float32{3}, 0.01, 0)
		x := float64(b.values()[0])
		want := 0.01 * math.Min(1, float64(k)*0.25)
		if move := last - x; math.Abs(move-want) > 1e-6 {
			t.Errorf("step %d moved by %g, want %g", k, move, want)
		}
		last = x
	}
}
