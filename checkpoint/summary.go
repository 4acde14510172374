package checkpoint

import (
	"fmt"
	"math"
	"slices"

	"dunlin/compute"
)

// Bins is the length of a Summary's histogram.
const Bins = 12

// Summary describes the values of one tensor.
type Summary struct {
	Values    int
	NotFinite int     // values that are infinite or no number; the rest leaves them out
	Mean      float64 // 0 when no value is finite, like all that follows
	Deviation float64 // root of the mean squared distance from Mean
	Norm      float64 // root of the sum of squares
	Min, Max  float64
	// Histogram counts the values in Bins equal steps from Mean - 3·Deviation to
	// Mean + 3·Deviation; what lies beyond is in the outermost.
	Histogram [Bins]int
}

// Summarise reads a tensor twice, in float64.
func Summarise(t compute.Tensor) Summary {
	s := Summary{Values: len(t.Data), Min: math.Inf(1), Max: math.Inf(-1)}
	var sum, squares float64
	for _, f := range t.Data {
		v := float64(f)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			s.NotFinite++
			continue
		}
		sum += v
		squares += v * v
		s.Min, s.Max = min(s.Min, v), max(s.Max, v)
	}
	finite := float64(s.Values - s.NotFinite)
	if finite == 0 {
		s.Min, s.Max = 0, 0
		return s
	}
	s.Mean, s.Norm = sum/finite, math.Sqrt(squares)
	var apart float64
	for _, f := range t.Data {
		if v := float64(f); !math.IsNaN(v) && !math.IsInf(v, 0) {
			apart += (v - s.Mean) * (v - s.Mean)
		}
	}
	s.Deviation = math.Sqrt(apart / finite)
	for _, f := range t.Data {
		if v := float64(f); !math.IsNaN(v) && !math.IsInf(v, 0) {
			s.Histogram[s.bin(v)]++
		}
	}
	return s
}

func (s *Summary) bin(v float64) int {
	if s.Deviation == 0 {
		return Bins / 2
	}
	place := (v - s.Mean + 3*s.Deviation) / (6 * s.Deviation) * Bins
	return int(min(max(place, 0), Bins-1))
}

// Difference says how far two tensors of one name are apart.
type Difference struct {
	Name     string
	Values   int
	Changed  int     // values with other bits
	Norm     float64 // root of the sum of squared differences
	Relative float64 // Norm ÷ the first tensor's norm; infinite when only that is 0
	Largest  float64 // magnitude of the largest difference
}

// Compare returns the differences of b from a in a's order, computed in float64;
// values that are not finite make them infinite or NaN. Both must hold the same
// names and shapes.
func Compare(a, b []compute.Tensor) ([]Difference, error) {
	other := make(map[string]compute.Tensor, len(b))
	for _, t := range b {
		other[t.Name] = t
	}
	if len(a) != len(b) || len(other) != len(b) {
		return nil, fmt.Errorf("compare checkpoints: %d and %d tensors: only models of one shape can be compared", len(a), len(b))
	}
	var all []Difference
	for _, t := range a {
		u, ok := other[t.Name]
		if !ok {
			return nil, fmt.Errorf("compare checkpoints: only the first has tensor %q: only models of one shape can be compared", t.Name)
		}
		if !slices.Equal(t.Shape, u.Shape) {
			return nil, fmt.Errorf("compare checkpoints: tensor %q is %v in the first and %v in the second: only models of one shape can be compared", t.Name, t.Shape, u.Shape)
		}
		all = append(all, difference(t, u))
	}
	return all, nil
}

func difference(t, u compute.Tensor) Difference {
	d := Difference{Name: t.Name, Values: len(t.Data)}
	var own, squares float64
	for i, f := range t.Data {
		if math.Float32bits(f) != math.Float32bits(u.Data[i]) {
			d.Changed++
		}
		apart := math.Abs(float64(u.Data[i]) - float64(f))
		own += float64(f) * float64(f)
		squares += apart * apart
		d.Largest = max(d.Largest, apart)
	}
	d.Norm = math.Sqrt(squares)
	if squares > 0 {
		d.Relative = d.Norm / math.Sqrt(own)
	}
	return d
}
