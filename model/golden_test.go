package model

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"dunlin/compute"
)

// golden is testdata/*/golden.json, written by tools/golden_model.
type golden struct {
	Batch           int
	Tokens, Targets []int32
	Tensors         []struct {
		Name  string
		Shape []int
	}
	Loss   float64
	Losses []float64
	AdamW  struct {
		LR, Eps     float64
		Betas       [2]float64
		WeightDecay float64 `json:"weight_decay"`
	}
}

// oracle is one folder of testdata.
type oracle string

func (o oracle) read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", string(o), name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (o oracle) floats(t *testing.T, name string) []float32 {
	t.Helper()
	data := o.read(t, name)
	values := make([]float32, len(data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return values
}

// TestAgainstPyTorch compares with transformers' GPT2LMHeadModel and
// LlamaForCausalLM in float64: config.json, names, shapes and order of the
// parameters, logits, loss, every gradient, and the losses of ten AdamW steps.
func TestAgainstPyTorch(t *testing.T) {
	for _, o := range []oracle{"gpt2", "llama", "llama_tied"} {
		t.Run(string(o), func(t *testing.T) { againstPyTorch(t, o) })
	}
}

func againstPyTorch(t *testing.T, o oracle) {
	var g golden
	if err := json.Unmarshal(o.read(t, "golden.json"), &g); err != nil {
		t.Fatal(err)
	}
	var cfg Config
	if err := json.Unmarshal(o.read(t, "config.json"), &cfg); err != nil {
		t.Fatal(err)
	}
	m := newModel(t, cfg, g.Batch, 2)
	weights := o.floats(t, "weights.bin")
	var tensors []compute.Tensor
	for i, p := range m.params {
		if i >= len(g.Tensors) || g.Tensors[i].Name != p.Name {
			t.Fatalf("parameter %d is %s, PyTorch has %v", i, p.Name, g.Tensors)
		}
		tensors = append(tensors, compute.Tensor{Name: p.Name, Shape: g.Tensors[i].Shape, Data: weights[p.Offset:][:p.Size]})
	}
	if err := m.Load(tensors); err != nil {
		t.Fatal(err)
	}

	logits, want := make([]float32, len(g.Tokens)*cfg.Vocab), o.floats(t, "logits.bin")
	if err := m.Logits(logits, g.Tokens, g.Batch); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if math.Abs(float64(logits[i]-want[i])) > 1e-5 {
			t.Fatalf("logit %d is %v, PyTorch has %v", i, logits[i], want[i])
		}
	}

	m.ZeroGrad()
	loss, err := m.ForwardBackward(g.Tokens, g.Targets, g.Batch)
	if err != nil || math.Abs(float64(loss)-g.Loss) > 2e-6 {
		t.Errorf("loss %v (%v), PyTorch has %v", loss, err, g.Loss)
	}
	got, err := m.GradTensors()
	if err != nil {
		t.Fatal(err)
	}
	grads := o.floats(t, "grads.bin")
	for i, p := range m.params {
		for j, w := range grads[p.Offset:][:p.Size] {
			if d := math.Abs(float64(got[i].Data[j] - w)); d > 1e-6+2e-5*math.Abs(float64(w)) {
				t.Fatalf("%s[%d]: gradient %v, PyTorch has %v", p.Name, j, got[i].Data[j], w)
			}
		}
	}
	trainLikePyTorch(t, m, g)
}

func trainLikePyTorch(t *testing.T, m *Model, g golden) {
	t.Helper()
	n := m.cfg.Parameters()
	op := compute.AdamW{
		Params: m.Params(), Grads: m.Grads(), M: compute.Buffer{Host: make([]float32, n)}, V: compute.Buffer{Host: make([]float32, n)},
		LR: g.AdamW.LR, Beta1: g.AdamW.Betas[0], Beta2: g.AdamW.Betas[1], Eps: g.AdamW.Eps,
		WeightDecay: g.AdamW.WeightDecay, GradScale: 1,
	}
	for _, p := range m.params {
		if len(p.Shape) > 1 {
			op.Decay = append(op.Decay, compute.Range{From: p.Offset, To: p.Offset + p.Size})
		}
	}
	if len(g.Losses) != 10 {
		t.Fatalf("golden.json has %d losses, want 10", len(g.Losses))
	}
	for step, want := range g.Losses {
		m.ZeroGrad()
		loss, err := m.ForwardBackward(g.Tokens, g.Targets, g.Batch)
		if err != nil || math.Abs(float64(loss)-want) > 2e-5 {
			t.Errorf("loss of step %d is %v (%v), PyTorch has %v", step+1, loss, err, want)
		}
		op.Step = step + 1
		m.dev.AdamW(op)
	}
}
