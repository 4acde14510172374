package cuda

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/cuda/ptxemu"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/training"
)

// TestTrainsLikeTheProcessor trains both families for 40 steps on the processor
// and on emulated cards of each kind, with every check of the emulator on, and
// compares the losses step by step.
func TestTrainsLikeTheProcessor(t *testing.T) {
	t.Parallel()
	for i, preset := range []string{"pico", "pico-llama"} {
		processor, err := cpu.New(cpu.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		want := losses(t, processor, preset, 40, nil)
		if err := processor.Close(); err != nil {
			t.Fatal(err)
		}
		if fall := want[0] - want[len(want)-1]; fall < 1 {
			t.Fatalf("%s: the loss falls by %.3f on the processor, from %.3f: too little to tell anything", preset, fall, want[0])
		}
		for _, c := range []struct {
			capability int
			precision  compute.Precision
			within     float64 // relative, at every step
		}{
			{61, compute.FP32, 1e-4}, {[]int{75, 80}[i], compute.FP16, 1e-2}, {80, compute.BF16, 1e-2},
		} {
			t.Run(preset+" "+string(c.precision), func(t *testing.T) {
				t.Parallel()
				emulator, err := ptxemu.New(ptxemu.Config{Capability: c.capability, ApproximationError: 1, Seed: 5, Uninitialised: true})
				if err != nil {
					t.Fatal(err)
				}
				context, err := emulator.OpenContext(0)
				if err != nil {
					t.Fatal(err)
				}
				d, err := New(context, Options{Precision: c.precision})
				if err != nil {
					t.Fatal(err)
				}
				got := losses(t, d, preset, 40, nil)
				apart := 0.0
				for step := range want {
					apart = max(apart, math.Abs(got[step]-want[step])/want[step])
				}
				if d.replay.count < 30 {
					t.Errorf("graphs did %d lists of work in 40 steps: each step's is the same", d.replay.count)
				}
				var instructions uint64
				for _, k := range context.Counters() {
					instructions += k.Lanes
				}
				t.Logf("%s: loss %.4f to %.4f, at most %.1e from the processor's; %d kernels launched, %d PTX instructions executed",
					d.Name(), got[0], got[len(got)-1], apart, d.Launches(), instructions)
				if apart > c.within {
					t.Errorf("losses are up to %.1e away from the processor's, allowed are %.0e: %v, want %v", apart, c.within, got, want)
				}
				if fall := got[0] - got[len(got)-1]; fall < 1 {
					t.Errorf("the loss falls by %.3f, want at least 1", fall)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestMuonLikeTheProcessor makes steps with Muon, whose orthogonal factors are products of matrices that are symmetric, on
// cards of each kind. The processor multiplies as the card does, but for fp16, which it does not know.
func TestMuonLikeTheProcessor(t *testing.T) {
	t.Parallel()
	muon := optimizer.MuonConfig{Momentum: 0.95, Every: 1, AdamW: optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1}}
	for _, c := range []struct {
		capability     int
		precision, own compute.Precision
		within         float64 // relative, at every step
	}{
		{61, compute.FP32, compute.FP32, 1e-4}, {75, compute.FP16, compute.FP32, 1e-2}, {80, compute.BF16, compute.BF16, 1e-2},
	} {
		t.Run(string(c.precision), func(t *testing.T) {
			t.Parallel()
			processor, err := cpu.New(cpu.Options{Threads: 1, Precision: c.own})
			if err != nil {
				t.Fatal(err)
			}
			want := losses(t, processor, "pico", 6, muon)
			if err := processor.Close(); err != nil {
				t.Error(err)
			}
			d := open(t, ptxemu.Config{Capability: c.capability, ApproximationError: 1, Seed: 6, Uninitialised: true}, Options{Precision: c.precision})
			got := losses(t, d, "pico", 6, muon)
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			apart := 0.0
			for step := range want {
				apart = max(apart, math.Abs(got[step]-want[step])/want[step])
			}
			t.Logf("loss %.4f to %.4f, at most %.1e from the processor's", got[0], got[len(got)-1], apart)
			if apart > c.within || got[len(got)-1] > got[0]-0.3 {
				t.Errorf("losses %v, the processor's are %v", got, want)
			}
		})
	}
}

// losses trains a preset of random weights on the text of the licence, which
// stays as it is, and returns the loss of each step. inner makes the steps, nil for AdamW.
func losses(t *testing.T, d compute.Device, preset string, steps int, inner optimizer.Config) []float64 {
	t.Helper()
	const batch = 2
	shape, err := model.Preset(preset)
	if err != nil {
		t.Fatal(err)
	}
	constant := func(x float64) optimizer.Schedule { return optimizer.Schedule{Peak: x, Shape: optimizer.Constant} }
	trainer, err := training.NewTrainer(d, training.TrainerConfig{
		Model: shape, Batch: batch, LR: constant(3e-3), WeightDecay: constant(0.1),
		AdamW: optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1}, Inner: inner,
	})
	if err != nil {
		t.Fatal(err)
	}
	trainer.Model().Init(1)
	text, err := os.ReadFile("../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	var losses []float64
	for step := range steps {
		var tokens, targets []int32
		for range batch {
			at := random.IntN(len(text) - shape.Context - 1)
			for i := range shape.Context {
				tokens, targets = append(tokens, int32(text[at+i])), append(targets, int32(text[at+i+1]))
			}
		}
		r, err := trainer.Step(tokens, targets, float64(step+1)/float64(steps))
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		losses = append(losses, r.Loss)
	}
	if err := trainer.Close(); err != nil {
		t.Fatal(err)
	}
	return losses
}
