package training

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/model"
	"dunlin/optimizer"
)

// BenchmarkOptimizerTime measures whole training steps with each optimizer of a swarm's recipes by the processor time
// of the best twelve, on one thread, so that a busy machine can tell too what an optimizer costs beside its model:
//
//	go test ./training -run '^$' -bench OptimizerTime
func BenchmarkOptimizerTime(b *testing.B) {
	adamw := optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1}
	for _, size := range []struct {
		preset string
		batch  int
	}{{"nano", 2}, {"nano", 8}, {"small", 4}} {
		for _, precision := range []compute.Precision{compute.FP32, compute.BF16} {
			shape, err := model.Preset(size.preset)
			if err != nil {
				b.Fatal(err)
			}
			muon := optimizer.MuonConfig{Momentum: 0.95, Every: optimizer.MuonEvery(shape.Width, size.batch*shape.Context), AdamW: adamw}
			for _, inner := range []optimizer.Config{adamw, muon} {
				b.Run(fmt.Sprintf("%s/batch=%d/%s/%s", size.preset, size.batch, precision, inner.Name()), func(b *testing.B) {
					stepTime(b, precision, TrainerConfig{
						Model: shape, Batch: size.batch, LR: optimizer.Schedule{Peak: 1e-3, Shape: optimizer.Cosine}, WeightDecay: optimizer.Schedule{Shape: optimizer.Constant}, AdamW: adamw, Inner: inner,
					})
				})
			}
		}
	}
}

// round is a number of steps in which every hidden matrix moves equally often.
const round = 12

func stepTime(b *testing.B, precision compute.Precision, cfg TrainerConfig) {
	device, err := cpu.New(cpu.Options{Threads: 1, Precision: precision})
	if err != nil {
		b.Fatal(err)
	}
	defer device.Close()
	if device.Emulates() {
		b.Skip("this processor multiplies no bf16")
	}
	t, err := NewTrainer(device, cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	t.Model().Init(1)
	rng := rand.New(rand.NewPCG(1, 1))
	n := cfg.Batch * cfg.Model.Context
	tokens, targets := make([]int32, n), make([]int32, n)
	for i := range tokens {
		tokens[i], targets[i] = rng.Int32N(int32(cfg.Model.Vocab)), rng.Int32N(int32(cfg.Model.Vocab))
	}
	best := time.Duration(1 << 62)
	for b.Loop() {
		before := processorTime(b)
		for range round {
			if _, err := t.Step(tokens, targets, 0.5); err != nil {
				b.Fatal(err)
			}
		}
		best = min(best, (processorTime(b)-before)/round)
	}
	b.ReportMetric(float64(best.Microseconds())/1000, "ms/step")
	b.ReportMetric(float64(n)/best.Seconds(), "tokens/s")
}

func processorTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}
