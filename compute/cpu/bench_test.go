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
	loop, operations := peakLoop()
	return peakRun(threads, loop, operations)
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
		{256, 128, 384}, {256, 128, 128}, {256, 128, 512}, {256, 512, 128}, {256, 128, 256},
		{1024, 128, 512}, {1024, 384, 1152}, {1024, 384, 1536}, {1024, 1536, 384}, {1024, 384, 256},
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
