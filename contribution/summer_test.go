package contribution_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/compress"
	"dunlin/contribution"
)

func frame(t *testing.T, c compress.Codec, values ...float32) []byte {
	t.Helper()
	f, err := c.Encode(nil, values)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestSumDefinition compares bits with the definition: weights normalised in float64
// and rounded once, products added in rank order.
func TestSumDefinition(t *testing.T) {
	const seed, n = 21, 300
	rng := rand.New(rand.NewPCG(seed, 0))
	weights, clips := []uint64{6144, 100, 3000}, []float32{1, 0.25, 1}
	var shares []contribution.Share
	var decoded [][]float32
	for i := range weights {
		values := make([]float32, n)
		for j := range values {
			values[j] = float32(rng.NormFloat64())
		}
		f := frame(t, compress.Int8{}, values...)
		if err := (compress.Int8{}).Decode(values, f); err != nil {
			t.Fatal(err)
		}
		decoded = append(decoded, values)
		shares = append(shares, contribution.Share{Frame: f, Weight: weights[i], Clip: clips[i], Norm: 100})
	}
	sum, err := contribution.NewSummer(compress.Int8{}, compress.FP32{}).Sum(n, shares)
	if err != nil || sum.Weight != 9244 {
		t.Fatalf("weight %d, %v", sum.Weight, err)
	}
	got := make([]float32, n)
	if err := (compress.FP32{}).Decode(got, sum.Frame); err != nil {
		t.Fatal(err)
	}
	for j := range got {
		want := float32(0)
		for i := range shares {
			factor := float32(float64(weights[i]) * float64(clips[i]) / 9244)
			want += float32(factor * decoded[i][j])
		}
		if math.Float32bits(got[j]) != math.Float32bits(want) {
			t.Fatalf("seed %d, value %d: %g, want %g", seed, j, got[j], want)
		}
	}
}

// TestSumOfThoseWhoArrived: the mean is over the shares that are there (R5).
func TestSumOfThoseWhoArrived(t *testing.T) {
	shares := []contribution.Share{
		{Frame: frame(t, compress.FP32{}, 1, 2), Weight: 10, Clip: 1, Norm: 9},
		{Weight: 1000, Clip: 1, Norm: 9}, // did not arrive
		{Frame: frame(t, compress.FP32{}, 4, 8), Weight: 20, Clip: 1, Norm: 9},
	}
	sum, err := contribution.NewSummer(compress.FP32{}, compress.FP32{}).Sum(2, shares)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 2)
	if err := (compress.FP32{}).Decode(got, sum.Frame); err != nil {
		t.Fatal(err)
	}
	if math.Abs(float64(got[0])-3) > 1e-6 || math.Abs(float64(got[1])-6) > 1e-6 || sum.Weight != 30 {
		t.Errorf("mean %v, weight %d", got, sum.Weight)
	}
	if !sum.Included[0] || sum.Included[1] || !sum.Included[2] || sum.Faults[1] != nil {
		t.Errorf("included %v, faults %v", sum.Included, sum.Faults)
	}
}

// TestSumRefuses: a bad share is left out and named; the others are summed as if it
// had not arrived.
func TestSumRefuses(t *testing.T) {
	good := contribution.Share{Frame: frame(t, compress.FP32{}, 3, 4), Weight: 10, Clip: 1, Norm: 5}
	s := contribution.NewSummer(compress.FP32{}, compress.Int8{})
	alone, err := s.Sum(2, []contribution.Share{good, {}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*contribution.Share)
		want   error
	}{
		"cut frame":   {func(x *contribution.Share) { x.Frame = x.Frame[:15] }, compress.ErrFrame},
		"empty frame": {func(x *contribution.Share) { x.Frame = []byte{} }, compress.ErrFrame},
		"infinite value": {func(x *contribution.Share) {
			x.Frame = bytes.Clone(x.Frame)
			copy(x.Frame[12:], []byte{0, 0, 0x80, 0x7f})
		}, compress.ErrFrame},
		"no number": {func(x *contribution.Share) {
			x.Frame = bytes.Clone(x.Frame)
			copy(x.Frame[12:], []byte{0, 0, 0xc0, 0x7f})
		}, compress.ErrFrame},
		"long frame":      {func(x *contribution.Share) { x.Frame = append(bytes.Clone(x.Frame), 0) }, compress.ErrFrame},
		"other codec":     {func(x *contribution.Share) { x.Frame = frame(t, compress.Int8{}, 3, 4) }, compress.ErrFrame},
		"norm too small":  {func(x *contribution.Share) { x.Norm = 4.99 }, contribution.ErrNorm},
		"norm of nothing": {func(x *contribution.Share) { x.Norm = float32(math.NaN()) }, contribution.ErrNorm},
		"infinite norm":   {func(x *contribution.Share) { x.Norm = float32(math.Inf(1)) }, contribution.ErrNorm},
		"norm above all":  {func(x *contribution.Share) { x.Frame, x.Norm = frame(t, compress.FP32{}, 1e30, 0), 1e31 }, contribution.ErrNorm},
		"no weight":       {func(x *contribution.Share) { x.Weight = 0 }, nil},
		"heavy":           {func(x *contribution.Share) { x.Weight = contribution.MaxWeight + 1 }, nil},
		"no clip factor":  {func(x *contribution.Share) { x.Clip = 0 }, nil},
		"clip above one":  {func(x *contribution.Share) { x.Clip = 1.5 }, nil},
	} {
		bad := good
		c.change(&bad)
		sum, err := s.Sum(2, []contribution.Share{good, bad})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if sum.Included[1] || sum.Faults[1] == nil || c.want != nil && !errors.Is(sum.Faults[1], c.want) {
			t.Errorf("%s: included %v, fault %v", name, sum.Included, sum.Faults[1])
		}
		if !bytes.Equal(sum.Frame, alone.Frame) || sum.Weight != alone.Weight {
			t.Errorf("%s: the others are not summed as without it", name)
		}
		if sum, err := s.Sum(2, []contribution.Share{bad}); !errors.Is(err, contribution.ErrEmpty) || sum.Faults[0] == nil {
			t.Errorf("%s alone: %v, fault %v", name, err, sum.Faults)
		}
	}
	if _, err := s.Sum(0, []contribution.Share{good}); err == nil {
		t.Error("a slab of no values was summed")
	}
	rounded := good
	rounded.Norm = 4.996 // within the slack for rounding
	if sum, err := s.Sum(2, []contribution.Share{rounded}); err != nil {
		t.Errorf("a norm within rounding: %v, %v", err, sum.Faults)
	}
}

func BenchmarkSum(b *testing.B) {
	const n = 4 * compress.BlockValues
	rng := rand.New(rand.NewPCG(1, 0))
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	f, err := compress.Int8{}.Encode(nil, values)
	if err != nil {
		b.Fatal(err)
	}
	shares := make([]contribution.Share, 4)
	for i := range shares {
		shares[i] = contribution.Share{Frame: f, Weight: 100, Clip: 1, Norm: 1e4}
	}
	s := contribution.NewSummer(compress.Int8{}, compress.Int8{})
	for b.Loop() {
		if _, err := s.Sum(n, shares); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n/float64(len(shares)), "ns/value/member")
}
