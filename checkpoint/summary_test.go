package checkpoint

import (
	"math"
	"strings"
	"testing"

	"dunlin/compute"
)

func TestSummarise(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	s := Summarise(compute.Tensor{Name: "w", Shape: []int{6}, Data: []float32{1, 3, nan, -1, 5, inf}})
	if s.Values != 6 || s.NotFinite != 2 || s.Mean != 2 || math.Abs(s.Deviation-math.Sqrt(5)) > 1e-12 || s.Norm != 6 || s.Min != -1 || s.Max != 5 {
		t.Errorf("summary %+v", s)
	}
	// -1, 1, 3, 5 are ∓1.34 and ∓0.45 deviations from the mean: bins 3, 5, 6, 8.
	if want := [Bins]int{3: 1, 5: 1, 6: 1, 8: 1}; s.Histogram != want {
		t.Errorf("histogram %v, want %v", s.Histogram, want)
	}
	far := make([]float32, 100)
	far[0], far[1] = 100, -100
	if s := Summarise(compute.Tensor{Data: far}); s.Histogram[0] != 1 || s.Histogram[Bins-1] != 1 || s.Histogram[Bins/2] != 98 {
		t.Errorf("histogram with far values %v", s.Histogram)
	}
	if s := Summarise(compute.Tensor{Data: []float32{2, 2}}); s.Deviation != 0 || s.Histogram[Bins/2] != 2 {
		t.Errorf("equal values: %+v", s)
	}
	if s := Summarise(compute.Tensor{Data: []float32{nan}}); s != (Summary{Values: 1, NotFinite: 1}) {
		t.Errorf("no finite value: %+v", s)
	}
}

func TestCompare(t *testing.T) {
	tensor := func(name string, values ...float32) compute.Tensor {
		return compute.Tensor{Name: name, Shape: []int{len(values)}, Data: values}
	}
	a := []compute.Tensor{tensor("x", 3, 4), tensor("y", 0, 0, 0)}
	got, err := Compare(a, []compute.Tensor{tensor("y", 0, 0, 2), tensor("x", 3, 4)})
	want := []Difference{{Name: "x", Values: 2}, {Name: "y", Values: 3, Changed: 1, Norm: 2, Relative: math.Inf(1), Largest: 2}}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("differences %+v (%v), want %+v", got, err, want)
	}
	if got, _ := Compare(a[:1], []compute.Tensor{tensor("x", 0, 0)}); got[0].Relative != 1 || got[0].Norm != 5 {
		t.Errorf("difference %+v, want 5, as large as the first", got[0])
	}
	for says, b := range map[string][]compute.Tensor{
		"2 and 1":     a[:1],
		`tensor "y"`:  {a[0], tensor("z", 0, 0, 0)},
		"[3] in the":  {a[0], tensor("y", 0)},
		"2 and 2 ten": {a[0], a[0]},
	} {
		if _, err := Compare(a, b); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
