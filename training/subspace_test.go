package training

import (
	"math/rand/v2"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu/cputest"
	"dunlin/model"
	"dunlin/optimizer"
)

// TestStepsStayInTheSubspace trains both families with optimizers that scale value by value and with one that mixes the
// values of a matrix. What does not move keeps every bit, weight decay or not; what moves does.
func TestStepsStayInTheSubspace(t *testing.T) {
	adamW := optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1}
	gpt2 := model.Config{Layers: 2, Heads: 2, Width: 16, Context: 8, Vocab: 32, Untied: true, Subspace: 4}
	llama := model.Config{
		Family: model.Llama, Layers: 2, Heads: 4, KVHeads: 2, Width: 16, Hidden: 24, Context: 8, Vocab: 32, RopeTheta: 1e4, NormEps: 1e-5, Untied: true, Subspace: 6,
	}
	for _, shape := range []model.Config{gpt2, llama} {
		for _, inner := range []optimizer.Config{adamW, optimizer.MuonConfig{Momentum: 0.9, Every: 1, AdamW: adamW}} {
			cfg := TrainerConfig{
				Model: shape, Batch: 4, LR: optimizer.Schedule{Peak: 0.01, Shape: optimizer.Constant},
				WeightDecay: optimizer.Schedule{Peak: 0.1, Shape: optimizer.Constant}, AdamW: adamW, Inner: inner,
			}
			staysInTheSubspace(t, cfg)
		}
	}
}

func staysInTheSubspace(t *testing.T, cfg TrainerConfig) {
	t.Helper()
	trainer, err := NewTrainer(cputest.Device(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	trainer.Model().Init(3)
	before, err := trainer.Model().Tensors()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	tokens := make([]int32, cfg.Batch*cfg.Model.Context)
	for range 6 {
		for i := range tokens {
			tokens[i] = rng.Int32N(int32(cfg.Model.Vocab))
		}
		if _, err := trainer.Step(tokens, tokens, 0.5); err != nil {
			t.Fatal(err)
		}
	}
	after, err := trainer.Model().Tensors()
	if err != nil {
		t.Fatal(err)
	}
	resting := 0
	for i, p := range trainer.Params() {
		rests := make([]float32, p.Size)
		compute.Outside(rests, p.Shape, p.Corner, func(_ int, rest []float32) {
			for j := range rest {
				rest[j] = 1
			}
		})
		moved := 0
		for j, rest := range rests {
			same := before[i].Data[j] == after[i].Data[j]
			if rest == 1 {
				resting++
				if !same {
					t.Fatalf("%v, %s: %s[%d] went from %v to %v", cfg.Model, cfg.Optimizer().Name(), p.Name, j, before[i].Data[j], after[i].Data[j])
				}
			} else if !same {
				moved++
			}
		}
		if moved == 0 {
			t.Errorf("%v, %s: nothing of %s moved", cfg.Model, cfg.Optimizer().Name(), p.Name)
		}
	}
	if resting == 0 {
		t.Errorf("%v: everything moves", cfg.Model)
	}
}
