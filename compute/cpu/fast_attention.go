//go:build (amd64 || arm64) && !noasm

package cpu

import "dunlin/compute"

// heads is causal attention by matrix products over blocks of query rows.
// Only scores at or below the diagonal are computed, up to the height of a
// micro-kernel; no more than a block's rows of scores exist at a time.
type heads struct {
	*vectors
	*multiplier
}

// queryRows returns the query rows of a block: whole micro-kernels.
func (h *heads) queryRows() int { return 64 / h.rows * h.rows }

// matrix is a packed right operand of a product: [depth, columns].
type matrix struct {
	split  split
	values []float32
	depth  int
}

// packed packs b [depth, columns], or its transpose when b is [columns, depth].
func (h *heads) packed(memory *arena, b []float32, ld, depth, columns int, transposed bool) matrix {
	p := matrix{split: h.split(columns), depth: depth}
	p.values = memory.take(depth * p.split.width())
	p.pack(b, ld, transposed)
	return p
}

func (p *matrix) pack(b []float32, ld int, transposed bool) {
	for i := range p.split.panels {
		column, _, _ := p.split.panel(i)
		if transposed {
			p.split.packColumns(p.values[column*p.depth:], b[column*ld:], ld, p.depth, i)
		} else {
			p.split.packRows(p.values[column*p.depth:], b[column:], ld, p.depth, i)
		}
	}
}

// product describes C [rows, columns of b] = A·B over depth products that
// begin at row skip of b, with A row-major or k-major.
type product struct {
	a, c       []float32
	lda, ldc   int
	b          matrix
	skip       int
	rows       int
	depth      int
	kMajor     bool
	accumulate bool
}

// panel computes panel i of the product.
func (h *heads) panel(x *product, i int) {
	column, vectors, tail := x.b.split.panel(i)
	width := vectors * h.multiplier.lanes
	t := tile{
		a: &x.a[0], lda: 4 * x.lda,
		b: &x.b.values[column*x.b.depth+x.skip*width], ldb: 4 * width,
		c: &x.c[column], ldc: 4 * x.ldc, ldinit: 4 * x.ldc,
		k: x.depth, tail: tail,
	}
	if x.accumulate {
		t.init = t.c
	}
	h.multiplier.panel(x.kMajor, vectors, x.rows, &t)
}

// multiply computes all panels of the product.
func (h *heads) multiply(x *product) {
	for i := range x.b.split.panels {
		h.panel(x, i)
	}
}

// causal computes scores [rows, to) of query rows from..to-1 against the keys
// packed in b, leaving out what lies wholly above the diagonal.
func (h *heads) causal(scores []float32, ld int, a []float32, lda int, b *matrix, from, to int) {
	for i := range b.split.panels {
		column, _, _ := b.split.panel(i)
		if column >= to {
			return
		}
		first := max(0, column-from)
		x := product{a: a[first*lda:], lda: lda, b: *b, c: scores[first*ld:], ldc: ld, rows: to - from - first, depth: b.depth}
		h.panel(&x, i)
	}
}

// arena hands out pieces of one scratch slice.
type arena struct{ left []float32 }

func (a *arena) take(n int) []float32 {
	n = parts(n, 16) * 16
	out := a.left[:n:n]
	a.left = a.left[n:]
	return out
}

// newArena returns at least n values of s, aligned to a cache line.
func newArena(s *scratch, n int) arena {
	s.floats = s.take(n + 16)
	_, left := aligned(s.floats, n)
	return arena{left: left}
}

// scoreWidth is the distance between rows of scores: never a power of two, so
// that rows do not meet in one set of the cache.
func scoreWidth(positions int) int { return parts(positions, 16)*16 + 16 }

// blockEnd returns the first position after the block of height rows, counted
// from position start, that holds t.
func blockEnd(t, start, height, limit int) int {
	return min(limit, start+((t-start)/height+1)*height)
}

func (h *heads) attention(op *compute.Attention, b, head int, s *scratch) {
	w := viewHead(b, head, op.T, op.H, op.KV, op.C)
	qkv := op.QKV.Host
	block, ld := min(h.queryRows(), op.T-op.From), scoreWidth(op.T)
	filled := parts(w.size, 16) * 16
	memory := newArena(s, 2*filled*(op.T+16)+block*ld+64)
	keys := h.packed(&memory, qkv[w.k:], w.stride, w.size, op.T, true)
	values := h.packed(&memory, qkv[w.v:], w.stride, op.T, w.size, false)
	scores := memory.take(block * ld)
	queries := op.T - op.From
	for from := op.From; from < op.T; from += block {
		to := min(op.T, from+block)
		h.causal(scores, ld, qkv[w.q+from*w.stride:], w.stride, &keys, from, to)
		for t := from; t < to; t++ {
			row := scores[(t-from)*ld:][:ld]
			end := blockEnd(t, from, h.rows, op.T)
			highest := h.rowMax(&row[0], t+1) * w.scale
			sum := h.expSum(&row[0], &row[0], t+1, w.scale, highest)
			h.vectors.scale(&row[0], &row[0], t+1, 1/sum)
			clear(row[t+1 : end])
			if op.LSE.Len() > 0 {
				op.LSE.Host[(b*op.H+head)*queries+t-op.From] = highest + log(sum)
			}
		}
		for t := from; t < to; t += h.rows {
			end := min(to, t+h.rows)
			h.multiply(&product{
				a: scores[(t-from)*ld:], lda: ld, b: values,
				c: op.Out.Host[(b*queries+t-op.From)*op.C+head*w.size:], ldc: op.C,
				rows: end - t, depth: end,
			})
		}
	}
}

func (h *heads) attentionGrad(op *compute.AttentionGrad, b, key int, s *scratch) {
	group := op.H / op.KV
	w := viewHead(b, key*group, op.T, op.H, op.KV, op.C)
	qkv := op.QKV.Host
	block, ld := min(h.queryRows(), op.T), scoreWidth(op.T)
	filled := parts(w.size, 16) * 16
	memory := newArena(s, 3*filled*(op.T+16)+2*filled*(block+16)+2*block*ld+128)
	g := headGrad{
		keysT:   h.packed(&memory, qkv[w.k:], w.stride, w.size, op.T, true),
		valuesT: h.packed(&memory, qkv[w.v:], w.stride, w.size, op.T, true),
		keys:    h.packed(&memory, qkv[w.k:], w.stride, op.T, w.size, false),
	}
	g.queries = matrix{split: h.split(w.size)}
	g.queries.values = memory.take(block * g.queries.split.width())
	g.douts = matrix{split: g.queries.split, values: memory.take(block * g.queries.split.width())}
	g.p, g.dp = memory.take(block*ld), memory.take(block*ld)
	for head := key * group; head < (key+1)*group; head++ {
		h.queryGrad(op, b, head, &g)
	}
}

// headGrad is what the query heads that share keys and values have in common in
// their gradient, and their room.
type headGrad struct {
	keysT, valuesT, keys matrix
	queries, douts       matrix
	p, dp                []float32 // a block of scores and of their gradients
}

// queryGrad overwrites the gradient of one head's queries; that of its keys and
// values too for the first head of a group, and it adds for the others.
func (h *heads) queryGrad(op *compute.AttentionGrad, b, head int, g *headGrad) {
	w := viewHead(b, head, op.T, op.H, op.KV, op.C)
	qkv, dqkv := op.QKV.Host, op.DQKV.Host
	block, ld := min(h.queryRows(), op.T), scoreWidth(op.T)
	add := head%(op.H/op.KV) > 0
	queries, douts, p, dp := &g.queries, &g.douts, g.p, g.dp
	for from := 0; from < op.T; from += block {
		to := min(op.T, from+block)
		first := (b*op.T+from)*op.C + head*w.size
		dout, out := op.DOut.Host[first:], op.Out.Host[first:]
		queries.depth, douts.depth = to-from, to-from
		queries.pack(qkv[w.q+from*w.stride:], w.stride, false)
		douts.pack(dout, op.C, false)
		h.causal(p, ld, qkv[w.q+from*w.stride:], w.stride, &g.keysT, from, to)
		h.causal(dp, ld, dout, op.C, &g.valuesT, from, to)
		for t := from; t < to; t++ {
			i := t - from
			row, drow := p[i*ld:][:ld], dp[i*ld:][:ld]
			end := blockEnd(t, 0, h.rows, op.T)
			delta := h.vectors.dot(&dout[i*op.C], &out[i*op.C], w.size)
			h.expSum(&row[0], &row[0], t+1, w.scale, op.LSE.Host[(b*op.H+head)*op.T+t])
			h.scoreGrad(&drow[0], &row[0], t+1, delta, w.scale)
			clear(row[t+1 : end])
			clear(drow[t+1 : end])
		}
		for t := from; t < to; t += h.rows {
			end := min(to, t+h.rows)
			h.multiply(&product{
				a: dp[(t-from)*ld:], lda: ld, b: g.keys, c: dqkv[w.q+t*w.stride:], ldc: w.stride,
				rows: end - t, depth: end,
			})
		}
		h.keyGrad(dqkv[w.k:], w.stride, dp, ld, queries, from, to, add)
		h.keyGrad(dqkv[w.v:], w.stride, p, ld, douts, from, to, add)
	}
}

// keyGrad adds to rows 0..from-1 of c, and stores in rows from..to-1 or adds to
// them too, the product of the transposed scores of query rows from..to-1 with b.
func (h *heads) keyGrad(c []float32, ldc int, scores []float32, ld int, b *matrix, from, to int, add bool) {
	if from > 0 {
		h.multiply(&product{a: scores, lda: ld, b: *b, c: c, ldc: ldc, rows: from, depth: to - from, kMajor: true, accumulate: true})
	}
	for t := from; t < to; t += h.rows {
		skip := t - from
		h.multiply(&product{
			a: scores[skip*ld+t:], lda: ld, b: *b, skip: skip, c: c[t*ldc:], ldc: ldc,
			rows: min(h.rows, to-t), depth: to - t, kMajor: true, accumulate: add,
		})
	}
}
