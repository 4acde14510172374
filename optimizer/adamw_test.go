package optimizer_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/optimizer"
)

func readGolden(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func newDevice(t *testing.T) compute.Device {
	t.Helper()
	d, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// bench is an optimizer with its buffers.
type bench struct {
	t             *testing.T
	device        compute.Device
	params, grads compute.Buffer
	target        optimizer.Target
	inner         optimizer.Inner
}

var defaults = optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1}

func newBench(t *testing.T, tensors []compute.Tensor, start []float32, cfg optimizer.Config) *bench {
	t.Helper()
	b := &bench{t: t, device: newDevice(t)}
	for _, buf := range []*compute.Buffer{&b.params, &b.grads} {
		var err error
		if *buf, err = b.device.Alloc(len(start)); err != nil {
			t.Fatal(err)
		}
	}
	b.device.Upload(b.params, start)
	var err error
	b.target = optimizer.Target{Device: b.device, Params: b.params, Grads: b.grads, Tensors: tensors, Lookups: []string{"table"}}
	if b.inner, err = optimizer.New(b.target, cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) step(grads []float32, lr, decay float64) float64 {
	b.t.Helper()
	b.device.Upload(b.grads, grads)
	norm, err := b.inner.Step(lr, decay, 1)
	if err != nil {
		b.t.Fatal(err)
	}
	return norm
}

func (b *bench) values() []float32 {
	b.t.Helper()
	out := make([]float32, b.params.Len())
	if err := b.device.Download(out, b.params); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func TestAdamWGolden(t *testing.T) {
	var g struct {
		Beta1, Beta2, Eps, Clip float64
		WeightDecay             float64 `json:"weight_decay"`
		Tensors                 []compute.Tensor
		Start                   []float32
		Steps                   []struct {
			LR, Norm float64
			Grads    []float32
			Params   []float64
		}
	}
	readGolden(t, "adamw.json", &g)
	b := newBench(t, g.Tensors, g.Start, optimizer.AdamWConfig{Beta1: g.Beta1, Beta2: g.Beta2, Eps: g.Eps, Clip: g.Clip})
	clipped := 0
	for i, s := range g.Steps {
		norm := b.step(s.Grads, s.LR, g.WeightDecay)
		if math.Abs(norm-s.Norm) > 1e-6*s.Norm {
			t.Errorf("step %d: norm %g, PyTorch has %g", i, norm, s.Norm)
		}
		if norm > g.Clip {
			clipped++
		}
		for j, x := range b.values() {
			// A step is at most a few learning rates, so this bound is a few float32
			// roundings of the parameter.
			if diff := math.Abs(float64(x) - s.Params[j]); diff > 1e-6 {
				t.Fatalf("step %d, parameter %d: %.9g, PyTorch has %.9g", i, j, x, s.Params[j])
			}
		}
	}
	if clipped == 0 || clipped == len(g.Steps) {
		t.Errorf("%d of %d steps were clipped: the golden sequence must have both", clipped, len(g.Steps))
	}
}

// TestDecayOnlyMatrices: with zero gradients only tensors of two and more
// dimensions shrink.
func TestDecayOnlyMatrices(t *testing.T) {
	tensors := []compute.Tensor{
		{Name: "a", Shape: []int{2}},
		{Name: "b", Shape: []int{1, 3}},
		{Name: "c", Shape: []int{2, 1, 2}},
		{Name: "d", Shape: []int{1}},
	}
	start := []float32{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	b := newBench(t, tensors, start, defaults)
	b.step(make([]float32, 10), 0.5, 0.5)
	want := []float32{1, 1, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 1}
	if got := b.values(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

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

func TestGradScale(t *testing.T) {
	shape := []compute.Tensor{{Name: "a", Shape: []int{3}}}
	cfg := defaults
	cfg.Eps = 0.1 // so that the size of a gradient matters
	a, b := newBench(t, shape, []float32{1, 2, 3}, cfg), newBench(t, shape, []float32{1, 2, 3}, cfg)
	a.step([]float32{0.1, 0.2, -0.3}, 0.1, 0)
	b.device.Upload(b.grads, []float32{0.4, 0.8, -1.2})
	norm, err := b.inner.Step(0.1, 0, 0.25)
	if err != nil || math.Abs(norm-math.Sqrt(0.14)) > 1e-6 {
		t.Errorf("norm %g, %v", norm, err)
	}
	for i, x := range a.values() {
		if y := b.values()[i]; math.Abs(float64(x-y)) > 1e-6 {
			t.Errorf("parameter %d: %g summed and scaled, %g plain", i, y, x)
		}
	}
}

func TestStepRefusesNotFinite(t *testing.T) {
	b := newBench(t, []compute.Tensor{{Name: "a", Shape: []int{3}}}, []float32{1, 2, 3}, defaults)
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		b.device.Upload(b.grads, []float32{1, bad, 1})
		if _, err := b.inner.Step(0.1, 0.1, 1); !errors.Is(err, optimizer.ErrNotFinite) {
			t.Errorf("%g: error %v", bad, err)
		}
	}
	if got := b.values(); !slices.Equal(got, []float32{1, 2, 3}) || b.inner.Steps() != 0 {
		t.Errorf("refused steps changed the parameters to %v, %d steps", got, b.inner.Steps())
	}
}

// TestSaveLoad: stopped and resumed is bit for bit the same as not stopped.
func TestSaveLoad(t *testing.T) {
	const seed = 5
	rng := rand.New(rand.NewPCG(seed, 0))
	tensors := []compute.Tensor{{Name: "a", Shape: []int{4, 8}}, {Name: "b", Shape: []int{9}}}
	random := func() []float32 {
		v := make([]float32, 41)
		for i := range v {
			v[i] = rng.Float32() - 0.5
		}
		return v
	}
	start := random()
	whole := newBench(t, tensors, start, defaults)
	first := newBench(t, tensors, start, defaults)
	var grads [][]float32
	for range 6 {
		grads = append(grads, random())
	}
	for _, g := range grads {
		whole.step(g, 1e-2, 0.1)
	}
	for _, g := range grads[:3] {
		first.step(g, 1e-2, 0.1)
	}
	state, err := first.inner.Save()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(state.Tensors)
	second := newBench(t, tensors, first.values(), defaults)
	if err := second.inner.Load(state); err != nil {
		t.Fatal(err)
	}
	for _, g := range grads[3:] {
		second.step(g, 1e-2, 0.1)
	}
	if second.inner.Steps() != 6 || !slices.Equal(whole.values(), second.values()) {
		t.Errorf("seed %d: resumed differs from not stopped", seed)
	}
}

func TestLoadRefuses(t *testing.T) {
	tensors := []compute.Tensor{{Name: "a", Shape: []int{4}}}
	b := newBench(t, tensors, make([]float32, 4), defaults)
	good, err := b.inner.Save()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*optimizer.State){
		"missing":        func(s *optimizer.State) { s.Tensors = s.Tensors[:1] },
		"wrong length":   func(s *optimizer.State) { s.Tensors[1].Data = s.Tensors[1].Data[1:] },
		"twice":          func(s *optimizer.State) { s.Tensors = append(s.Tensors, s.Tensors[0]) },
		"negative steps": func(s *optimizer.State) { s.Steps = -1 },
	} {
		s := optimizer.State{Steps: good.Steps, Tensors: slices.Clone(good.Tensors)}
		change(&s)
		if err := b.inner.Load(s); !errors.Is(err, optimizer.ErrState) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestAdamWRefuses(t *testing.T) {
	d := newDevice(t)
	buf, err := d.Alloc(4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := optimizer.New(optimizer.Target{Device: d, Params: buf, Grads: buf, Tensors: []compute.Tensor{{Name: "a", Shape: []int{5}}}}, defaults); err == nil || !strings.Contains(err.Error(), "5 values") {
		t.Errorf("tensors that do not fill the buffer: %v", err)
	}
	for name, change := range map[string]func(*optimizer.AdamWConfig){
		"beta1": func(c *optimizer.AdamWConfig) { c.Beta1 = 1 },
		"beta2": func(c *optimizer.AdamWConfig) { c.Beta2 = math.NaN() },
		"eps":   func(c *optimizer.AdamWConfig) { c.Eps = 0 },
		"clip":  func(c *optimizer.AdamWConfig) { c.Clip = math.Inf(1) },
	} {
		cfg := defaults
		change(&cfg)
		if cfg.Validate() == nil {
			t.Errorf("%s: accepted %+v", name, cfg)
		}
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	b := newBench(t, []compute.Tensor{{Name: "a", Shape: []int{32, 64}}}, make([]float32, 2048), defaults)
	n := testing.AllocsPerRun(10, func() {
		if _, err := b.inner.Step(1e-3, 0.1, 1); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a step", n)
	}
}
