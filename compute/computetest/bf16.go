package computetest

import (
	"math"
	"slices"

	"dunlin/compute"
)

// bf16 rounds like compute.RoundBF16, written apart from it: by the value, not
// by its bits.
func bf16(x float32) float32 {
	v := float64(x)
	switch {
	case math.Abs(v) < 0x1p-126:
		return float32(math.Copysign(0, v))
	case math.IsInf(v, 0) || math.IsNaN(v):
		return x
	}
	fraction, exponent := math.Frexp(v)
	return float32(math.Ldexp(math.RoundToEven(fraction*256), exponent-8))
}

// roundingScenario multiplies single values by 1, so that the result is the
// rounded value itself.
func roundingScenario() scenario {
	return scenario{"matmul/rounding", func(r *rig) {
		inf := float32(math.Inf(1))
		values := []float32{0, float32(math.Copysign(0, -1)), 1, -1, inf, -inf, math.MaxFloat32, -math.MaxFloat32, 0x1p-126, 0x1p-127, -0x1p-149, 0x1.fffffep-127}
		for low := range uint32(4) { // below, at, above and far from a tie
			for high := range uint32(64) {
				values = append(values, math.Float32frombits(0x3f800000+high<<16+0x7fff+low&^2+low>>1<<14))
			}
		}
		for len(values) < 1000 {
			if v := math.Float32frombits(r.rng.Uint32()); v == v {
				values = append(values, v)
			}
		}
		want := make([]float64, len(values))
		for i, v := range values {
			want[i] = float64(bf16(v))
			if math.IsInf(want[i], 0) {
				values[i], want[i] = 3, 3 // covered by the check of MaxFloat32 below
			}
		}
		for _, form := range []compute.Form{compute.NN, compute.NT, compute.TN} {
			one := r.in([]float32{1})
			as := compute.MatMul{Form: form, M: len(values), N: 1, K: 1, A: r.in(values), B: one, C: r.out(len(values))}
			r.dev.MatMul(as)
			r.check("rounded left operand", as.C, want, tolerance{})
			bs := compute.MatMul{Form: form, M: 1, N: len(values), K: 1, A: one, B: r.in(values), C: r.out(len(values))}
			r.dev.MatMul(bs)
			r.check("rounded right operand", bs.C, want, tolerance{})
			large := compute.MatMul{Form: form, M: 1, N: 1, K: 1, A: r.in([]float32{math.MaxFloat32}), B: one, C: r.out(1)}
			r.dev.MatMul(large)
			if got := r.read(large.C)[0]; got != inf {
				r.t.Errorf("the largest float32 rounds to %v, want infinity", got)
			}
		}
	}}
}

// fp16 rounds to the 11 bits of significand of IEEE half precision, whose range a
// device of compute.FP16 moves to where the values are.
func fp16(x float32) float32 {
	v := float64(x)
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return x
	}
	fraction, exponent := math.Frexp(v)
	return float32(math.Ldexp(math.RoundToEven(fraction*2048), exponent-11))
}

// rangeScenario multiplies values that fp16 itself cannot hold.
func rangeScenario() scenario {
	return scenario{"matmul/range", func(r *rig) {
		const m, n, k = 5, 9, 33
		for _, size := range [][2]float64{{1e-30, 1}, {1e-20, 1e-18}, {1e30, 1e-33}, {1e-38, 1e38}, {1e18, 1e19}, {0, 1}} {
			a, b := r.normal(m*k, size[0]), r.normal(k*n, size[1])
			want, magnitude := r.product(compute.NN, m, n, k, a, b)
			op := compute.MatMul{Form: compute.NN, M: m, N: n, K: k, A: r.in(a), B: r.in(b), C: r.out(m * n)}
			r.dev.MatMul(op)
			tol := sumTolerance(k, magnitude)
			tol.abs = 1e-44 * k // subnormal results
			r.check(named("product of %g and %g", size[0], size[1]), op.C, want, tol)
		}
		// One value far above all others is found wherever it stands.
		const edge = 64
		a, b := r.normal(edge*edge, 1), r.normal(edge, 1)
		for at := 255; at <= len(a); at += 256 {
			for _, i := range []int{at, at - 255} {
				a := slices.Clone(a)
				a[i] = 1e6
				want, magnitude := r.product(compute.NN, edge, 1, edge, a, b)
				op := compute.MatMul{Form: compute.NN, M: edge, N: 1, K: edge, A: r.in(a), B: r.in(b), C: r.out(edge)}
				r.dev.MatMul(op)
				r.check(named("product with a large value at %d", i), op.C, want, sumTolerance(edge, magnitude))
			}
		}
		// What is not finite stays so, where an optimizer finds it.
		a, b = r.normal(k, 1), r.normal(k, 1)
		for _, v := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} {
			a := slices.Clone(a)
			a[3] = float32(v)
			op := compute.MatMul{Form: compute.NN, M: 1, N: 1, K: k, A: r.in(a), B: r.in(b), C: r.out(1)}
			r.dev.MatMul(op)
			if got := float64(r.read(op.C)[0]); !math.IsInf(got, 0) && !math.IsNaN(got) {
				r.t.Errorf("a product with %v is %v", v, got)
			}
		}
	}}
}
