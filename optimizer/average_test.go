package optimizer_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/compute"
	"dunlin/optimizer"
)

// newAverage makes an average over a bench's parameters.
func newAverage(t *testing.T, b *bench, cfg optimizer.AverageConfig) *optimizer.Average {
	t.Helper()
	a, err := optimizer.NewAverage(b.target, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// averaged reads an average through the weights, as an evaluation does.
func averaged(b *bench, a *optimizer.Average) []float32 {
	a.Swap()
	defer a.Swap()
	return b.values()
}

// walk is a bench whose weights change at random, and the weights so far.
type walk struct {
	*bench
	rng *rand.Rand
}

func newWalk(t *testing.T, seed uint64) *walk {
	t.Helper()
	return &walk{newBench(t, mixed(), make([]float32, mixedValues), defaults), rand.New(rand.NewPCG(seed, 0))}
}

func (w *walk) move() []float32 {
	v := random(w.rng, mixedValues)
	w.device.Upload(w.params, v)
	return v
}

// TestAverageIsWeightedMean compares with the definition: weights after each step
// count by what later steps leave of them, and counts sum to 1.
func TestAverageIsWeightedMean(t *testing.T) {
	const seed, decay, reference = 31, 0.9, 8
	w := newWalk(t, seed)
	a := newAverage(t, w.bench, optimizer.AverageConfig{Decay: decay, Windows: reference})
	sum, count := make([]float64, mixedValues), 0.0
	for step, windows := range []int{8, 16, 3, 8, 1, 40} {
		v := w.move()
		a.Add(windows)
		left := math.Pow(decay, float64(windows)/reference)
		count = left*count + 1 - left
		for i := range sum {
			sum[i] = left*sum[i] + (1-left)*float64(v[i])
		}
		for i, x := range averaged(w.bench, a) {
			if math.Abs(float64(x)-sum[i]/count) > 1e-6 {
				t.Fatalf("seed %d, step %d, value %d: %g, want %g", seed, step, i, x, sum[i]/count)
			}
		}
		if !slices.Equal(w.values(), v) {
			t.Fatal("swapping twice changes the weights")
		}
	}
	if a.Windows() != 76 {
		t.Errorf("averaged over %d windows, want 76", a.Windows())
	}
}

// TestAverageFollowsData: one step on four times the batch weighs as much as four
// steps that end at the same weights.
func TestAverageFollowsData(t *testing.T) {
	const seed = 32
	small, large := newWalk(t, seed), newWalk(t, seed)
	cfg := optimizer.AverageConfig{Decay: 0.99, Windows: 2}
	a, b := newAverage(t, small.bench, cfg), newAverage(t, large.bench, cfg)
	for range 5 {
		small.move()
		large.move()
		for range 4 {
			a.Add(2)
		}
		b.Add(8)
	}
	for i, x := range averaged(small.bench, a) {
		if y := averaged(large.bench, b)[i]; math.Abs(float64(x-y)) > 1e-6 {
			t.Fatalf("seed %d, value %d: %g in small steps, %g in large ones", seed, i, x, y)
		}
	}
}

func TestAverageGoesOn(t *testing.T) {
	const seed = 33
	cfg := optimizer.AverageConfig{Decay: 0.9, Windows: 4}
	w := newWalk(t, seed)
	a := newAverage(t, w.bench, cfg)
	for range 3 {
		w.move()
		a.Add(4)
	}
	state, err := a.Save()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(state.Tensors)
	again := newAverage(t, w.bench, cfg)
	if err := again.Load(state); err != nil {
		t.Fatal(err)
	}
	w.move()
	a.Add(4)
	again.Add(4)
	if !slices.Equal(averaged(w.bench, a), averaged(w.bench, again)) || again.Windows() != a.Windows() {
		t.Errorf("seed %d: loaded, it goes on with other bits", seed)
	}
	state, err = a.Save()
	if err != nil {
		t.Fatal(err)
	}
	found := optimizer.Averaged(append(state.Tensors, compute.Tensor{Name: "adamw.m.gain"}))
	if len(found) != len(mixed()) || found[2].Name != "gain" || !slices.Equal(found[2].Data, state.Tensors[2].Data) {
		t.Errorf("found %v", found)
	}
	if len(optimizer.Averaged([]compute.Tensor{{Name: "adamw.m.gain"}})) != 0 {
		t.Error("found an average where there is none")
	}
	state.Tensors = state.Tensors[1:]
	before := averaged(w.bench, a)
	if err := a.Load(state); !errors.Is(err, optimizer.ErrState) || !slices.Equal(before, averaged(w.bench, a)) {
		t.Errorf("a state that lacks a tensor: %v", err)
	}
}

func TestAverageAllocatesNothing(t *testing.T) {
	w := newWalk(t, 34)
	a := newAverage(t, w.bench, optimizer.AverageConfig{Decay: 0.9, Windows: 4})
	defer a.Close()
	w.move()
	if n := testing.AllocsPerRun(10, func() { a.Add(4); a.Swap() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAverageConfigRefuses(t *testing.T) {
	for name, cfg := range map[string]optimizer.AverageConfig{
		"no decay":   {Windows: 1},
		"no memory":  {Decay: 1, Windows: 1},
		"not a mean": {Decay: math.NaN(), Windows: 1},
		"no batch":   {Decay: 0.9},
	} {
		if cfg.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := optimizer.NewAverage(optimizer.Target{}, cfg); err == nil {
			t.Errorf("%s: made an average", name)
		}
	}
}
