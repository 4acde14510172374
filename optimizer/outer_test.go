package optimizer_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/optimizer"
)

// TestOuterVector is the hand-computed vector of DiLoCo's outer step: η 0.7, μ 0.9,
// θ 1, the gradient 0.5 twice gives 0.335, then −0.6135.
func TestOuterVector(t *testing.T) {
	o := optimizer.Outer{LearningRate: 0.7, Momentum: 0.9}
	w, b, g := []float32{1}, []float32{0}, []float32{0.5}
	for i, want := range []struct{ weight, momentum float64 }{{0.335, 0.5}, {-0.6135, 0.95}} {
		if !o.Step(w, b, w, b, g) {
			t.Fatal("the step is said not to be finite")
		}
		if math.Abs(float64(w[0])-want.weight) > 1e-6 || math.Abs(float64(b[0])-want.momentum) > 1e-6 {
			t.Errorf("after step %d: weight %g, momentum %g, want %g and %g", i+1, w[0], b[0], want.weight, want.momentum)
		}
	}
}

func TestOuterGolden(t *testing.T) {
	type golden struct {
		LR, Momentum float32
		Start        []float32
		Steps        []struct {
			Gradient          []float32
			Weights, Momentum []float64
		}
	}
	for _, name := range []string{"nesterov32.json", "nesterov64.json"} {
		var g golden
		readGolden(t, name, &g)
		o := optimizer.Outer{LearningRate: g.LR, Momentum: g.Momentum}
		w, b := g.Start, make([]float32, len(g.Start))
		for i, s := range g.Steps {
			if !o.Step(w, b, w, b, s.Gradient) {
				t.Fatalf("%s: step %d is said not to be finite", name, i)
			}
			for j := range w {
				if math.Abs(float64(w[j])-s.Weights[j]) > 1e-6 || math.Abs(float64(b[j])-s.Momentum[j]) > 1e-6 {
					t.Fatalf("%s: step %d, value %d: weight %.9g, momentum %.9g, PyTorch has %.9g and %.9g",
						name, i, j, w[j], b[j], s.Weights[j], s.Momentum[j])
				}
			}
		}
	}
}

// hardValues are floats at which a fused or reordered step differs from the definition.
func hardValues(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	special := []float32{0, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, 0x1p-126, -0x1p-127, 1, -1, 1e30, -1e30}
	for i := range out {
		switch rng.IntN(4) {
		case 0:
			out[i] = special[rng.IntN(len(special))]
		case 1:
			out[i] = math.Float32frombits(rng.Uint32()&0x807fffff | (96+rng.Uint32N(64))<<23)
		default:
			out[i] = float32(rng.NormFloat64())
		}
	}
	return out
}

// TestOuterDefinition compares bits with the definition, each operation done in
// float64 and rounded to float32. A float32 sum or product computed in float64 and
// rounded once is the correctly rounded one (Figueroa 1995: 53 ≥ 2·24 + 2), and a
// fused operation would differ.
func TestOuterDefinition(t *testing.T) {
	const seed = 17
	rng := rand.New(rand.NewPCG(seed, 0))
	mul := func(a, b float32) float32 { return float32(float64(a) * float64(b)) }
	add := func(a, b float32) float32 { return float32(float64(a) + float64(b)) }
	o := optimizer.Outer{LearningRate: 0.7, Momentum: 0.9}
	const n = 20000
	w, b, g := hardValues(rng, n), hardValues(rng, n), hardValues(rng, n)
	newW, newB := make([]float32, n), make([]float32, n)
	o.Step(newW, newB, w, b, g)
	fusedDiffers := false
	for i := range w {
		wantB := add(mul(o.Momentum, b[i]), g[i])
		wantW := add(w[i], -mul(o.LearningRate, add(g[i], mul(o.Momentum, wantB))))
		if math.Float32bits(newB[i]) != math.Float32bits(wantB) || math.Float32bits(newW[i]) != math.Float32bits(wantW) {
			t.Fatalf("seed %d, value %d (w %g, b %g, g %g): got %g and %g, want %g and %g",
				seed, i, w[i], b[i], g[i], newW[i], newB[i], wantW, wantB)
		}
		fused := float32(math.FMA(float64(o.Momentum), float64(b[i]), float64(g[i])))
		fusedDiffers = fusedDiffers || fused != wantB
	}
	if !fusedDiffers {
		t.Error("no value tells a fused step from the definition: the inputs are too easy")
	}
}

func TestOuterNotFinite(t *testing.T) {
	o := optimizer.Outer{LearningRate: 0.7, Momentum: 0.9}
	huge := float32(math.MaxFloat32)
	for name, c := range map[string]struct {
		w, b, g float32
		finite  bool
	}{
		"ordinary":          {1, 0, 1, true},
		"weight overflows":  {-huge, 0, huge / 4, false},
		"momentum overflow": {0, huge, huge / 2, false},
		"largest weight":    {huge, 0, 0, true},
		"NaN":               {0, 0, float32(math.NaN()), false},
	} {
		w, b := []float32{0, c.w, 0}, []float32{0, c.b, 0}
		if got := o.Step(w, b, w, b, []float32{0, c.g, 0}); got != c.finite {
			t.Errorf("%s: finite %v, want %v (weight %g, momentum %g)", name, got, c.finite, w[1], b[1])
		}
	}
}

func TestOuterValidate(t *testing.T) {
	for _, o := range []optimizer.Outer{{}, {LearningRate: -1}, {LearningRate: 3}, {LearningRate: 1, Momentum: 1}, {LearningRate: 1, Momentum: float32(math.NaN())}} {
		if o.Validate() == nil {
			t.Errorf("accepted %+v", o)
		}
	}
	if err := (optimizer.Outer{LearningRate: 1}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestOuterAverages: rate 1 without momentum is the plain mean, so weights minus
// the gradient of one worker are that worker's weights.
func TestOuterAverages(t *testing.T) {
	o := optimizer.Outer{LearningRate: 1}
	w, b := []float32{1, 2, 3}, make([]float32, 3)
	o.Step(w, b, w, b, []float32{0.5, -0.25, 0})
	if w[0] != 0.5 || w[1] != 2.25 || w[2] != 3 {
		t.Errorf("weights %v", w)
	}
}

func BenchmarkOuter(b *testing.B) {
	const n = 1 << 14
	rng := rand.New(rand.NewPCG(1, 0))
	o := optimizer.Outer{LearningRate: 0.7, Momentum: 0.9}
	w, m, g := make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range w {
		w[i], g[i] = float32(rng.NormFloat64()), float32(rng.NormFloat64())*1e-3
	}
	newW, newM := make([]float32, n), make([]float32, n)
	for b.Loop() {
		o.Step(newW, newM, w, m, g)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/parameter")
}
