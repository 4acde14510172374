package replica

import (
	"math"
	"testing"
)

// TestSelfTestIsHard: a machine that flushes denormals, on the way in or out, must not
// pass, so the vector has to end with many of them, in weights and in momentum.
func TestSelfTestIsHard(t *testing.T) {
	weights, momentum, gradient := selfTestVector()
	if _, err := selfTest(weights, momentum, gradient); err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string][]float32{"weights": weights, "momentum": momentum} {
		n := 0
		for _, x := range values {
			if x != 0 && math.Abs(float64(x)) < 0x1p-126 {
				n++
			}
		}
		if n < 100 {
			t.Errorf("%s end with only %d denormal values", name, n)
		}
	}
}

// TestSelfTestSees: one rounding error anywhere changes the hash.
func TestSelfTestSees(t *testing.T) {
	for _, at := range []int{0, 300, 1000, 2047} {
		weights, momentum, gradient := selfTestVector()
		weights[at] = math.Float32frombits(math.Float32bits(weights[at]) + 1<<20)
		got, err := selfTest(weights, momentum, gradient)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() == selfTestHash {
			t.Errorf("a change of weight %d does not show", at)
		}
	}
}
