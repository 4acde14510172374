package computetest

import (
	"math"

	"dunlin/compute"
)

func attentionScenarios() []scenario {
	var all []scenario
	for _, s := range [][4]int{ // B, T, heads, values a head
		{1, 1, 1, 1},
		{2, 3, 2, 4},
		{1, 7, 3, 5},
		{2, 16, 2, 8},
		{1, 33, 2, 16},
		{2, 65, 1, 32},
		{1, 130, 2, 64},
		{1, 50, 1, 67},
		{1, 70, 1, 128},
		{1, 66, 2, 40},
		{2, 35, 1, 100},
		{1, 37, 1, 126},
		{1, 21, 2, 97},
		{2, 21, 2, 53},
		{1, 37, 1, 50},
		{1, 19, 1, 63},
	} {
		all = append(all, scenario{named("attention/%dx%dx%dx%d", s[0], s[1], s[2], s[3]), func(r *rig) {
			attention(r, s[0], s[1], s[2], 0, s[3], 1)
		}})
	}
	for _, s := range [][5]int{ // B, T, heads, heads of keys and values, values a head
		{2, 9, 4, 2, 8}, {1, 65, 6, 2, 16}, {2, 130, 3, 1, 5}, {1, 70, 4, 4, 32},
	} {
		all = append(all, scenario{named("grouped attention/%dx%dx%dx%dx%d", s[0], s[1], s[2], s[3], s[4]), func(r *rig) {
			attention(r, s[0], s[1], s[2], s[3], s[4], 1)
		}})
	}
	return append(all, scenario{"attention/sharp", func(r *rig) { attention(r, 1, 40, 2, 0, 16, 6) }})
}

// softmaxRow returns query t's probabilities over positions 0..t and the
// logarithm of the sum of exponentials. base finds a row's value in qkv.
func softmaxRow(query []float64, key func(j int) []float64, t int, scale float64) (p []float64, lse float64) {
	p = make([]float64, t+1)
	highest := math.Inf(-1)
	for j := range p {
		for i, q := range query {
			p[j] += q * key(j)[i]
		}
		p[j] *= scale
		highest = math.Max(highest, p[j])
	}
	var sum float64
	for j := range p {
		p[j] = math.Exp(p[j] - highest)
		sum += p[j]
	}
	for j := range p {
		p[j] /= sum
	}
	return p, highest + math.Log(sum)
}

// attention checks heads that share keys heads of keys and values, 0 for as many.
func attention(r *rig, batch, positions, heads, keys, size int, std float64) {
	group, stride := 1, 3*heads*size
	if keys > 0 {
		group, stride = heads/keys, (heads+2*keys)*size
	}
	width := heads * size
	rows := batch * positions
	qkv, dout := r.normal(rows*stride, std), r.normal(rows*width, 1)
	x, dy := widen(qkv), widen(dout)
	out, lse, dqkv := make([]float64, rows*width), make([]float64, batch*heads*positions), make([]float64, rows*stride)
	scale := 1 / math.Sqrt(float64(size))
	for b := range batch {
		for h := range heads {
			at := func(kind, t int) int {
				row := (b*positions + t) * stride
				if kind == 0 {
					return row + h*size
				}
				return row + (heads+(kind-1)*heads/group+h/group)*size
			}
			part := func(of []float64, kind, t int) []float64 { return of[at(kind, t):][:size] }
			for t := range positions {
				query := part(x, 0, t)
				p, sum := softmaxRow(query, func(j int) []float64 { return part(x, 1, j) }, t, scale)
				lse[(b*heads+h)*positions+t] = sum
				first := (b*positions+t)*width + h*size
				dp, mean := make([]float64, t+1), 0.0
				for j := range p {
					for i := range size {
						out[first+i] += p[j] * part(x, 2, j)[i]
						dp[j] += dy[first+i] * part(x, 2, j)[i]
						part(dqkv, 2, j)[i] += p[j] * dy[first+i]
					}
					mean += p[j] * dp[j]
				}
				for j := range p { // the softmax Jacobian, then the scaled scores
					ds := p[j] * (dp[j] - mean) * scale
					for i := range size {
						part(dqkv, 0, t)[i] += ds * part(x, 1, j)[i]
						part(dqkv, 1, j)[i] += ds * query[i]
					}
				}
			}
		}
	}
	tol := tolerance{abs: 5e-6 * std * std * std, rel: 1e-5}
	op := compute.Attention{
		Out: r.out(rows * width), LSE: r.out(batch * heads * positions), QKV: r.in(qkv),
		B: batch, T: positions, H: heads, C: width, KV: keys,
	}
	r.dev.Attention(op)
	r.check("output", op.Out, out, tol)
	r.check("lse", op.LSE, lse, tol)
	grad := compute.AttentionGrad{
		DQKV: r.out(rows * stride), DOut: r.in(dout), QKV: op.QKV, Out: op.Out, LSE: op.LSE,
		B: batch, T: positions, H: heads, C: width, KV: keys,
	}
	r.dev.AttentionGrad(grad)
	tol.abs *= 4
	r.check("gradient", grad.DQKV, dqkv, tol)

	// The last positions alone, as generation computes them.
	for _, from := range []int{positions / 2, positions - 1} {
		tail := op
		tail.From, tail.Out, tail.LSE = from, r.out(batch*(positions-from)*width), compute.Buffer{}
		r.dev.Attention(tail)
		var want []float64
		for b := range batch {
			want = append(want, out[(b*positions+from)*width:(b+1)*positions*width]...)
		}
		r.check("output of the last positions", tail.Out, want, tol)
	}
}
