package cpu_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/model"
)

// trainer repeats training steps of one model on one device: forward,
// backward, norm of the gradient, AdamW and clearing.
type trainer struct {
	dev             *cpu.Device
	model           *model.Model
	first, second   compute.Buffer
	tokens, targets []int32
	batch, steps    int
}

func newTrainer(b *testing.B, path, preset string, precision compute.Precision, batch, threads int) *trainer {
	b.Helper()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	cfg, err := model.Preset(preset)
	must(err)
	cfg.Context = min(cfg.Context, 256)
	t := &trainer{batch: batch}
	t.dev, err = cpu.New(cpu.Options{Threads: threads, Path: path, Precision: precision})
	must(err)
	t.model, err = model.New(cfg, t.dev, batch)
	must(err)
	b.Cleanup(func() {
		_ = t.model.Close()
		_ = t.dev.Close()
	})
	t.model.Init(1)
	t.first, err = t.dev.Alloc(cfg.Parameters())
	must(err)
	t.second, err = t.dev.Alloc(cfg.Parameters())
	must(err)
	t.tokens, t.targets = make([]int32, batch*cfg.Context), make([]int32, batch*cfg.Context)
	for i := range t.tokens {
		t.tokens[i], t.targets[i] = int32(i*7%cfg.Vocab), int32((i+1)*7%cfg.Vocab)
	}
	return t
}

func (t *trainer) step() error {
	t.steps++
	_, err := t.model.ForwardBackward(t.tokens, t.targets, t.batch)
	_ = t.dev.SumSquares(t.model.Grads())
	t.dev.AdamW(compute.AdamW{
		Params: t.model.Params(), Grads: t.model.Grads(), M: t.first, V: t.second, Step: t.steps,
		LR: 1e-4, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, GradScale: 1,
	})
	t.model.ZeroGrad()
	return err
}

// BenchmarkStep reports tokens/s and the share of the multiply-add peak, the
// better of one measured before and one after.
func BenchmarkStep(b *testing.B) {
	cases := []struct {
		preset         string
		batch, threads int
	}{{"nano", 2, 1}, {"nano", 8, 1}, {"nano", 8, 2}, {"small", 4, 1}, {"small", 4, 2}, {"gpt2", 4, 1}, {"gpt2", 4, 2}}
	for _, path := range cpu.Paths() {
		if path == "portable" {
			continue
		}
		for _, c := range cases {
			for _, precision := range []compute.Precision{compute.FP32, compute.BF16} {
				b.Run(fmt.Sprintf("%s/%s/%s/batch=%d/threads=%d", path, precision, c.preset, c.batch, c.threads), func(b *testing.B) {
					steps(b, newTrainer(b, path, c.preset, precision, c.batch, c.threads))
				})
			}
		}
	}
}

func steps(b *testing.B, t *trainer) {
	if t.dev.Emulates() {
		b.Skip("this path has no bf16 instructions")
	}
	if err := t.step(); err != nil {
		b.Fatal(err)
	}
	peak := cpu.Peak(t.dev.Threads())
	for b.Loop() {
		if err := t.step(); err != nil {
			b.Fatal(err)
		}
	}
	reportRate(b, t, b.N*len(t.tokens), b.Elapsed(), max(peak, cpu.Peak(t.dev.Threads())))
}

// BenchmarkWorkers runs four one-thread trainers of nano with two windows a
// step side by side, as the demo does, and reports the sum of their tokens/s.
func BenchmarkWorkers(b *testing.B) {
	const workers, steps = 4, 20
	var trainers []*trainer
	for range workers {
		trainers = append(trainers, newTrainer(b, "auto", "nano", compute.FP32, 2, 1))
	}
	peak := cpu.Peak(0)
	for b.Loop() {
		var group sync.WaitGroup
		for _, t := range trainers {
			group.Go(func() {
				for range steps {
					if err := t.step(); err != nil {
						b.Error(err)
					}
				}
			})
		}
		group.Wait()
	}
	t := trainers[0]
	reportRate(b, t, b.N*workers*steps*len(t.tokens), b.Elapsed(), max(peak, cpu.Peak(0)))
}

func reportRate(b *testing.B, t *trainer, tokens int, elapsed time.Duration, peak float64) {
	rate := float64(tokens) / elapsed.Seconds()
	cfg := t.model.Config()
	b.ReportMetric(rate, "tokens/s")
	b.ReportMetric(100*rate*cfg.FLOPPerToken(cfg.Context)/1e9/peak, "%peak")
}
