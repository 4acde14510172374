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
	"dunlin/compute/cpu/cputest"
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
	b := &bench{t: t, device: cputest.Device(t)}
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

// kinds are the optimizers of the golden sequences, by the sequence's name.
func kinds() map[string]optimizer.Config {
	return map[string]optimizer.Config{
		"adamw":        defaults,
		"sgd":          optimizer.SGDConfig{Clip: 1},
		"sgd_momentum": optimizer.SGDConfig{Momentum: 0.9, Clip: 1},
		"sgd_nesterov": optimizer.SGDConfig{Momentum: 0.9, Nesterov: true, Clip: 1},
		"rmsprop":      optimizer.RMSPropConfig{Alpha: 0.95, Eps: 1e-8, Clip: 1},
		"lamb":         optimizer.LAMBConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-6, Clip: 1},
		"adagrad":      optimizer.AdaGradConfig{Start: 0.25, Clip: 1},
		"muon":         optimizer.MuonConfig{Momentum: 0.95, Every: 1, AdamW: defaults},
	}
}

// eachKind runs a test for every optimizer.
func eachKind(t *testing.T, test func(t *testing.T, cfg optimizer.Config)) {
	t.Helper()
	for name, cfg := range kinds() {
		t.Run(name, func(t *testing.T) { test(t, cfg) })
	}
}

func TestGolden(t *testing.T) {
	all := kinds()
	all["muon_every2"] = optimizer.MuonConfig{Momentum: 0.95, Every: 2, AdamW: defaults}
	for name, cfg := range all {
		t.Run(name, func(t *testing.T) { golden(t, name, cfg) })
	}
}

func golden(t *testing.T, name string, cfg optimizer.Config) {
	t.Helper()
	var g struct {
		Clip        float64
		WeightDecay float64 `json:"weight_decay"`
		Tensors     []compute.Tensor
		Start       []float32
		Steps       []struct {
			LR, Norm float64
			Grads    []float32
			Params   []float64
		}
	}
	readGolden(t, name+".json", &g)
	b := newBench(t, g.Tensors, g.Start, cfg)
	clipped := 0
	for i, s := range g.Steps {
		norm := b.step(s.Grads, s.LR, g.WeightDecay)
		if math.Abs(norm-s.Norm) > 1e-6*s.Norm {
			t.Errorf("step %d: norm %g, the oracle has %g", i, norm, s.Norm)
		}
		if norm > g.Clip {
			clipped++
		}
		for j, x := range b.values() {
			// A step is at most a few learning rates, so this bound is a few float32
			// roundings of the parameter.
			if diff := math.Abs(float64(x) - s.Params[j]); diff > 1e-6 {
				t.Fatalf("step %d, parameter %d: %.9g, the oracle has %.9g", i, j, x, s.Params[j])
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
	eachKind(t, decayOnlyMatrices)
}

func decayOnlyMatrices(t *testing.T, cfg optimizer.Config) {
	t.Helper()
	tensors := []compute.Tensor{
		{Name: "a", Shape: []int{2}},
		{Name: "b", Shape: []int{1, 3}},
		{Name: "c", Shape: []int{2, 1, 2}},
		{Name: "d", Shape: []int{1}},
	}
	start := []float32{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	b := newBench(t, tensors, start, cfg)
	b.step(make([]float32, 10), 0.5, 0.5)
	kept := float32(0.75)
	switch cfg.Name() {
	case "lamb": // whose update is as long as the weights
		kept = 0.5
	case "adagrad": // whose rate is divided by the start of 0.25
		kept = 0
	}
	want := []float32{1, 1, kept, kept, kept, kept, kept, kept, kept, 1}
	for i, x := range b.values() {
		if math.Abs(float64(x-want[i])) > 1e-6 {
			t.Errorf("%v, want %v", b.values(), want)
			break
		}
	}
}

// mixed has every sort of tensor that optimizers tell apart.
func mixed() []compute.Tensor {
	return []compute.Tensor{
		{Name: "table", Shape: []int{6, 4}},
		{Name: "wide", Shape: []int{4, 9}},
		{Name: "gain", Shape: []int{5}},
		{Name: "tall", Shape: []int{8, 3}},
		{Name: "cube", Shape: []int{2, 2, 2}},
		{Name: "bias", Shape: []int{3}},
	}
}

// values in all of mixed's tensors.
const mixedValues = 24 + 36 + 5 + 24 + 8 + 3

func random(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = rng.Float32() - 0.5
	}
	return v
}

// TestGradScale: a sum of four equal gradients, scaled by a quarter, is one of them.
func TestGradScale(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg optimizer.Config) {
		const seed = 6
		rng := rand.New(rand.NewPCG(seed, 0))
		start := random(rng, mixedValues)
		a, b := newBench(t, mixed(), start, cfg), newBench(t, mixed(), start, cfg)
		for range 3 {
			grads := random(rng, mixedValues)
			a.step(grads, 0.1, 0.1)
			for i := range grads {
				grads[i] *= 4
			}
			b.device.Upload(b.grads, grads)
			var squares float64
			for _, g := range grads {
				squares += float64(g) * float64(g)
			}
			norm, err := b.inner.Step(0.1, 0.1, 0.25)
			if want := math.Sqrt(squares) / 4; err != nil || math.Abs(norm-want) > 1e-6*want {
				t.Errorf("seed %d: norm %g, want %g, %v", seed, norm, want, err)
			}
		}
		for i, x := range a.values() {
			if y := b.values()[i]; math.Abs(float64(x-y)) > 1e-6 {
				t.Errorf("seed %d, parameter %d: %g summed and scaled, %g plain", seed, i, y, x)
			}
		}
	})
}

func TestStepRefusesNotFinite(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg optimizer.Config) {
		b := newBench(t, []compute.Tensor{{Name: "a", Shape: []int{3, 1}}}, []float32{1, 2, 3}, cfg)
		before, err := save(b.inner)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
			b.device.Upload(b.grads, []float32{1, bad, 1})
			if _, err := b.inner.Step(0.1, 0.1, 1); !errors.Is(err, optimizer.ErrNotFinite) {
				t.Errorf("%g: error %v", bad, err)
			}
		}
		after, err := save(b.inner)
		if got := b.values(); err != nil || !slices.Equal(got, []float32{1, 2, 3}) || !sameState(before, after) {
			t.Errorf("refused steps changed the parameters to %v or the state to %v, %v", got, after, err)
		}
	})
}

// save copies an optimizer's state.
func save(inner optimizer.Inner) (optimizer.State, error) {
	s, err := inner.Save()
	for i := range s.Tensors {
		s.Tensors[i].Data = slices.Clone(s.Tensors[i].Data)
	}
	return s, err
}

func sameState(a, b optimizer.State) bool {
	return a.Steps == b.Steps && slices.EqualFunc(a.Tensors, b.Tensors, func(x, y compute.Tensor) bool {
		return x.Name == y.Name && slices.Equal(x.Shape, y.Shape) && slices.Equal(x.Data, y.Data)
	})
}

// TestSaveLoad: stopped and resumed is bit for bit the same as not stopped.
func TestSaveLoad(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg optimizer.Config) {
		const seed = 5
		rng := rand.New(rand.NewPCG(seed, 0))
		start := random(rng, mixedValues)
		whole := newBench(t, mixed(), start, cfg)
		first := newBench(t, mixed(), start, cfg)
		var grads [][]float32
		for range 6 {
			grads = append(grads, random(rng, mixedValues))
		}
		for _, g := range grads {
			whole.step(g, 1e-2, 0.1)
		}
		for _, g := range grads[:3] {
			first.step(g, 1e-2, 0.1)
		}
		state, err := save(first.inner)
		if err != nil {
			t.Fatal(err)
		}
		for _, tensor := range state.Tensors {
			if err := tensor.Validate(); err != nil {
				t.Error(err)
			}
		}
		slices.Reverse(state.Tensors)
		second := newBench(t, mixed(), first.values(), cfg)
		if err := second.inner.Load(state); err != nil {
			t.Fatal(err)
		}
		for _, g := range grads[3:] {
			second.step(g, 1e-2, 0.1)
		}
		if second.inner.Steps() != 6 || !slices.Equal(whole.values(), second.values()) {
			t.Errorf("seed %d: resumed differs from not stopped", seed)
		}
	})
}

func TestLoadRefuses(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg optimizer.Config) {
		b := newBench(t, mixed(), make([]float32, mixedValues), cfg)
		good, err := save(b.inner)
		if err != nil {
			t.Fatal(err)
		}
		changes := map[string]func(*optimizer.State){
			"twice":          func(s *optimizer.State) { s.Tensors = []compute.Tensor{{Name: "x"}, {Name: "x"}} },
			"negative steps": func(s *optimizer.State) { s.Steps = -1 },
		}
		if len(good.Tensors) > 0 {
			changes["missing"] = func(s *optimizer.State) { s.Tensors = s.Tensors[1:] }
			changes["wrong length"] = func(s *optimizer.State) { s.Tensors[0].Data = s.Tensors[0].Data[1:] }
		}
		if cfg.Name() == "adagrad" {
			changes["no sum"] = func(s *optimizer.State) { s.Tensors[0].Data = []float32{0, 0} }
			changes["not a number"] = func(s *optimizer.State) { s.Tensors[0].Data = []float32{float32(math.NaN()), 0} }
		}
		for name, change := range changes {
			s := optimizer.State{Steps: good.Steps, Tensors: slices.Clone(good.Tensors)}
			change(&s)
			if err := b.inner.Load(s); !errors.Is(err, optimizer.ErrState) {
				t.Errorf("%s: error %v", name, err)
			}
		}
		if after, err := b.inner.Save(); err != nil || !sameState(good, after) {
			t.Errorf("refused states changed it to %v, %v", after, err)
		}
	})
}

func TestNewRefusesTensorsThatDoNotFill(t *testing.T) {
	d := cputest.Device(t)
	buf, err := d.Alloc(4)
	if err != nil {
		t.Fatal(err)
	}
	target := optimizer.Target{Device: d, Params: buf, Grads: buf, Tensors: []compute.Tensor{{Name: "a", Shape: []int{5}}}}
	eachKind(t, func(t *testing.T, cfg optimizer.Config) {
		if _, err := optimizer.New(target, cfg); err == nil || !strings.Contains(err.Error(), "5 values") {
			t.Errorf("error %v", err)
		}
	})
}

// TestConfigsRefuse: every field of every kind refuses what is out of its range.
func TestConfigsRefuse(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, cfg := range map[string]optimizer.Config{
		"adamw beta1":      optimizer.AdamWConfig{Beta1: 1, Beta2: 0.9, Eps: 1},
		"adamw beta2":      optimizer.AdamWConfig{Beta2: nan, Eps: 1},
		"adamw eps":        optimizer.AdamWConfig{},
		"adamw clip":       optimizer.AdamWConfig{Eps: 1, Clip: inf},
		"muon momentum":    optimizer.MuonConfig{Momentum: 1, AdamW: defaults},
		"muon eps":         optimizer.MuonConfig{Momentum: 0.9},
		"muon clip":        optimizer.MuonConfig{AdamW: optimizer.AdamWConfig{Eps: 1, Clip: -1}},
		"lamb beta1":       optimizer.LAMBConfig{Beta1: -0.1, Eps: 1},
		"lamb beta2":       optimizer.LAMBConfig{Beta2: 1, Eps: 1},
		"lamb eps":         optimizer.LAMBConfig{Eps: inf},
		"lamb clip":        optimizer.LAMBConfig{Eps: 1, Clip: nan},
		"sgd momentum":     optimizer.SGDConfig{Momentum: 1},
		"sgd nesterov":     optimizer.SGDConfig{Nesterov: true},
		"sgd clip":         optimizer.SGDConfig{Clip: -1},
		"rmsprop alpha":    optimizer.RMSPropConfig{Alpha: 1, Eps: 1},
		"rmsprop eps":      optimizer.RMSPropConfig{Alpha: 0.9},
		"rmsprop clip":     optimizer.RMSPropConfig{Eps: 1, Clip: inf},
		"adagrad start":    optimizer.AdaGradConfig{},
		"adagrad clip":     optimizer.AdaGradConfig{Start: 1, Clip: -1},
		"adagrad infinity": optimizer.AdaGradConfig{Start: inf},
	} {
		kind, field, _ := strings.Cut(name, " ")
		if field == "infinity" {
			field = "start"
		}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), kind) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := optimizer.New(optimizer.Target{}, cfg); err == nil {
			t.Errorf("%s: made an optimizer", name)
		}
	}
	for name, cfg := range kinds() {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRateFactor(t *testing.T) {
	for name, want := range map[string]float64{"adamw": 2, "muon": 2, "lamb": 2, "rmsprop": 2, "sgd": 4, "adagrad": 1} {
		if got := kinds()[name].RateFactor(4); got != want {
			t.Errorf("%s: four times the batch takes %g times the rate, want %g", name, got, want)
		}
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	tensors := []compute.Tensor{{Name: "table", Shape: []int{32, 64}}, {Name: "w", Shape: []int{64, 48}}, {Name: "v", Shape: []int{48, 64}}, {Name: "b", Shape: []int{64}}}
	eachKind(t, func(t *testing.T, cfg optimizer.Config) {
		b := newBench(t, tensors, make([]float32, 3*2048+2048+64), cfg)
		b.device.Upload(b.grads, random(rand.New(rand.NewPCG(1, 0)), b.grads.Len()))
		n := testing.AllocsPerRun(10, func() {
			if _, err := b.inner.Step(1e-3, 0.1, 1); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations a step", n)
		}
	})
}
