package plan

import (
	"math"
	"testing"
)

// Table 4 of the scaling laws: eval loss at H = 30 and twenty tokens a parameter.
func TestLossFollowsThePublishedTable(t *testing.T) {
	for _, row := range []struct {
		size   float64
		losses map[float64]float64 // by replicas
	}{
		{35e6, map[float64]float64{1: 3.482, 2: 3.508, 4: 3.554, 8: 3.621}},
		{335e6, map[float64]float64{1: 2.777, 2: 2.788, 4: 2.808, 8: 2.841}},
		{1.3e9, map[float64]float64{1: 2.451, 2: 2.464, 4: 2.472, 8: 2.493}},
		{2.4e9, map[float64]float64{1: 2.317, 2: 2.323, 4: 2.332, 8: 2.351}},
		{4e9, map[float64]float64{1: 2.219, 2: 2.220, 4: 2.230}},
	} {
		for m, want := range row.losses {
			if got := loss(row.size, m, 20*row.size, 30); math.Abs(got-want) > 0.04*want {
				t.Errorf("%.3g parameters, %v replicas: %.3f, published %.3f", row.size, m, got, want)
			}
		}
	}
	if got := loss(2.4e9, 8, 20*2.4e9, 30); math.Abs(got-2.347) > 5e-3 {
		t.Errorf("joint law at 2.4e9 and 8: %.4f, want 2.347", got)
	}
}

// Streaming DiLoCo, table 1: H from 30 to 100 costs 0.3 to 0.9 %; more tokens help, more replicas cost.
func TestLossKnowsWhatHelps(t *testing.T) {
	base := loss(500e6, 4, 10e9, 30)
	if by := loss(500e6, 4, 10e9, 100)/base - 1; by < 0.003 || by > 0.009 {
		t.Errorf("H 30 to 100 costs %.2f %%", 100*by)
	}
	if loss(500e6, 4, 20e9, 30) >= base || loss(500e6, 8, 10e9, 30) <= base {
		t.Error("tokens must help and replicas must cost")
	}
}

func TestBatchAndRateFollowTheirLaws(t *testing.T) {
	for _, c := range []struct{ got, want float64 }{
		{bestBatch(1e9, 1), 14.521 * math.Pow(1e9, 0.4695)},
		{bestBatch(1e9, 8) / bestBatch(1e9, 1), math.Pow(8, 0.3399)},
		{bestRate(1e9, 1), 22256 * math.Pow(1e9, -0.8827)},
	} {
		if math.Abs(c.got/c.want-1) > 1e-12 {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	if b := bestBatch(1.3e9, 2); b < 100e3 || b > 1e6 {
		t.Errorf("1.3B, two replicas: %.0f tokens", b)
	}
}
