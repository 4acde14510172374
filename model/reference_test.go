package model

import (
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu"
)

// reference is the model once more, in float64, one position after the other,
// from the papers and not from the code under test; Llama's half is in
// llama_test.go.
type reference struct {
	cfg Config
	p   map[string][]float64
}

func newReference(cfg Config, tensors []compute.Tensor) reference {
	r := reference{cfg: cfg, p: map[string][]float64{}}
	for _, t := range tensors {
		values := make([]float64, len(t.Data))
		for i, v := range t.Data {
			values[i] = float64(v)
		}
		r.p[t.Name] = values
	}
	return r
}

func (r reference) get(name string) []float64 { return r.p["transformer."+name] }

// affine is x·w + b with w [in, out].
func affine(x, w, b []float64) []float64 {
	y := append([]float64(nil), b...)
	for i, v := range x {
		for j := range y {
			y[j] += v * w[i*len(y)+j]
		}
	}
	return y
}

func normalise(x, gain, bias []float64) []float64 {
	var mean, variance float64
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = (v-mean)/math.Sqrt(variance+1e-5)*gain[i] + bias[i]
	}
	return y
}

func addTo(x, y []float64) {
	for i := range x {
		x[i] += y[i]
	}
}

// logits returns the scores after every position of one window.
func (r reference) logits(tokens []int32) [][]float64 {
	if r.cfg.Family == Llama {
		return r.llama(tokens)
	}
	c := r.cfg.Width
	stream := make([][]float64, len(tokens))
	for t, token := range tokens {
		stream[t] = append([]float64(nil), r.get("wte.weight")[int(token)*c:][:c]...)
		addTo(stream[t], r.get("wpe.weight")[t*c:][:c])
	}
	for l := range r.cfg.Layers {
		get := func(name string) []float64 { return r.get("h." + string(rune('0'+l)) + "." + name) }
		var qkv [][]float64
		for _, x := range stream {
			qkv = append(qkv, affine(normalise(x, get("ln_1.weight"), get("ln_1.bias")), get("attn.c_attn.weight"), get("attn.c_attn.bias")))
		}
		for t, x := range stream {
			addTo(x, affine(r.attend(qkv[:t+1], r.cfg.Heads), get("attn.c_proj.weight"), get("attn.c_proj.bias")))
			up := affine(normalise(x, get("ln_2.weight"), get("ln_2.bias")), get("mlp.c_fc.weight"), get("mlp.c_fc.bias"))
			for i, v := range up {
				up[i] = 0.5 * v * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
			}
			addTo(x, affine(up, get("mlp.c_proj.weight"), get("mlp.c_proj.bias")))
		}
	}
	out, head := make([][]float64, len(tokens)), r.get("wte.weight")
	if r.cfg.Untied {
		head = r.p[headName]
	}
	for t, x := range stream {
		x = normalise(x, r.get("ln_f.weight"), r.get("ln_f.bias"))
		out[t] = make([]float64, r.cfg.Vocab)
		for v := range out[t] {
			for i := range x {
				out[t][v] += x[i] * head[v*c+i]
			}
		}
	}
	return out
}

// attend returns the last position's attention output over all of qkv, whose
// rows are queries, then keys and values of as many heads as keys says.
func (r reference) attend(qkv [][]float64, keys int) []float64 {
	c, size := r.cfg.Width, r.cfg.Width/r.cfg.Heads
	out := make([]float64, c)
	for h := range r.cfg.Heads {
		query := qkv[len(qkv)-1][h*size:][:size]
		key := c + h*keys/r.cfg.Heads*size
		value := key + keys*size
		weights := make([]float64, len(qkv))
		var sum float64
		for j, row := range qkv {
			for i := range size {
				weights[j] += query[i] * row[key+i]
			}
			weights[j] = math.Exp(weights[j] / math.Sqrt(float64(size)))
			sum += weights[j]
		}
		for j, row := range qkv {
			for i := range size {
				out[h*size+i] += weights[j] / sum * row[value+i]
			}
		}
	}
	return out
}

// loss is the mean over a batch of windows.
func (r reference) loss(tokens, targets []int32, batch int) float64 {
	n := len(tokens) / batch
	var sum float64
	for b := range batch {
		for t, scores := range r.logits(tokens[b*n : (b+1)*n]) {
			var total float64
			for _, s := range scores {
				total += math.Exp(s)
			}
			sum += math.Log(total) - scores[targets[b*n+t]]
		}
	}
	return sum / float64(len(tokens))
}

var tiny = Config{Layers: 2, Heads: 2, Width: 8, Context: 6, Vocab: 11}

// tinyShapes are one or more of each family.
func tinyShapes() map[string]Config {
	shared := Config{
		Family: Llama, Layers: 2, Heads: 4, KVHeads: 2, Width: 16, Hidden: 21, Context: 6, Vocab: 11, RopeTheta: 50, NormEps: 1e-4, Untied: true,
	}
	whole := shared
	whole.KVHeads, whole.Untied = 4, false
	single := shared
	single.KVHeads, single.Hidden = 1, 60
	narrow, narrowLlama := tiny, shared
	narrow.Subspace, narrow.Untied, narrowLlama.Subspace = 2, true, 6
	return map[string]Config{
		"gpt2": tiny, "llama": shared, "llama tied": whole, "llama one key head": single, "gpt2 in a subspace": narrow, "llama in a subspace": narrowLlama,
	}
}

// each runs a test for every tiny shape.
func each(t *testing.T, test func(t *testing.T, cfg Config)) {
	for name, cfg := range tinyShapes() {
		t.Run(name, func(t *testing.T) { test(t, cfg) })
	}
}

func newModel(t testing.TB, cfg Config, batch, threads int) *Model {
	t.Helper()
	dev, err := cpu.New(cpu.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(cfg, dev, batch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// disturb sets all parameters, norms and biases too, to random values, so that
// no gradient is zero by symmetry.
func disturb(t testing.TB, m *Model, seed uint64) []compute.Tensor {
	t.Helper()
	m.Init(seed)
	tensors, err := m.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	for i, tensor := range tensors {
		for i := range tensor.Data {
			tensor.Data[i] += float32(rng.NormFloat64() * 0.2)
		}
		if p := m.params[i]; p.Init != InitRows {
			compute.Outside(tensor.Data, p.Shape, p.Corner, func(_ int, rest []float32) { clear(rest) })
		}
	}
	if err := m.Load(tensors); err != nil {
		t.Fatal(err)
	}
	return tensors
}

func randomTokens(rng *rand.Rand, n, vocab int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = rng.Int32N(int32(vocab))
	}
	return tokens
}

// TestAgainstFloat64 compares logits and loss with the reference.
func TestAgainstFloat64(t *testing.T) { each(t, againstFloat64) }

func againstFloat64(t *testing.T, cfg Config) {
	const seed, batch = 3, 3
	m := newModel(t, cfg, batch, 2)
	ref := newReference(cfg, disturb(t, m, seed))
	rng := rand.New(rand.NewPCG(seed, 2))
	for _, n := range []int{1, 4, cfg.Context} {
		tokens, targets := randomTokens(rng, batch*n, cfg.Vocab), randomTokens(rng, batch*n, cfg.Vocab)
		got := make([]float32, len(tokens)*cfg.Vocab)
		if err := m.Logits(got, tokens, batch); err != nil {
			t.Fatal(err)
		}
		for b := range batch {
			for p, row := range ref.logits(tokens[b*n : (b+1)*n]) {
				for v, want := range row {
					if g := float64(got[(b*n+p)*cfg.Vocab+v]); math.Abs(g-want) > 2e-5 {
						t.Fatalf("windows of %d: logit of token %d after position %d of window %d is %v, want %v", n, v, p, b, g, want)
					}
				}
			}
		}
		loss, err := m.Loss(tokens, targets, batch)
		if err != nil {
			t.Fatal(err)
		}
		if want := ref.loss(tokens, targets, batch); math.Abs(float64(loss)-want) > 1e-5 {
			t.Errorf("windows of %d: loss %v, want %v", n, loss, want)
		}
	}
}

// TestGradientsByDifferences compares values of every parameter's gradient
// with central differences of the float64 reference.
func TestGradientsByDifferences(t *testing.T) { each(t, gradientsByDifferences) }

func gradientsByDifferences(t *testing.T, cfg Config) {
	const seed, batch, n, h, samples = 5, 2, 5, 1e-5, 12
	m := newModel(t, cfg, batch, 2)
	ref := newReference(cfg, disturb(t, m, seed))
	rng := rand.New(rand.NewPCG(seed, 2))
	tokens, targets := randomTokens(rng, batch*n, cfg.Vocab), randomTokens(rng, batch*n, cfg.Vocab)
	m.ZeroGrad()
	loss, err := m.ForwardBackward(tokens, targets, batch)
	if err != nil {
		t.Fatal(err)
	}
	if want := ref.loss(tokens, targets, batch); math.Abs(float64(loss)-want) > 1e-5 {
		t.Errorf("loss %v, want %v", loss, want)
	}
	grads, err := m.GradTensors()
	if err != nil {
		t.Fatal(err)
	}
	for k, g := range grads {
		values, moves := ref.p[g.Name], make([]float32, len(g.Data))
		for i := range moves {
			moves[i] = 1
		}
		compute.Outside(moves, g.Shape, m.params[k].Corner, func(_ int, rest []float32) { clear(rest) })
		for range samples {
			i := rng.IntN(len(values))
			before := values[i]
			values[i] = before + h
			above := ref.loss(tokens, targets, batch)
			values[i] = before - h
			below := ref.loss(tokens, targets, batch)
			values[i] = before
			want := (above - below) / (2 * h) * float64(moves[i])
			if math.Abs(float64(g.Data[i])-want) > 2e-6+1e-4*math.Abs(want) {
				t.Errorf("%s[%d]: gradient %v, differences give %v", g.Name, i, g.Data[i], want)
			}
		}
	}
}
