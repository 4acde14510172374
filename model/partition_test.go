package model

import (
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu/cputest"
	"dunlin/optimizer"
)

// shapes that are cut into stages.
func untied() []Config {
	gpt2 := Config{Layers: 5, Heads: 2, Width: 16, Context: 8, Vocab: 32, Untied: true}
	llama := Config{Family: Llama, Layers: 4, Heads: 4, KVHeads: 2, Width: 16, Hidden: 24, Context: 8, Vocab: 32, RopeTheta: 10000, NormEps: 1e-5, Untied: true}
	narrow, narrowLlama := gpt2, llama
	narrow.Subspace, narrowLlama.Subspace = 4, 6
	return []Config{gpt2, llama, narrow, narrowLlama}
}

// parts cuts a model's blocks into n parts.
func parts(c Config, n int) []Part {
	var out []Part
	for i := range n {
		out = append(out, Part{c.Layers * i / n, c.Layers * (i + 1) / n})
	}
	return out
}

func TestPartsAreTheModel(t *testing.T) {
	for _, cfg := range untied() {
		for n := 1; n <= cfg.Layers; n++ {
			var names []string
			for _, p := range parts(cfg, n) {
				if err := p.Validate(cfg); err != nil {
					t.Fatal(err)
				}
				for _, param := range cfg.PartParams(p) {
					names = append(names, param.Name)
				}
			}
			var whole []string
			for _, p := range cfg.Params() {
				whole = append(whole, p.Name)
			}
			if !slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(whole))) {
				t.Errorf("%v in %d parts: %v", cfg, n, names)
			}
		}
	}
	for _, c := range untied() {
		sum := 0
		for _, p := range parts(c, c.Layers) {
			sum += p.Products(c)
		}
		if whole := c.Whole().Products(c); sum != whole || whole <= 0 {
			t.Errorf("%v: parts cost %d, the whole %d", c, sum, whole)
		}
	}
	tied := untied()[0]
	tied.Untied = false
	for _, p := range []Part{{0, 2}, {-1, 2}, {3, 6}, {2, 2}} {
		if p.Validate(tied) == nil {
			t.Errorf("part %v of a tied model is allowed", p)
		}
	}
}

// pipe is a model cut into stages, all in one process.
type pipe struct {
	stages []*Stage
	inner  []optimizer.Inner
	code   *Code // nil without a subspace
}

// cross sends what lies between two stages through the values that pass; without tokens it is a gradient.
func (p *pipe) cross(stream []float32, tokens []int32) []float32 {
	if p.code == nil {
		return stream
	}
	passed, out := make([]float32, len(stream)/p.code.width*p.code.subspace), make([]float32, len(stream))
	p.code.Narrow(passed, stream)
	p.code.Widen(out, passed, tokens)
	return out
}

// steps makes an optimizer of a model or a part.
func steps(t *testing.T, dev compute.Device, values, grads compute.Buffer, params []Param) optimizer.Inner {
	t.Helper()
	target := optimizer.Target{Device: dev, Params: values, Grads: grads, Tensors: shapesOf(params)}
	for _, p := range params {
		if p.Init == InitRows {
			target.Lasting = append(target.Lasting, p.Name)
		}
	}
	inner, err := optimizer.New(target, adam())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inner.Close)
	return inner
}

func newPipe(t *testing.T, cfg Config, n int, room Room, seed uint64) *pipe {
	t.Helper()
	p := &pipe{}
	if cfg.Subspace > 0 {
		p.code = NewCode(cfg, seed, compute.InitScale(float64(cfg.Params()[0].Std)))
	}
	for _, part := range parts(cfg, n) {
		dev := cputest.Device(t)
		s, err := NewStage(part, room, cfg, dev)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		for _, param := range cfg.PartParams(part) {
			param.Fill(param.span(s.Params()).Host, seed)
		}
		p.stages, p.inner = append(p.stages, s), append(p.inner, steps(t, dev, s.Params(), s.Grads(), cfg.PartParams(part)))
	}
	return p
}

func adam() optimizer.Config {
	return optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 0.3}
}

// pass walks one micro-batch through the stages and back.
func (p *pipe) pass(t *testing.T, cfg Config, tokens, targets []int32, windows int) float32 {
	t.Helper()
	inputs := []Pass{{Windows: windows, Tokens: tokens}}
	last := len(p.stages) - 1
	for _, s := range p.stages[:last] {
		out := make([]float32, len(tokens)*cfg.Width)
		if err := s.Forward(out, inputs[len(inputs)-1]); err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, Pass{Windows: windows, Stream: p.cross(out, tokens)})
	}
	inputs[last].Targets = targets
	var loss float32
	var gradient []float32
	for i := last; i >= 0; i-- {
		var dIn []float32
		if i > 0 {
			dIn = make([]float32, len(tokens)*cfg.Width)
		}
		l, err := p.stages[i].Backward(dIn, inputs[i], gradient)
		if err != nil {
			t.Fatal(err)
		}
		if i == last {
			loss = l
		}
		gradient = p.cross(dIn, nil)
	}
	return loss
}

// TestStagesEqualTheModel steps a whole model and the same model in stages, and
// compares losses, gradients and parameters bit for bit.
func TestStagesEqualTheModel(t *testing.T) {
	for _, cfg := range untied() {
		for n := 2; n <= cfg.Layers; n++ {
			stagesEqualTheModel(t, cfg, n, Room{Batch: 2, Kept: Kept(n % 3)})
		}
	}
}

func stagesEqualTheModel(t *testing.T, cfg Config, n int, room Room) {
	t.Helper()
	const seed, micro = 7, 3
	dev := cputest.Device(t)
	whole, err := New(cfg, dev, room.Batch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { whole.Close() })
	whole.Init(seed)
	inner := steps(t, dev, whole.Params(), whole.Grads(), cfg.Params())
	p := newPipe(t, cfg, n, room, seed)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	tokens, targets := make([]int32, 2*cfg.Context), make([]int32, 2*cfg.Context)
	for step := range 4 {
		whole.ZeroGrad()
		for _, s := range p.stages {
			s.ZeroGrad()
		}
		for range micro {
			for i := range tokens {
				tokens[i], targets[i] = rng.Int32N(int32(cfg.Vocab)), rng.Int32N(int32(cfg.Vocab))
			}
			want, err := whole.ForwardBackward(tokens, targets, 2)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.pass(t, cfg, tokens, targets, 2); got != want {
				t.Fatalf("%v in %d stages, step %d: loss %v, the whole model's is %v", cfg, n, step, got, want)
			}
		}
		var squares float64
		for _, s := range p.stages {
			squares += s.Squares()
		}
		inner.Squares(squares) // else the sum's last bit depends on where the stages begin
		if _, err := inner.Step(0.01, 0.1, 1.0/micro); err != nil {
			t.Fatal(err)
		}
		for i := range p.stages {
			p.inner[i].Squares(squares)
			if _, err := p.inner[i].Step(0.01, 0.1, 1.0/micro); err != nil {
				t.Fatal(err)
			}
		}
		same := func(what string, of func(*Stage) compute.Buffer, all compute.Buffer) {
			for _, s := range p.stages {
				for _, param := range cfg.PartParams(s.Part()) {
					i := slices.IndexFunc(cfg.Params(), func(q Param) bool { return q.Name == param.Name })
					if !slices.Equal(param.span(of(s)).Host, cfg.Params()[i].span(all).Host) {
						t.Fatalf("%v in %d stages, step %d: %s of %s differ", cfg, n, step, what, param.Name)
					}
				}
			}
		}
		same("gradients", (*Stage).Grads, whole.Grads())
		same("parameters", (*Stage).Params, whole.Params())
	}
}

func TestStageRefusesWhatDoesNotFit(t *testing.T) {
	cfg := untied()[0]
	p := newPipe(t, cfg, 3, Room{Batch: 1}, 1)
	rows := cfg.Context * cfg.Width
	stream := make([]float32, rows)
	tokens := make([]int32, cfg.Context)
	for name, call := range map[string]func() error{
		"output":    func() error { return p.stages[0].Forward(stream[1:], Pass{Windows: 1, Tokens: tokens}) },
		"no tokens": func() error { return p.stages[0].Forward(stream, Pass{Windows: 1}) },
		"stream":    func() error { return p.stages[1].Forward(stream, Pass{Windows: 1, Stream: stream[1:]}) },
		"windows":   func() error { return p.stages[1].Forward(stream, Pass{Windows: 2, Stream: stream}) },
		"last":      func() error { return p.stages[2].Forward(stream, Pass{Windows: 1, Stream: stream}) },
		"no targets": func() error {
			_, err := p.stages[2].Backward(stream, Pass{Windows: 1, Stream: stream}, nil)
			return err
		},
		"vocabulary": func() error {
			_, err := p.stages[2].Backward(stream, Pass{Windows: 1, Stream: stream, Targets: slices.Repeat([]int32{99}, cfg.Context)}, nil)
			return err
		},
		"gradient": func() error {
			_, err := p.stages[1].Backward(stream, Pass{Windows: 1, Stream: stream}, stream[1:])
			return err
		},
		"room": func() error {
			_, err := p.stages[1].Backward(stream[1:], Pass{Windows: 1, Stream: stream}, stream)
			return err
		},
	} {
		if call() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
