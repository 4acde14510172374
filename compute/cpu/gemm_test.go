package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/compute"
)

// TestLargeProducts crosses every border of the blocked product (depth,
// columns, rows of a part, groups of panels) with every epilogue, against the
// portable path. Assembly paths sum in one order, so they agree with each
// other to the bit, but for gelu and the dot products of a few rows.
func TestLargeProducts(t *testing.T) { largeProducts(t, compute.FP32, fastPaths(t)) }

// TestLargeProductsBF16 does the same with the instructions for bf16, against
// the portable path's rounding.
func TestLargeProductsBF16(t *testing.T) {
	best := fastPaths(t)[:1]
	d := newDevice(t, Options{Path: best[0], Threads: 1, Precision: compute.BF16})
	defer d.Close()
	if d.Emulates() {
		t.Skip("this processor does not multiply bf16")
	}
	largeProducts(t, compute.BF16, best)
}

func largeProducts(t *testing.T, precision compute.Precision, paths []string) {
	t.Helper()
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, seed))
	normal := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	portable := newDevice(t, Options{Path: "portable", Threads: 2, Precision: precision})
	defer portable.Close()
	for _, s := range []struct{ m, n, k, threads int }{
		{9, 2065, 530, 1}, {9, 2065, 530, 3}, {300, 50, 33, 3}, {5, 4050, 7, 2}, {3, 300, 600, 2}, {2, 48, 1030, 1}, {20, 70, 1091, 2},
	} {
		for _, form := range []compute.Form{compute.NN, compute.NT, compute.TN} {
			a, b, start := normal(s.m*s.k), normal(s.n*s.k), normal(s.m*s.n)
			bias, residual := normal(s.n), normal(s.m*s.n)
			for mode := range 8 {
				var want []float32
				var exact []float32
				for _, path := range append([]string{"portable"}, paths...) {
					d := portable
					if path != "portable" {
						d = newDevice(t, Options{Path: path, Threads: s.threads, Precision: precision})
						defer d.Close()
					}
					c, pre := slices.Clone(start), make([]float32, s.m*s.n)
					op := compute.MatMul{
						Form: form, M: s.m, N: s.n, K: s.k, A: host(a...), B: host(b...), C: compute.Buffer{Host: c},
						Accumulate: mode == 1 || mode == 5,
					}
					e := &op.Epilogue
					e.GELU = mode == 2 || mode >= 6
					if mode >= 2 {
						e.Bias = host(bias...)
					}
					if mode == 2 || mode == 6 {
						e.Pre = compute.Buffer{Host: pre}
					}
					switch mode {
					case 3, 7:
						e.Residual = op.C // the contract allows it
					case 4, 5, 6:
						e.Residual = host(residual...)
					}
					d.MatMul(op)
					got := append(c, pre...)
					what := fmt.Sprintf("%s %v %+v mode %d (seed %d)", path, form, s, mode, seed)
					switch {
					case path == "portable":
						want = got
						continue
					case exact == nil:
						exact = got
					case !e.GELU && !(form == compute.NT && s.m < 4) && !slices.Equal(got, exact):
						t.Fatalf("%s differs from %s", what, paths[0])
					}
					limit := 3e-5 * math.Sqrt(float64(s.k))
					for i := range got {
						if !(math.Abs(float64(got[i]-want[i])) <= limit) {
							t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
						}
					}
				}
			}
		}
	}
}
