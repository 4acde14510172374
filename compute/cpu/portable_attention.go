package cpu

import (
	"math"

	"dunlin/compute"
)

// headView is where one head of one batch element lies in packed qkv rows:
// row t's query, key and value begin at q, k and v + t·stride.
type headView struct {
	q, k, v, stride, size int
	scale                 float32
}

func viewHead(b, h, positions, heads, width int) headView {
	size := width / heads
	first := b*positions*3*width + h*size
	return headView{
		q: first, k: first + width, v: first + 2*width, stride: 3 * width, size: size,
		scale: float32(1 / math.Sqrt(float64(size))),
	}
}

func (w headView) row(x []float32, first, t int) []float32 {
	return x[first+t*w.stride:][:w.size]
}

// portableAttention computes one query after the other; the sum of
// exponentials is in float64.
func portableAttention(op *compute.Attention, b, h int, s *scratch) {
	w := viewHead(b, h, op.T, op.H, op.C)
	qkv := op.QKV.Host
	queries := op.T - op.From
	scores := s.take(op.T)
	for t := op.From; t < op.T; t++ {
		query := w.row(qkv, w.q, t)
		highest := float32(math.Inf(-1))
		for j := range scores[:t+1] {
			scores[j] = w.scale * dot(query, w.row(qkv, w.k, j))
			highest = max(highest, scores[j])
		}
		var sum float64
		for j, v := range scores[:t+1] {
			e := math.Exp(float64(v - highest))
			scores[j] = float32(e)
			sum += e
		}
		row := t - op.From
		out := op.Out.Host[(b*queries+row)*op.C+h*w.size:][:w.size]
		clear(out)
		inverse := float32(1 / sum)
		for j, p := range scores[:t+1] {
			axpy(out, p*inverse, w.row(qkv, w.v, j))
		}
		if op.LSE.Len() > 0 {
			op.LSE.Host[(b*op.H+h)*queries+row] = highest + float32(math.Log(sum))
		}
	}
}

// portableAttentionGrad recomputes each probability from the stored logarithm
// of the sum: dS = P∘(dP - rowsum(dOut∘Out)).
func portableAttentionGrad(op *compute.AttentionGrad, b, h int, _ *scratch) {
	w := viewHead(b, h, op.T, op.H, op.C)
	qkv, dqkv := op.QKV.Host, op.DQKV.Host
	for t := range op.T {
		clear(w.row(dqkv, w.q, t))
		clear(w.row(dqkv, w.k, t))
		clear(w.row(dqkv, w.v, t))
	}
	for t := range op.T {
		query, dquery := w.row(qkv, w.q, t), w.row(dqkv, w.q, t)
		at := (b*op.T+t)*op.C + h*w.size
		dout := op.DOut.Host[at:][:w.size]
		delta := dot(dout, op.Out.Host[at:])
		lse := op.LSE.Host[(b*op.H+h)*op.T+t]
		for j := range t + 1 {
			key := w.row(qkv, w.k, j)
			p := float32(math.Exp(float64(w.scale*dot(query, key) - lse)))
			axpy(w.row(dqkv, w.v, j), p, dout)
			ds := p * (dot(dout, w.row(qkv, w.v, j)) - delta) * w.scale
			axpy(dquery, ds, key)
			axpy(w.row(dqkv, w.k, j), ds, query)
		}
	}
}
