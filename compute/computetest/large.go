package computetest

import (
	"math"

	"dunlin/compute"
)

// Large returns cases with the shapes of a training of these sizes: the products of a layer and of the head, attention with
// its gradient, and the loss. Results are compared in some places only, and looked through for values that nothing wrote. It is
// for devices that are fast: what a card does wrong with large shapes alone is found there.
func Large(p compute.Precision, s compute.Sizes) []Case {
	inner, eighth := 4*s.Width, max(1, s.Rows/8)
	product := func(form compute.Form, m, n, k int) scenario {
		return scenario{named("matmul/%v/%dx%dx%d", form, m, n, k), func(r *rig) { largeProduct(r, form, m, n, k) }}
	}
	all := []scenario{
		product(compute.NN, s.Rows, inner, s.Width), product(compute.NT, s.Rows, s.Width, inner),
		product(compute.TN, s.Width, inner, s.Rows), product(compute.NT, eighth, s.Vocab, s.Width),
	}
	if p == compute.FP32 { // the others compute the rest alike
		all = append(all, scenario{named("attention/%dx%dx%d", s.Rows, s.Positions, s.Head), func(r *rig) {
			largeAttention(r, s.Rows/s.Positions, s.Positions, s.Width/s.Head, s.Head)
		}}, scenario{named("cross-entropy/%dx%d", max(1, eighth/8), s.Vocab), func(r *rig) { crossEntropy(r, max(1, eighth/8), s.Vocab, 5) }})
	}
	return casesOf(p, all)
}

// somePlaces returns the first, the last and some other numbers below n.
func (r *rig) somePlaces(n int) []int {
	places := []int{0, n - 1}
	for range 46 {
		places = append(places, r.rng.IntN(n))
	}
	return places
}

// written reads a buffer of which every value must have been written.
func (r *rig) written(what string, b compute.Buffer) []float32 {
	r.t.Helper()
	got := r.read(b)
	for i, v := range got {
		if v != v {
			r.t.Fatalf("%s[%d] is no number", what, i)
		}
	}
	return got
}

// near compares one value.
func (r *rig) near(what string, at int, got float32, want, allowed float64) {
	r.t.Helper()
	if !(math.Abs(float64(got)-want) <= allowed) {
		r.t.Fatalf("%s[%d] = %v, want %v within %.2g", what, at, got, want, allowed)
	}
}

func largeProduct(r *rig, form compute.Form, m, n, k int) {
	a, b := r.normal(m*k, 1), r.normal(k*n, 1)
	op := compute.MatMul{Form: form, M: m, N: n, K: k, A: r.in(a), B: r.in(b), C: r.out(m * n)}
	r.dev.MatMul(op)
	got := r.written("product", op.C)
	for _, at := range r.somePlaces(m * n) {
		var want, magnitude float64
		for l := range k {
			ai, bi := factors(form, m, n, k, at/n, at%n, l)
			p := float64(r.operand(a[ai])) * float64(r.operand(b[bi]))
			want += p
			magnitude += math.Abs(p)
		}
		tol := sumTolerance(k, nil)
		r.near("product", at, got[at], want, tol.abs+tol.rel*magnitude)
	}
}

func largeAttention(r *rig, batch, positions, heads, size int) {
	width, rows := heads*size, batch*positions
	qkv, dout := r.normal(rows*3*width, 1), r.normal(rows*width, 1)
	op := compute.Attention{Out: r.out(rows * width), LSE: r.out(batch * heads * positions), QKV: r.in(qkv), B: batch, T: positions, H: heads, C: width}
	r.dev.Attention(op)
	grad := compute.AttentionGrad{
		DQKV: r.out(rows * 3 * width), DOut: r.in(dout), QKV: op.QKV, Out: op.Out, LSE: op.LSE, B: batch, T: positions, H: heads, C: width,
	}
	r.dev.AttentionGrad(grad)
	out, lse, dqkv := r.written("output", op.Out), r.written("lse", op.LSE), r.written("gradient", grad.DQKV)
	scale := 1 / math.Sqrt(float64(size))
	for _, at := range r.somePlaces(batch * heads * positions) { // a query
		b, h, t := at/heads/positions, at/positions%heads, at%positions
		part := func(kind, j int) []float64 { return widen(qkv[(b*positions+j)*3*width+kind*width+h*size:][:size]) }
		first := (b*positions+t)*width + h*size
		slope := widen(dout[first:][:size])
		p, sum := softmaxRow(part(0, t), func(j int) []float64 { return part(1, j) }, t, scale)
		r.near("lse", at, lse[at], sum, 1e-5*math.Abs(sum)+5e-6)
		result, dp, mean := make([]float64, size), make([]float64, t+1), 0.0
		for j := range p {
			for i, v := range part(2, j) {
				result[i] += p[j] * v
				dp[j] += slope[i] * v
			}
			mean += p[j] * dp[j]
		}
		dq := make([]float64, size)
		for j := range p {
			for i, key := range part(1, j) {
				dq[i] += p[j] * (dp[j] - mean) * scale * key
			}
		}
		for i := range size {
			r.near("output", first+i, out[first+i], result[i], 5e-6+1e-5*math.Abs(result[i]))
			place := (b*positions+t)*3*width + h*size + i
			r.near("gradient of a query", place, dqkv[place], dq[i], 2e-5+1e-5*math.Abs(dq[i]))
		}
	}
}
