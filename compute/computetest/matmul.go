package computetest

import (
	"math"

	"dunlin/compute"
)

func matmulScenarios() []scenario {
	var all []scenario
	shapes := [][3]int{ // M, N, K
		{1, 1, 1},
		{1, 5, 3},
		{3, 1, 7},
		{7, 49, 5},
		{8, 48, 4},
		{9, 47, 33},
		{16, 16, 16},
		{17, 97, 31},
		{31, 33, 65},
		{64, 64, 64},
		{130, 50, 19},
		{65, 129, 257},
		{71, 101, 18},
		{40, 200, 520},
		{1, 384, 128},
		{256, 128, 32},
	}
	for _, form := range []compute.Form{compute.NN, compute.NT, compute.TN} {
		for _, s := range shapes {
			all = append(all, scenario{named("matmul/%v/%dx%dx%d", form, s[0], s[1], s[2]), func(r *rig) {
				matmulPlain(r, form, s[0], s[1], s[2])
				matmulEpilogue(r, form, s[0], s[1], s[2])
			}})
		}
	}
	for _, s := range [][2]int{{1, 1}, {2, 5}, {7, 3}, {16, 40}, {33, 65}, {50, 20}, {97, 31}, {128, 128}} {
		all = append(all, scenario{named("symmetric product/%dx%d", s[0], s[1]), func(r *rig) { matmulSymmetric(r, s[0], s[1]) }})
	}
	for _, s := range [][2]int{{1, 1}, {5, 3}, {33, 65}, {200, 130}, {650, 3}} {
		all = append(all, scenario{named("bias gradient/%dx%d", s[0], s[1]), func(r *rig) { biasGrad(r, s[0], s[1]) }})
	}
	return all
}

// product returns A·B in float64 and the sums of the products' magnitudes.
func (r *rig) product(form compute.Form, m, n, k int, a, b []float32) (value, magnitude []float64) {
	value, magnitude = make([]float64, m*n), make([]float64, m*n)
	if r.operand == nil {
		return value, magnitude
	}
	left, right := make([]float64, len(a)), make([]float64, len(b))
	for i, v := range a {
		left[i] = float64(r.operand(v))
	}
	for i, v := range b {
		right[i] = float64(r.operand(v))
	}
	for i := range m {
		for j := range n {
			for l := range k {
				ai, bi := factors(form, m, n, k, i, j, l)
				p := left[ai] * right[bi]
				value[i*n+j] += p
				magnitude[i*n+j] += math.Abs(p)
			}
		}
	}
	return value, magnitude
}

// factors returns where the factors of term l of value i, j lie in A and B.
func factors(form compute.Form, m, n, k, i, j, l int) (a, b int) {
	switch form {
	case compute.NN:
	case compute.NT:
		return i*k + l, j*k + l
	case compute.TN:
		return l*m + i, l*n + j
	}
	return i*k + l, l*n + j
}

// sumTolerance is the bound on a float32 sum of k products in any order that
// adds no more than a handful of long chains: (8 + √k)·2⁻²³ of the magnitudes.
func sumTolerance(k int, magnitude []float64) tolerance {
	return tolerance{abs: 1e-12, rel: (8 + math.Sqrt(float64(k))) * 0x1p-23, scale: magnitude}
}

func matmulPlain(r *rig, form compute.Form, m, n, k int) {
	a, b := r.normal(m*k, 1), r.normal(k*n, 1)
	want, magnitude := r.product(form, m, n, k, a, b)
	op := compute.MatMul{Form: form, M: m, N: n, K: k, A: r.in(a), B: r.in(b), C: r.out(m * n)}
	r.dev.MatMul(op)
	r.check("product", op.C, want, sumTolerance(k, magnitude))

	c := r.normal(m*n, 1)
	op.C, op.Accumulate = r.buffer(c), true
	r.dev.MatMul(op)
	for i := range want {
		want[i] += float64(c[i])
		magnitude[i] += math.Abs(float64(c[i]))
	}
	r.check("accumulated product", op.C, want, sumTolerance(k, magnitude))
}

func matmulEpilogue(r *rig, form compute.Form, m, n, k int) {
	a, b, bias, residual := r.normal(m*k, 1), r.normal(k*n, 1), r.normal(n, 1), r.normal(m*n, 1)
	pre, magnitude := r.product(form, m, n, k, a, b)
	biased, activated, full := make([]float64, m*n), make([]float64, m*n), make([]float64, m*n)
	for i := range pre {
		pre[i] += float64(bias[i%n])
		magnitude[i] += math.Abs(float64(bias[i%n]))
		biased[i] = pre[i] + float64(residual[i])
		activated[i] = gelu(pre[i])
		full[i] = activated[i] + float64(residual[i])
	}
	tol := sumTolerance(k, magnitude)
	curve := tol
	curve.abs, curve.rel = 4e-6, 1.2*tol.rel // gelu's slope stays below 1.13
	op := compute.MatMul{Form: form, M: m, N: n, K: k, A: r.in(a), B: r.in(b), C: r.out(m * n)}

	op.Epilogue = compute.Epilogue{Bias: r.in(bias), Pre: r.out(m * n), GELU: true}
	r.dev.MatMul(op)
	r.check("value before gelu", op.Epilogue.Pre, pre, tol)
	r.check("bias and gelu", op.C, activated, curve)

	op.C = r.buffer(residual) // residual may be C
	op.Epilogue = compute.Epilogue{Bias: r.in(bias), Residual: op.C}
	r.dev.MatMul(op)
	curve.abs = 1e-6
	r.check("bias and residual in place", op.C, biased, curve)

	op.C = r.out(m * n)
	op.Epilogue = compute.Epilogue{Bias: r.in(bias), GELU: true, Residual: r.in(residual)}
	r.dev.MatMul(op)
	curve.abs = 4e-6
	r.check("bias, gelu and residual", op.C, full, curve)
}

// matmulSymmetric multiplies a matrix with its transpose, both ways round, and adds
// to a symmetric matrix.
func matmulSymmetric(r *rig, n, k int) {
	a := r.normal(n*k, 1)
	start := r.normal(n*n, 1)
	for i := range n {
		for j := range i {
			start[i*n+j] = start[j*n+i]
		}
	}
	for _, form := range []compute.Form{compute.NT, compute.TN} {
		want, magnitude := r.product(form, n, n, k, a, a)
		op := compute.MatMul{Form: form, M: n, N: n, K: k, A: r.in(a), B: r.in(a), C: r.out(n * n), Symmetric: true}
		r.dev.MatMul(op)
		r.check("symmetric product", op.C, want, sumTolerance(k, magnitude))

		for i := range want {
			want[i] += float64(start[i])
			magnitude[i] += math.Abs(float64(start[i]))
		}
		tol := sumTolerance(k, magnitude)
		op.C, op.Accumulate = r.buffer(start), true
		r.dev.MatMul(op)
		r.check("accumulated symmetric product", op.C, want, tol)
		op.C, op.Accumulate, op.Epilogue.Residual = r.out(n*n), false, r.in(start)
		r.dev.MatMul(op)
		r.check("symmetric product and residual", op.C, want, tol)
	}
	square := r.in(start)
	want, magnitude := r.product(compute.NN, n, n, n, start, start)
	op := compute.MatMul{Form: compute.NN, M: n, N: n, K: n, A: square, B: square, C: r.out(n * n), Symmetric: true}
	r.dev.MatMul(op)
	r.check("square of a symmetric matrix", op.C, want, sumTolerance(n, magnitude))
}

func biasGrad(r *rig, rows, n int) {
	dy, start := r.normal(rows*n, 1), r.normal(n, 1)
	want, magnitude := widen(start), make([]float64, n)
	for i, v := range dy {
		want[i%n] += float64(v)
		magnitude[i%n] += math.Abs(float64(v))
	}
	db := r.buffer(start)
	r.dev.BiasGrad(compute.BiasGrad{DBias: db, DY: r.in(dy), Rows: rows, N: n})
	tol := sumTolerance(rows, magnitude)
	tol.abs = 1e-6
	r.check("bias gradient", db, want, tol)
}
