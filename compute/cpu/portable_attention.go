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

func viewHead(b, h, positions, heads, keys, width int) headView {
	size := width / heads
	stride := (heads + 2*keys) * size
	first := b * positions * stride
	shared := h / (heads / keys) * size
	return headView{
		q: first + h*size, k: first + width + shared, v: first + width + keys*size + shared, stride: stride, size: size,
		scale: float32(1 / math.Sqrt(float64(size))),
	}
}

func (w headView) row(x []float32, first, t int) []float32 {
	return x[first+t*w.stride:][:w.size]
}

// portableAttention computes one query after the other; the sum of
// exponentials is in float64.
func portableAttention(op *compute.Attention, b, h int, s *scratch) {
	w := viewHead(b, h, op.T, op.H, op.KV, op.C)
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
func portableAttentionGrad(op *compute.AttentionGrad, b, key int, _ *scratch) {
	group := op.H / op.KV
	first := viewHead(b, key*group, op.T, op.H, op.KV, op.C)
	for t := range op.T {
		clear(first.row(op.DQKV.Host, first.k, t))
		clear(first.row(op.DQKV.Host, first.v, t))
	}
	for h := key * group; h < (key+1)*group; h++ {
		portableQueryGrad(op, b, h)
	}
}

// portableQueryGrad overwrites the gradient of one head's queries and adds to
// that of its keys and values.
func portableQueryGrad(op *compute.AttentionGrad, b, h int) {
	w := viewHead(b, h, op.T, op.H, op.KV, op.C)
	qkv, dqkv := op.QKV.Host, op.DQKV.Host
	for t := range op.T {
		query, dquery := w.row(qkv, w.q, t), w.row(dqkv, w.q, t)
		clear(dquery)
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
