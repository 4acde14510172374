package model

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dunlin/compute"
	"dunlin/compute/cpu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParamsFillTheBuffer(t *testing.T) {
	for _, name := range Presets() {
		cfg, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		seen := map[string]bool{}
		for _, p := range cfg.Params() {
			n, err := compute.Elements(p.Shape)
			if err != nil || n != p.Size || p.Offset != at || seen[p.Name] {
				t.Errorf("%s: parameter %+v at %d: %v", name, p, at, err)
			}
			if (p.Init == InitNormal) != (len(p.Shape) == 2) || (p.Init == InitNormal) != (p.Std > 0) {
				t.Errorf("%s: %s starts as %d with std %v", name, p.Name, p.Init, p.Std)
			}
			seen[p.Name] = true
			at += n
		}
		if at != cfg.Parameters() {
			t.Errorf("%s: parameters have %d values, Parameters says %d", name, at, cfg.Parameters())
		}
	}
	for name, want := range map[string]int{"gpt2": 124439808, "gpt2-xl": 1557611200, "llama-1b": 1100048384} {
		if cfg, _ := Preset(name); cfg.Parameters() != want {
			t.Errorf("%s has %d parameters, the original %d", name, cfg.Parameters(), want)
		}
	}
	// Every weight of a Llama with its own head is multiplied with but the
	// embedding's and the norms'.
	if cfg, _ := Preset("llama-124m"); cfg.FLOPPerToken(0) != 6*float64(cfg.Parameters()-cfg.Vocab*cfg.Width-(2*cfg.Layers+1)*cfg.Width) {
		t.Errorf("llama-124m of %d parameters takes %v FLOP a token", cfg.Parameters(), cfg.FLOPPerToken(0))
	}
	// The reference's table: 5.3 and 67.8 MFLOP a token.
	if cfg, _ := Preset("nano"); math.Abs(cfg.FLOPPerToken(128)/1e6-5.3) > 0.05 {
		t.Errorf("nano takes %v FLOP a token", cfg.FLOPPerToken(128))
	}
}

func TestInitIsRepeatable(t *testing.T) { each(t, initIsRepeatable) }

func initIsRepeatable(t *testing.T, cfg Config) {
	a, b := newModel(t, cfg, 1, 1), newModel(t, cfg, 2, 2)
	a.Init(9)
	b.Init(9)
	first, err := a.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	for i := range first {
		if !slices.Equal(first[i].Data, second[i].Data) {
			t.Errorf("%s differs between two models of one seed", first[i].Name)
		}
	}
	norm := slices.IndexFunc(first, func(t compute.Tensor) bool {
		return strings.HasSuffix(t.Name, ".ln_1.weight") || strings.HasSuffix(t.Name, ".input_layernorm.weight")
	})
	if slices.Min(first[norm].Data) != 1 || slices.Max(first[norm].Data) != 1 {
		t.Errorf("norm starts as %v", first[norm])
	}
}

func TestBadBatches(t *testing.T) {
	m := newModel(t, tiny, 2, 1)
	m.Init(1)
	ok := []int32{1, 2, 3, 4}
	for name, c := range map[string]struct {
		tokens, targets []int32
		batch           int
		says            string
	}{
		"no window":       {ok, ok, 0, "0 windows"},
		"too many":        {ok, ok, 3, "3 windows"},
		"nothing":         {nil, nil, 1, "0 tokens"},
		"uneven":          {ok[:3], ok[:3], 2, "same number"},
		"too long":        {make([]int32, 7), make([]int32, 7), 1, "1 to 6"},
		"negative":        {[]int32{-1}, []int32{0}, 1, "token -1 at place 0"},
		"beyond":          {[]int32{0, 11}, []int32{0, 0}, 1, "token 11 at place 1"},
		"target beyond":   {[]int32{0}, []int32{11}, 1, "target 11"},
		"missing targets": {ok, ok[:2], 1, "2 targets"},
	} {
		if _, err := m.Loss(c.tokens, c.targets, c.batch); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: Loss says %v, want %q", name, err, c.says)
		}
		if _, err := m.ForwardBackward(c.tokens, c.targets, c.batch); err == nil {
			t.Errorf("%s: ForwardBackward accepted", name)
		}
	}
	if err := m.Logits(make([]float32, 3), ok, 1); err == nil {
		t.Error("Logits into 3 values accepted")
	}
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if _, err := New(tiny, dev, 0); err == nil {
		t.Error("New with batch 0 accepted")
	}
	if _, err := New(Config{}, dev, 1); err == nil {
		t.Error("New with an empty config accepted")
	}
}

func TestDamagedParametersAreReported(t *testing.T) {
	m := newModel(t, tiny, 1, 1)
	tensors := disturb(t, m, 1)
	tensors[0].Data[0] = float32(math.NaN())
	if err := m.Load(tensors); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Loss([]int32{0}, []int32{1}, 1); !errors.Is(err, ErrNotFinite) {
		t.Errorf("loss with a NaN parameter: %v", err)
	}
	err := m.Generate(context.Background(), []int32{0}, 1, Sampling{}, func(int32) bool { return true })
	if !errors.Is(err, ErrNotFinite) {
		t.Errorf("generation with a NaN parameter: %v", err)
	}
}

func TestLoad(t *testing.T) {
	m, other := newModel(t, tiny, 1, 1), newModel(t, tiny, 1, 1)
	tensors := disturb(t, m, 4)
	slices.Reverse(tensors)
	tensors = append(tensors, compute.Tensor{Name: "lm_head.weight", Shape: []int{1}, Data: make([]float32, 1)})
	if err := other.Load(tensors); err != nil {
		t.Fatal(err)
	}
	tokens := []int32{1, 2, 3}
	a, err := m.Loss(tokens, tokens, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := other.Loss(tokens, tokens, 1)
	if err != nil || a != b {
		t.Errorf("loaded model has loss %v (%v), the first %v", b, err, a)
	}
	missing := tensors[1:]
	twice := append(slices.Clone(tensors), tensors[0])
	extra := append(slices.Clone(tensors), compute.Tensor{Name: "x", Shape: []int{1}, Data: make([]float32, 1)})
	bent := slices.Clone(tensors)
	bent[0].Shape = []int{2, 4}
	for says, bad := range map[string][]compute.Tensor{"missing": missing, "twice": twice, "unknown": extra, "shape": bent} {
		if err := other.Load(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("load: %v, want %q", err, says)
		}
	}
}

// TestLoadStaysInTheSubspace: weights from elsewhere would make another function in stages than on one machine.
func TestLoadStaysInTheSubspace(t *testing.T) {
	cfg := tinyShapes()["llama in a subspace"]
	m := newModel(t, cfg, 1, 1)
	tensors := disturb(t, m, 4)
	i := slices.IndexFunc(tensors, func(t compute.Tensor) bool { return strings.HasSuffix(t.Name, ".0.mlp.down_proj.weight") })
	tensors[i].Data[cfg.Subspace*cfg.Hidden] = 0.5
	if err := m.Load(tensors); err == nil || !strings.Contains(err.Error(), "outside of the model's subspace") {
		t.Errorf("a weight outside of the subspace: %v", err)
	}
}

// TestGradientsAdd checks that two batches add up and equal the mean of both.
func TestGradientsAdd(t *testing.T) { each(t, gradientsAdd) }

func gradientsAdd(t *testing.T, cfg Config) {
	m := newModel(t, cfg, 2, 1)
	disturb(t, m, 6)
	rng := rand.New(rand.NewPCG(6, 3))
	tokens, targets := randomTokens(rng, 12, cfg.Vocab), randomTokens(rng, 12, cfg.Vocab)
	step := func(from, to, batch int) {
		t.Helper()
		if _, err := m.ForwardBackward(tokens[from:to], targets[from:to], batch); err != nil {
			t.Fatal(err)
		}
	}
	m.ZeroGrad()
	step(0, 12, 2)
	whole, err := m.GradTensors()
	if err != nil {
		t.Fatal(err)
	}
	m.ZeroGrad()
	step(0, 6, 1)
	step(6, 12, 1)
	parts, err := m.GradTensors()
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for j := range whole[i].Data {
			if d := math.Abs(float64(whole[i].Data[j] - parts[i].Data[j]/2)); d > 2e-6 {
				t.Fatalf("%s[%d]: %v from both windows at once, %v from one after the other", whole[i].Name, j, whole[i].Data[j], parts[i].Data[j]/2)
			}
		}
	}
}

// TestHeadInChunks compares a head that takes a row at a time with one that
// takes all.
func TestHeadInChunks(t *testing.T) { each(t, headInChunks) }

func headInChunks(t *testing.T, cfg Config) {
	whole, chunked := newModel(t, cfg, 2, 1), newModel(t, cfg, 2, 1)
	disturb(t, whole, 8)
	disturb(t, chunked, 8)
	chunked.act.chunk = 5
	rng := rand.New(rand.NewPCG(8, 3))
	tokens, targets := randomTokens(rng, 12, cfg.Vocab), randomTokens(rng, 12, cfg.Vocab)
	a, err := whole.ForwardBackward(tokens, targets, 2)
	if err != nil {
		t.Fatal(err)
	}
	b, err := chunked.ForwardBackward(tokens, targets, 2)
	if err != nil || math.Abs(float64(a-b)) > 1e-6 {
		t.Errorf("loss %v in chunks (%v), %v at once", b, err, a)
	}
	x, errX := whole.GradTensors()
	y, errY := chunked.GradTensors()
	if errX != nil || errY != nil {
		t.Fatal(errX, errY)
	}
	for i := range x {
		for j := range x[i].Data {
			if math.Abs(float64(x[i].Data[j]-y[i].Data[j])) > 2e-6 {
				t.Fatalf("%s[%d]: %v at once, %v in chunks", x[i].Name, j, x[i].Data[j], y[i].Data[j])
			}
		}
	}
}

func TestStepDoesNotAllocate(t *testing.T) { eachPico(t, stepDoesNotAllocate) }

// eachPico runs a test for the smallest preset of each family.
func eachPico(t *testing.T, test func(t *testing.T, cfg Config)) {
	for _, name := range []string{"pico", "pico-llama"} {
		cfg, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { test(t, cfg) })
	}
}

func stepDoesNotAllocate(t *testing.T, cfg Config) {
	m := newModel(t, cfg, 2, 2)
	m.Init(1)
	tokens := randomTokens(rand.New(rand.NewPCG(1, 1)), 2*cfg.Context, cfg.Vocab)
	step := func() {
		m.ZeroGrad()
		if _, err := m.ForwardBackward(tokens, tokens, 2); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(5, step); n != 0 {
		t.Errorf("a step allocates %v times", n)
	}
}

// repeated is a text that a tiny model learns by heart.
const repeated = "the dunlin probes the mud for worms; the tide turns, the flock turns. "

type textWindows struct {
	text   string
	length int
}

func (w textWindows) Length() int { return w.length }

func (w textWindows) Batch(inputs, targets []int32, indices ...int) error {
	for k, i := range indices {
		for j := range w.length {
			inputs[k*w.length+j] = int32(w.text[(i*7+j)%len(w.text)])
			targets[k*w.length+j] = int32(w.text[(i*7+j+1)%len(w.text)])
		}
	}
	return nil
}

// TestTrainingLearns trains pico for 60 steps on a repeated text, then has it
// recite.
func TestTrainingLearns(t *testing.T) { eachPico(t, trainingLearns) }

func trainingLearns(t *testing.T, cfg Config) {
	const batch, steps = 4, 60
	m := newModel(t, cfg, batch, 2)
	m.Init(1)
	moments, err := m.dev.Alloc(2 * cfg.Parameters())
	if err != nil {
		t.Fatal(err)
	}
	n := cfg.Parameters()
	windows := textWindows{repeated, cfg.Context}
	all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	before, err := m.Evaluate(context.Background(), windows, all)
	if err != nil {
		t.Fatal(err)
	}
	tokens, targets := make([]int32, batch*cfg.Context), make([]int32, batch*cfg.Context)
	for step := 1; step <= steps; step++ {
		if err := windows.Batch(tokens, targets, step, step+3, step+5, step+11); err != nil {
			t.Fatal(err)
		}
		m.ZeroGrad()
		if _, err := m.ForwardBackward(tokens, targets, batch); err != nil {
			t.Fatal(err)
		}
		m.dev.AdamW(compute.AdamW{
			Params: m.Params(), Grads: m.Grads(), M: moments.Slice(0, n), V: moments.Slice(n, 2*n),
			LR: 4e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, GradScale: 1, Step: step,
		})
	}
	after, err := m.Evaluate(context.Background(), windows, all)
	if err != nil {
		t.Fatal(err)
	}
	if before < 4 || after > 0.5 {
		t.Errorf("loss went from %.3f to %.3f nats a token", before, after)
	}
	var said strings.Builder
	prompt := []int32{'t', 'h', 'e', ' ', 'd', 'u', 'n', 'l'}
	err = m.Generate(context.Background(), prompt, 20, Sampling{}, func(token int32) bool {
		said.WriteByte(byte(token))
		return true
	})
	if err != nil || !strings.HasPrefix(repeated[len(prompt):], said.String()) {
		t.Errorf("after %q it says %q (%v)", repeated[:len(prompt)], said.String(), err)
	}
}

func TestEvaluateMistakes(t *testing.T) {
	m := newModel(t, tiny, 2, 1)
	m.Init(1)
	stopped, stop := context.WithCancel(context.Background())
	stop()
	if _, err := m.Evaluate(stopped, textWindows{"abc", 3}, []int{0}); !errors.Is(err, context.Canceled) {
		t.Errorf("evaluate after cancel: %v", err)
	}
	if _, err := m.Evaluate(context.Background(), textWindows{"abc", 3}, nil); err == nil {
		t.Error("evaluate of no windows accepted")
	}
	if _, err := m.Evaluate(context.Background(), textWindows{"abc", 7}, []int{0}); err == nil {
		t.Error("evaluate of windows longer than the context accepted")
	}
	if _, err := m.Evaluate(context.Background(), textWindows{"abc", 3}, []int{0}); err == nil {
		t.Error("evaluate of tokens outside of the vocabulary accepted")
	}
}
