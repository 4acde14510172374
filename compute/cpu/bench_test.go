package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"dunlin/compute"
)

// shares reports GFLOP/s and the share of the peak measured beside it.
func shares(b *testing.B, threads int, flop float64) {
	b.StopTimer()
	rate := flop * float64(b.N) / b.Elapsed().Seconds() / 1e9
	b.ReportMetric(rate, "GFLOP/s")
	b.ReportMetric(100*rate/peakOf(threads), "%peak")
}

// peakOf measures one short run: benchmarks call it many times.
func peakOf(threads int) float64 {
	return Probe(threads, peakTime)
}

func randomBuffer(n int) compute.Buffer {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return compute.Buffer{Host: x}
}

// BenchmarkMatMul runs the products of nano (B=2 and B=8) and small (B=4).
func BenchmarkMatMul(b *testing.B) {
	shapes := [][3]int{ // rows, in, out
		{256, 128, 384},
		{256, 128, 128},
		{256, 128, 512},
		{256, 512, 128},
		{256, 128, 256},
		{1024, 128, 512},
		{1024, 384, 1152},
		{1024, 384, 1536},
		{1024, 1536, 384},
		{1024, 384, 256},
		{1024, 768, 3072},
	}
	for _, path := range Paths() {
		if path == "portable" {
			continue
		}
		for _, threads := range []int{1, 2} {
			d, err := New(Options{Path: path, Threads: threads})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			for _, s := range shapes {
				rows, in, out := s[0], s[1], s[2]
				x, w, y := randomBuffer(rows*in), randomBuffer(in*out), randomBuffer(rows*out)
				ops := map[string]compute.MatMul{
					"NN": {Form: compute.NN, M: rows, N: out, K: in, A: x, B: w, C: y},
					"NT": {Form: compute.NT, M: rows, N: in, K: out, A: y, B: w, C: x},
					"TN": {Form: compute.TN, M: in, N: out, K: rows, A: x, B: y, C: w, Accumulate: true},
				}
				for _, form := range []string{"NN", "NT", "TN"} {
					b.Run(fmt.Sprintf("%s/threads=%d/%s/rows=%d,in=%d,out=%d", path, threads, form, rows, in, out), func(b *testing.B) {
						for b.Loop() {
							d.MatMul(ops[form])
							if form == "TN" {
								d.Scale(compute.Buffer{Host: w.Host[:1]}, 0.5)
							}
						}
						shares(b, threads, 2*float64(rows)*float64(in)*float64(out))
					})
				}
			}
		}
	}
}

// BenchmarkParts runs what a training step does beside its products, one
// thread, at nano's shapes with B=2.
func BenchmarkParts(b *testing.B) {
	const batch, positions, heads, width, vocabulary = 2, 128, 4, 128, 256
	const rows = batch * positions
	for _, path := range Paths() {
		d, err := New(Options{Path: path, Threads: 1})
		if err != nil {
			b.Fatal(err)
		}
		defer d.Close()
		x, y, z := randomBuffer(rows*4*width), randomBuffer(rows*4*width), randomBuffer(rows*4*width)
		gain, gain2, mean, rstd := randomBuffer(width), randomBuffer(width), randomBuffer(rows), randomBuffer(rows)
		lse := randomBuffer(rows * heads)
		targets := compute.Ints{Host: make([]int32, rows)}
		const parameters = 840_000
		p, g, m, v := randomBuffer(parameters), randomBuffer(parameters), randomBuffer(parameters), randomBuffer(parameters)
		for i := range v.Host {
			v.Host[i] *= v.Host[i]
		}
		wide := x.Slice(0, rows*4*width)
		narrow, narrow2, narrow3 := x.Slice(0, rows*width), y.Slice(0, rows*width), z.Slice(0, rows*width)
		qkv, dqkv := randomBuffer(rows*3*width), randomBuffer(rows*3*width)
		parts := []struct {
			name   string
			values int
			run    func()
		}{
			{"gelu", wide.Len(), func() { d.GELU(y, wide) }},
			{"geluGrad", wide.Len(), func() { d.GELUGrad(y, wide, z, wide) }},
			{"layerNorm", narrow.Len(), func() {
				d.LayerNorm(compute.LayerNorm{Y: narrow2, X: narrow, Gain: gain, Bias: gain2, Mean: mean, RStd: rstd, Rows: rows, N: width, Eps: 1e-5})
			}},
			{"layerNormGrad", narrow.Len(), func() {
				d.LayerNormGrad(compute.LayerNormGrad{DX: narrow3, DY: narrow2, X: narrow, Gain: gain, DGain: gain2, DBias: gain2, Mean: mean, RStd: rstd, Rows: rows, N: width})
			}},
			{"rmsNorm", narrow.Len(), func() {
				d.RMSNorm(compute.RMSNorm{Y: narrow2, X: narrow, Gain: gain, RStd: rstd, Rows: rows, N: width, Eps: 1e-5})
			}},
			{"rmsNormGrad", narrow.Len(), func() {
				d.RMSNormGrad(compute.RMSNormGrad{DX: narrow3, DY: narrow2, X: narrow, Gain: gain, DGain: gain2, RStd: rstd, Rows: rows, N: width})
			}},
			{"swiGLU", wide.Len() / 2, func() { d.SwiGLU(compute.SwiGLU{Y: y, GateUp: wide, Rows: rows, N: 2 * width}) }},
			{"swiGLUGrad", wide.Len() / 2, func() {
				d.SwiGLUGrad(compute.SwiGLUGrad{DGateUp: z, DY: y, GateUp: wide, Rows: rows, N: 2 * width})
			}},
			{"rotary", 2 * narrow.Len(), func() {
				d.Rotary(compute.Rotary{X: dqkv, Table: p, B: batch, T: positions, H: 2 * heads, S: width / heads, Stride: 3 * width})
			}},
			{"biasGrad", wide.Len(), func() {
				d.BiasGrad(compute.BiasGrad{DBias: lse.Slice(0, 4*width), DY: wide, Rows: rows, N: 4 * width})
			}},
			{"attention", narrow.Len(), func() {
				d.Attention(compute.Attention{Out: narrow, LSE: lse, QKV: qkv, B: batch, T: positions, H: heads, C: width})
			}},
			{"attentionGrad", narrow.Len(), func() {
				d.AttentionGrad(compute.AttentionGrad{DQKV: dqkv, DOut: narrow2, Out: narrow, LSE: lse, QKV: qkv, B: batch, T: positions, H: heads, C: width})
			}},
			{"crossEntropy", rows * vocabulary, func() {
				d.CrossEntropy(compute.CrossEntropy{Logits: wide.Slice(0, rows*vocabulary), Losses: mean, Targets: targets, Rows: rows, V: vocabulary, Grad: true, Scale: 1})
			}},
			{"adamw", parameters, func() {
				d.AdamW(compute.AdamW{Params: p, Grads: g, M: m, V: v, LR: 1e-3, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, GradScale: 1, Step: 10})
			}},
			{"sumSquares", parameters, func() { d.SumSquares(p) }},
			{"zero", parameters, func() { d.Zero(g) }},
		}
		for _, part := range parts {
			b.Run(path+"/"+part.name, func(b *testing.B) {
				for b.Loop() {
					part.run()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(part.values), "ns/value")
			})
		}
	}
}
