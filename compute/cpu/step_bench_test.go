package cpu_test

import (
	"fmt"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/model"
)

// BenchmarkStep runs whole training steps: forward, backward, norm of the
// gradient, AdamW and clearing. It reports tokens/s and the share of the
// multiply-add peak measured just before and after.
func BenchmarkStep(b *testing.B) {
	cases := []struct {
		preset         string
		batch, threads int
	}{{"nano", 2, 1}, {"nano", 8, 1}, {"nano", 8, 2}, {"small", 4, 1}, {"small", 4, 2}}
	for _, path := range cpu.Paths() {
		if path == "portable" {
			continue
		}
		for _, c := range cases {
			b.Run(fmt.Sprintf("%s/%s/batch=%d/threads=%d", path, c.preset, c.batch, c.threads), func(b *testing.B) {
				benchmarkStep(b, path, c.preset, c.batch, c.threads)
			})
		}
	}
}

func benchmarkStep(b *testing.B, path, preset string, batch, threads int) {
	cfg, err := model.Preset(preset)
	if err != nil {
		b.Fatal(err)
	}
	dev, err := cpu.New(cpu.Options{Threads: threads, Path: path})
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	m, err := model.New(cfg, dev, batch)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	m.Init(1)
	first, err := dev.Alloc(cfg.Parameters())
	if err != nil {
		b.Fatal(err)
	}
	second, err := dev.Alloc(cfg.Parameters())
	if err != nil {
		b.Fatal(err)
	}
	tokens, targets := make([]int32, batch*cfg.Context), make([]int32, batch*cfg.Context)
	for i := range tokens {
		tokens[i], targets[i] = int32(i*7%cfg.Vocab), int32((i+1)*7%cfg.Vocab)
	}
	step := func(n int) {
		if _, err := m.ForwardBackward(tokens, targets, batch); err != nil {
			b.Fatal(err)
		}
		_ = dev.SumSquares(m.Grads())
		dev.AdamW(compute.AdamW{
			Params: m.Params(), Grads: m.Grads(), M: first, V: second, Step: n,
			LR: 1e-4, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, GradScale: 1,
		})
		m.ZeroGrad()
	}
	step(1)
	n := 1
	peak := cpu.Peak(threads)
	for b.Loop() {
		n++
		step(n)
	}
	rate := float64(b.N) * float64(len(tokens)) / b.Elapsed().Seconds()
	peak = max(peak, cpu.Peak(threads))
	b.ReportMetric(rate, "tokens/s")
	b.ReportMetric(100*rate*cfg.FLOPPerToken(cfg.Context)/1e9/peak, "%peak")
}
