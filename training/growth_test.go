package training

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/compute/cpu/cputest"
	"dunlin/data"
	"dunlin/optimizer"
)

// inners are the other optimizers with usable constants.
func inners() map[string]optimizer.Config {
	adamw := optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1}
	return map[string]optimizer.Config{
		"muon":    optimizer.MuonConfig{Momentum: 0.95, Every: 2, AdamW: adamw},
		"lamb":    optimizer.LAMBConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-6, Clip: 1},
		"sgd":     optimizer.SGDConfig{Momentum: 0.9, Nesterov: true, Clip: 1},
		"rmsprop": optimizer.RMSPropConfig{Alpha: 0.95, Eps: 1e-8, Clip: 1},
		"adagrad": optimizer.AdaGradConfig{Start: 0.1, Clip: 1},
	}
}

// TestEveryOptimizerLearnsAndGoesOn: each ends well below where it began, and a
// training that was killed with all that can be kept beside it ends with the bits of
// one that was not.
func TestEveryOptimizerLearnsAndGoesOn(t *testing.T) {
	rates := map[string]float64{"muon": 1e-2, "lamb": 3e-2, "sgd": 0.3, "rmsprop": 3e-3, "adagrad": 2}
	for name, inner := range inners() {
		t.Run(name, func(t *testing.T) {
			configure := func(out string) SoloConfig {
				cfg := soloConfig(t, 60, filepath.Join(t.TempDir(), out))
				cfg.Trainer.Inner = inner
				cfg.Trainer.LR = optimizer.Schedule{Peak: rates[name], WarmUp: 0.1, CoolDown: 0.2, Shape: optimizer.WSD}
				cfg.Trainer.Batch, cfg.Accumulate, cfg.Average, cfg.SaveEvery = 2, 2, 0.9, 25
				return cfg
			}
			whole := configure("whole")
			var reports []SoloReport
			whole.Report = func(r SoloReport) { reports = append(reports, r) }
			result := train(t, whole)
			if first, last := reports[0].Loss, reports[len(reports)-1].Loss; !(last < first-1) {
				t.Errorf("the loss goes from %.3f to %.3f", first, last)
			}
			killed := configure("killed")
			advance(t, killed, 37)
			again := train(t, killed)
			if again.ResumedAt != 25 || again.ValLoss != result.ValLoss || again.AverageLoss != result.AverageLoss || !same(t, open(t, whole.Out), open(t, killed.Out)) {
				t.Errorf("goes on from step %d and ends with other bits: %+v, want %+v", again.ResumedAt, again, result)
			}
		})
	}
}

// advance makes steps, saves as Run does, and drops the training.
func advance(t *testing.T, cfg SoloConfig, steps int) *Solo {
	t.Helper()
	s, err := NewSolo(cputest.Device(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for s.step < steps {
		if _, err := s.next(); err != nil {
			t.Fatal(err)
		}
		if s.step%cfg.SaveEvery == 0 {
			if err := s.save(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

// TestAccumulationIsOneLargeBatch: with an optimizer that is linear in the gradient,
// four micro-batches of two windows make the step of one of eight, but for rounding.
func TestAccumulationIsOneLargeBatch(t *testing.T) {
	end := func(batch, accumulate int) (*Solo, []float32) {
		cfg := soloConfig(t, 10, filepath.Join(t.TempDir(), "out"))
		cfg.Trainer.Batch, cfg.Accumulate = batch, accumulate
		cfg.Trainer.Inner = optimizer.SGDConfig{Momentum: 0.9}
		cfg.Trainer.LR.Peak = 0.1
		s := advance(t, cfg, 10)
		params := s.trainer.Model().Params()
		values := make([]float32, params.Len())
		if err := s.trainer.device.Download(values, params); err != nil {
			t.Fatal(err)
		}
		return s, values
	}
	large, want := end(8, 1)
	small, got := end(2, 4)
	if large.windows != 80 || small.windows != 80 {
		t.Errorf("read %d and %d windows, want 80", large.windows, small.windows)
	}
	var most float64
	for i, x := range got {
		most = max(most, math.Abs(float64(x-want[i])))
	}
	if most > 2e-6 || most == 0 {
		t.Errorf("parameters differ by up to %g", most)
	}
	if _, measured := large.growth.state.Noise.Windows(); measured {
		t.Error("measures noise with a single micro-batch")
	}
	if noise, measured := small.growth.state.Noise.Windows(); !measured || !(noise > 0) {
		t.Errorf("noise scale %v", noise)
	}
}

func TestStepRefusesPartsOfMicroBatches(t *testing.T) {
	tr, err := NewTrainer(cputest.Device(t), soloConfig(t, 1, "unused").Trainer)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for _, n := range [][2]int{{0, 0}, {63, 63}, {96, 96}, {64, 128}} {
		if _, err := tr.Step(make([]int32, n[0]), make([]int32, n[1]), 0.5); err == nil || !strings.Contains(err.Error(), "micro-batches of 64") {
			t.Errorf("%d tokens, %d targets: %v", n[0], n[1], err)
		}
	}
}

// adaptive is a training whose batch grows.
func adaptive(t *testing.T, out string) SoloConfig {
	t.Helper()
	cfg := soloConfig(t, 300, filepath.Join(t.TempDir(), out))
	cfg.Trainer.Batch, cfg.Accumulate, cfg.Adaptive, cfg.LogEvery, cfg.SaveEvery = 1, 2, true, 1, 30
	return cfg
}

// TestAdaptiveBatchGrows: the batch only grows, the budget of windows is met to the
// window, and the learning rate follows the batch by the root.
func TestAdaptiveBatchGrows(t *testing.T) {
	cfg := adaptive(t, "out")
	var reports []SoloReport
	cfg.Report = func(r SoloReport) { reports = append(reports, r) }
	r := train(t, cfg)
	if r.Tokens != 300*2*16 || r.Steps >= 300 || r.Steps != len(reports) {
		t.Errorf("%d tokens in %d steps, want %d in fewer than 300", r.Tokens, r.Steps, 300*2*16)
	}
	var read uint64
	for i, now := range reports {
		read += uint64(now.Windows)
		if i > 0 && i < len(reports)-1 && now.Windows < reports[i-1].Windows {
			t.Errorf("step %d: the batch shrinks from %d to %d", now.Step, reports[i-1].Windows, now.Windows)
		}
		want := cfg.Trainer.LR.At(float64(read)/600) * math.Sqrt(float64(now.Windows)/2)
		if math.Abs(now.LR-want) > 1e-12 || now.Tokens != read*16 || math.IsNaN(now.NoiseScale) {
			t.Errorf("step %d: %+v, want a learning rate of %g", now.Step, now, want)
		}
	}
	if last := reports[len(reports)-2]; last.Windows <= 2 {
		t.Errorf("the batch does not grow: %+v", last)
	}
}

func TestAdaptiveBatchGoesOn(t *testing.T) {
	whole, killed := adaptive(t, "whole"), adaptive(t, "killed")
	result := train(t, whole)
	if s := advance(t, killed, 75); s.growth.state.Micros <= 2 {
		t.Fatalf("the batch has not grown by step 75: %+v", s.growth.state)
	}
	again := train(t, killed)
	if again.ResumedAt != 60 || again.Steps != result.Steps || again.ValLoss != result.ValLoss || !same(t, open(t, whole.Out), open(t, killed.Out)) {
		t.Errorf("ends with other bits: %+v, want %+v", again, result)
	}
}

func TestGrowthRefusesDamagedState(t *testing.T) {
	g := newGrowth(4, 2, true)
	good, err := g.save()
	if err != nil || g.load(good) != nil {
		t.Fatalf("does not load %s: %v", good, err)
	}
	for _, bad := range []string{"", "{", strings.Replace(good, `"Micros":2`, `"Micros":1`, 1), strings.Replace(good, `"Since":0`, `"Since":-1`, 1), `{"Micros":2}`} {
		if g.load(bad) == nil {
			t.Errorf("loads %q", bad)
		}
	}
}

// TestAverageIsEvaluated: the average differs from the weights, is reported, kept
// and opened in their place.
func TestAverageIsEvaluated(t *testing.T) {
	cfg := soloConfig(t, 60, filepath.Join(t.TempDir(), "out"))
	cfg.Average = 0.9
	r := train(t, cfg)
	if math.IsNaN(r.AverageLoss) || r.AverageLoss == r.ValLoss || math.Abs(r.AverageLoss-r.ValLoss) > 0.5 {
		t.Errorf("held-out loss %.3f, of the average %.3f", r.ValLoss, r.AverageLoss)
	}
	saved, err := OpenSaved(cputest.Device(t), cfg.Out, Averaged, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	windows, err := data.WindowsOf(16, cfg.Data.HeldOut...)
	if err != nil {
		t.Fatal(err)
	}
	if loss, err := saved.Model.Evaluate(t.Context(), windows, windows.Spread(cfg.EvalWindows)); err != nil || math.Abs(loss-r.AverageLoss) > 1e-12 {
		t.Errorf("opened, the average has a loss of %v, want %v, %v", loss, r.AverageLoss, err)
	}
	plain := soloConfig(t, 5, filepath.Join(t.TempDir(), "plain"))
	if r := train(t, plain); !math.IsNaN(r.AverageLoss) {
		t.Errorf("a loss of no average: %v", r.AverageLoss)
	}
	if _, err := OpenSaved(cputest.Device(t), plain.Out, Averaged, 1); err == nil || !strings.Contains(err.Error(), "--ema") {
		t.Errorf("opens the average of a training without one: %v", err)
	}
}

// FuzzGrowthLoad: whatever a file holds, an accepted state stays within the schedule
// for the steps that follow.
func FuzzGrowthLoad(f *testing.F) {
	first := newGrowth(4, 2, true)
	good, err := first.save()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(`{"Micros":64,"Since":19,"Noise":{"Decay":0.95,"Signal":-1e300,"Noise":1e300,"Seen":7}}`)
	f.Add(`{"Micros":1e9}`)
	f.Fuzz(func(t *testing.T, text string) {
		g := newGrowth(4, 2, true)
		if g.load(text) != nil {
			return
		}
		for range 2 * growEvery {
			g.learn(g.micros(1000), StepResult{Norm: 1, FirstNorm: 1.1})
			if m := g.micros(1000); m < growAtLeast || m > growAtMost {
				t.Fatalf("%d micro-batches after %q", m, text)
			}
		}
	})
}
