package cpu

import (
	"fmt"

	"dunlin/compute"
)

// How operations are cut into parts. The cuts are functions of the shape, so
// that results are the same for any number of threads.
const (
	elementChunk = 1 << 13 // values of an elementwise part
	sumChunk     = 1 << 14 // values of one partial sum
	rowChunk     = 16      // rows of a normalisation or cross-entropy part
	columnChunk  = 64      // columns of a reduction over rows
)

func parts(n, chunk int) int { return (n + chunk - 1) / chunk }

// span returns the bounds of part i when n is cut into chunks.
func span(n, chunk, i int) (from, to int) { return i * chunk, min(n, (i+1)*chunk) }

// elementwise is an operation whose value i depends on the operands' values i.
type elementwise struct {
	kind       elementKind
	dst, a, b  []float32
	y          []float32 // of GELUGrad, a second result
	s, t       float32
	partialSum []float64
}

type elementKind uint8

const (
	elementZero elementKind = iota
	elementCopy
	elementAdd
	elementScale
	elementCombine
	elementGELU
	elementGELUGrad
	elementRound
	elementSumSquares
)

func (t *elementwise) part(d *Device, _, i int) {
	k := d.kernels
	if t.kind == elementSumSquares {
		from, to := span(len(t.a), sumChunk, i)
		t.partialSum[i] = k.sumSquares(t.a[from:to])
		return
	}
	from, to := span(len(t.dst), elementChunk, i)
	dst := t.dst[from:to]
	switch t.kind {
	case elementZero:
		clear(dst)
	case elementCopy:
		copy(dst, t.a[from:to])
	case elementAdd:
		k.add(dst, t.a[from:to], t.b[from:to])
	case elementScale:
		k.scale(dst, t.s)
	case elementCombine:
		k.combine(dst, t.a[from:to], t.b[from:to], t.s, t.t)
	case elementGELU:
		k.gelu(dst, t.a[from:to])
	case elementGELUGrad:
		k.geluGrad(dst, t.y[from:to], t.a[from:to], t.b[from:to])
	case elementRound:
		for j, x := range t.a[from:to] {
			dst[j] = compute.RoundBF16(x)
		}
	case elementSumSquares: // above
	}
}

func (d *Device) element(kind elementKind, dst, a, b []float32, s float32) {
	d.tasks.elementwise = elementwise{kind: kind, dst: dst, a: a, b: b, s: s}
	d.run(&d.tasks.elementwise, parts(len(dst), elementChunk))
}

// Zero implements compute.Device.
func (d *Device) Zero(x compute.Buffer) { d.element(elementZero, x.Host, nil, nil, 0) }

// Copy implements compute.Device.
func (d *Device) Copy(dst, src compute.Buffer) {
	d.element(elementCopy, dst.Host, need("copy", src, dst.Len()), nil, 0)
}

// Add implements compute.Device.
func (d *Device) Add(dst, a, b compute.Buffer) {
	n := dst.Len()
	d.element(elementAdd, dst.Host, need("add", a, n), need("add", b, n), 0)
}

// Scale implements compute.Device.
func (d *Device) Scale(x compute.Buffer, s float32) { d.element(elementScale, x.Host, nil, nil, s) }

// Combine implements compute.Device.
func (d *Device) Combine(dst compute.Buffer, s float32, a compute.Buffer, t float32, b compute.Buffer) {
	n := dst.Len()
	d.tasks.elementwise = elementwise{
		kind: elementCombine, dst: dst.Host, a: need("combine", a, n), b: need("combine", b, n), s: s, t: t,
	}
	d.run(&d.tasks.elementwise, parts(n, elementChunk))
}

// GELU implements compute.Device.
func (d *Device) GELU(y, x compute.Buffer) {
	d.element(elementGELU, y.Host, need("gelu", x, y.Len()), nil, 0)
}

// GELUGrad implements compute.Device.
func (d *Device) GELUGrad(dx, y, dy, x compute.Buffer) {
	const name = "gelu gradient"
	n := dx.Len()
	d.tasks.elementwise = elementwise{kind: elementGELUGrad, dst: dx.Host, y: need(name, y, n), a: need(name, dy, n), b: need(name, x, n)}
	d.run(&d.tasks.elementwise, parts(n, elementChunk))
}

// SumSquares implements compute.Device: partial sums of sumChunk values are
// added in order in float64.
func (d *Device) SumSquares(x compute.Buffer) float64 {
	n := parts(x.Len(), sumChunk)
	if cap(d.sums) < n {
		d.sums = make([]float64, n)
	}
	d.tasks.elementwise = elementwise{kind: elementSumSquares, a: x.Host, partialSum: d.sums[:n]}
	d.run(&d.tasks.elementwise, n)
	var sum float64
	for _, s := range d.sums[:n] {
		sum += s
	}
	return sum
}

// MatMul implements compute.Device.
func (d *Device) MatMul(op compute.MatMul) {
	if op.M < 1 || op.N < 1 || op.K < 1 {
		panic(fmt.Sprintf("compute/cpu: matmul with M %d, N %d, K %d", op.M, op.N, op.K))
	}
	need("matmul A", op.A, op.M*op.K)
	need("matmul B", op.B, op.K*op.N)
	need("matmul C", op.C, op.M*op.N)
	if e := &op.Epilogue; e.Bias.Len() > 0 || e.Pre.Len() > 0 || e.Residual.Len() > 0 {
		needOptional("matmul bias", e.Bias, op.N)
		needOptional("matmul pre", e.Pre, op.M*op.N)
		needOptional("matmul residual", e.Residual, op.M*op.N)
	}
	if d.Emulates() {
		op.A.Host, op.B.Host = d.round(0, op.A.Host[:op.M*op.K]), d.round(1, op.B.Host[:op.K*op.N])
	}
	d.tasks.matmul.op = op
	if d.bf16 && !d.Emulates() {
		d.kernels.matmulBF16(d, &d.tasks.matmul.op)
	} else {
		d.kernels.matmul(d, &d.tasks.matmul.op)
	}
}

// round returns a copy of operand i with every value rounded to bf16.
func (d *Device) round(i int, x []float32) []float32 {
	y := d.rounded[i].take(len(x))
	d.element(elementRound, y, x, nil, 0)
	return y
}

func needOptional(operation string, b compute.Buffer, n int) {
	if b.Len() > 0 {
		need(operation, b, n)
	}
}

type biasGrad struct {
	dbias, dy []float32
	rows, n   int
}

func (t *biasGrad) part(d *Device, _, i int) {
	from, to := span(t.n, columnChunk, i)
	d.kernels.addRows(t.dbias[from:to], t.dy[from:], t.rows, t.n)
}

// BiasGrad implements compute.Device.
func (d *Device) BiasGrad(op compute.BiasGrad) {
	d.tasks.biasGrad = biasGrad{need("bias gradient", op.DBias, op.N), need("bias gradient", op.DY, op.Rows*op.N), op.Rows, op.N}
	d.run(&d.tasks.biasGrad, parts(op.N, columnChunk))
}

type layerNorm struct {
	y, x, gain, bias, mean, rstd []float32
	rows, n                      int
	eps                          float32
}

func (t *layerNorm) part(d *Device, _, i int) {
	from, to := span(t.rows, rowChunk, i)
	for r := from; r < to; r++ {
		a, b := r*t.n, (r+1)*t.n
		t.mean[r], t.rstd[r] = d.kernels.layerNorm(t.y[a:b], t.x[a:b], t.gain, t.bias, t.eps)
	}
}

// LayerNorm implements compute.Device.
func (d *Device) LayerNorm(op compute.LayerNorm) {
	const name = "layer norm"
	n := op.Rows * op.N
	d.tasks.layerNorm = layerNorm{
		y: need(name, op.Y, n), x: need(name, op.X, n),
		gain: need(name, op.Gain, op.N), bias: need(name, op.Bias, op.N),
		mean: need(name, op.Mean, op.Rows), rstd: need(name, op.RStd, op.Rows),
		rows: op.Rows, n: op.N, eps: op.Eps,
	}
	d.run(&d.tasks.layerNorm, parts(op.Rows, rowChunk))
}

// layerNormGrad runs twice: over columns for the parameters, then over rows
// for dx, which may overwrite dy.
type layerNormGrad struct {
	dx, dy, x, dgain, dbias, gain, mean, rstd []float32
	rows, n                                   int
	accumulate, params                        bool
}

func (t *layerNormGrad) part(d *Device, _, i int) {
	if t.params {
		from, to := span(t.n, columnChunk, i)
		d.kernels.layerNormGradParams(t.dgain[from:to], t.dbias[from:to], t.dy[from:], t.x[from:], t.mean, t.rstd, t.rows, t.n)
		return
	}
	from, to := span(t.rows, rowChunk, i)
	for r := from; r < to; r++ {
		a, b := r*t.n, (r+1)*t.n
		d.kernels.layerNormGrad(t.dx[a:b], t.dy[a:b], t.x[a:b], t.gain, t.mean[r], t.rstd[r], t.accumulate)
	}
}

// LayerNormGrad implements compute.Device.
func (d *Device) LayerNormGrad(op compute.LayerNormGrad) {
	const name = "layer norm gradient"
	n := op.Rows * op.N
	t := &d.tasks.layerNormGrad
	*t = layerNormGrad{
		dx: need(name, op.DX, n), dy: need(name, op.DY, n), x: need(name, op.X, n),
		dgain: need(name, op.DGain, op.N), dbias: need(name, op.DBias, op.N), gain: need(name, op.Gain, op.N),
		mean: need(name, op.Mean, op.Rows), rstd: need(name, op.RStd, op.Rows),
		rows: op.Rows, n: op.N, accumulate: op.Accumulate, params: true,
	}
	d.run(t, parts(op.N, columnChunk))
	t.params = false
	d.run(t, parts(op.Rows, rowChunk))
}

type attention struct{ op compute.Attention }

func (t *attention) part(d *Device, worker, i int) {
	d.kernels.attention(&t.op, i/t.op.H, i%t.op.H, &d.scratch[worker])
}

// Attention implements compute.Device.
func (d *Device) Attention(op compute.Attention) {
	op.KV = keyHeads(op.T, op.H, op.KV, op.C)
	if op.From < 0 || op.From >= op.T {
		panic(fmt.Sprintf("compute/cpu: attention from position %d of %d", op.From, op.T))
	}
	need("attention qkv", op.QKV, op.B*op.T*(op.H+2*op.KV)*(op.C/op.H))
	need("attention out", op.Out, op.B*(op.T-op.From)*op.C)
	needOptional("attention lse", op.LSE, op.B*op.H*(op.T-op.From))
	d.tasks.attention.op = op
	d.run(&d.tasks.attention, op.B*op.H)
}

type attentionGrad struct{ op compute.AttentionGrad }

func (t *attentionGrad) part(d *Device, worker, i int) {
	d.kernels.attentionGrad(&t.op, i/t.op.KV, i%t.op.KV, &d.scratch[worker])
}

// AttentionGrad implements compute.Device.
func (d *Device) AttentionGrad(op compute.AttentionGrad) {
	op.KV = keyHeads(op.T, op.H, op.KV, op.C)
	wide := op.B * op.T * (op.H + 2*op.KV) * (op.C / op.H)
	need("attention gradient dqkv", op.DQKV, wide)
	need("attention gradient dout", op.DOut, op.B*op.T*op.C)
	need("attention gradient qkv", op.QKV, wide)
	need("attention gradient out", op.Out, op.B*op.T*op.C)
	need("attention gradient lse", op.LSE, op.B*op.H*op.T)
	d.tasks.attentionGrad.op = op
	d.run(&d.tasks.attentionGrad, op.B*op.KV)
}

// keyHeads returns the number of key and value heads, which 0 leaves open, and
// panics when the heads do not fit.
func keyHeads(positions, heads, keys, width int) int {
	if keys == 0 {
		keys = heads
	}
	if positions < 1 || heads < 1 || width < heads || width%heads != 0 || keys < 1 || heads%keys != 0 {
		panic(fmt.Sprintf("compute/cpu: attention over %d positions with %d heads of width %d, %d of keys", positions, heads, width, keys))
	}
	return keys
}

type embed struct{ op compute.Embed }

func (t *embed) part(d *Device, _, i int) {
	op := &t.op
	from, to := span(op.B*op.T, rowChunk, i)
	for r := from; r < to; r++ {
		token, position := int(op.Tokens.Host[r])*op.C, (op.From+r%op.T)*op.C
		out, row := op.Out.Host[r*op.C:(r+1)*op.C], op.WTE.Host[token:token+op.C]
		if op.WPE.Len() == 0 {
			copy(out, row)
			continue
		}
		d.kernels.add(out, row, op.WPE.Host[position:position+op.C])
	}
}

// Embed implements compute.Device. A token outside of WTE panics.
func (d *Device) Embed(op compute.Embed) {
	rows := op.B * op.T
	need("embed out", op.Out, rows*op.C)
	needInts("embed tokens", op.Tokens, rows)
	needOptional("embed positions", op.WPE, (op.From+op.T)*op.C)
	d.tasks.embed.op = op
	d.run(&d.tasks.embed, parts(rows, rowChunk))
}

// embedGrad splits by columns, so that rows of equal tokens add in order.
type embedGrad struct{ op compute.EmbedGrad }

func (t *embedGrad) part(d *Device, _, i int) {
	op := &t.op
	from, to := span(op.C, columnChunk, i)
	for r := range op.B * op.T {
		dout := op.DOut.Host[r*op.C+from : r*op.C+to]
		token := int(op.Tokens.Host[r]) * op.C
		dwte := op.DWTE.Host[token+from : token+to]
		d.kernels.add(dwte, dwte, dout)
		if op.DWPE.Len() == 0 {
			continue
		}
		position := (r % op.T) * op.C
		dwpe := op.DWPE.Host[position+from : position+to]
		d.kernels.add(dwpe, dwpe, dout)
	}
}

// EmbedGrad implements compute.Device. A token outside of DWTE panics.
func (d *Device) EmbedGrad(op compute.EmbedGrad) {
	need("embed gradient", op.DOut, op.B*op.T*op.C)
	needInts("embed gradient tokens", op.Tokens, op.B*op.T)
	needOptional("embed gradient positions", op.DWPE, op.T*op.C)
	d.tasks.embedGrad.op = op
	d.run(&d.tasks.embedGrad, parts(op.C, columnChunk))
}

type crossEntropy struct{ op compute.CrossEntropy }

func (t *crossEntropy) part(d *Device, _, i int) {
	op := &t.op
	from, to := span(op.Rows, rowChunk, i)
	for r := from; r < to; r++ {
		logits := op.Logits.Host[r*op.V : (r+1)*op.V]
		op.Losses.Host[r] = d.kernels.crossEntropy(logits, int(op.Targets.Host[r]), op.Grad, op.Scale)
	}
}

// CrossEntropy implements compute.Device. A target outside of [0,V) panics.
func (d *Device) CrossEntropy(op compute.CrossEntropy) {
	need("cross-entropy logits", op.Logits, op.Rows*op.V)
	need("cross-entropy losses", op.Losses, op.Rows)
	needInts("cross-entropy targets", op.Targets, op.Rows)
	d.tasks.crossEntropy.op = op
	d.run(&d.tasks.crossEntropy, parts(op.Rows, rowChunk))
}

type adamW struct {
	op      compute.AdamW
	scalars compute.AdamWScalars
}

// part steps one chunk, piece by piece where decay changes inside of it.
func (t *adamW) part(d *Device, _, i int) {
	from, to := span(t.op.Params.Len(), elementChunk, i)
	for _, r := range t.op.Decay {
		if r.To <= from || r.From >= to {
			continue
		}
		t.step(d, from, max(from, r.From), false)
		t.step(d, max(from, r.From), min(to, r.To), true)
		from = min(to, r.To)
	}
	t.step(d, from, to, false)
}

func (t *adamW) step(d *Device, from, to int, decay bool) {
	if from < to {
		d.kernels.adamw(t.op.Params.Host[from:to], t.op.Grads.Host[from:to],
			t.op.M.Host[from:to], t.op.V.Host[from:to], &t.scalars, decay)
	}
}

// AdamW implements compute.Device.
func (d *Device) AdamW(op compute.AdamW) {
	n := op.Params.Len()
	need("adamw gradients", op.Grads, n)
	need("adamw first moments", op.M, n)
	need("adamw second moments", op.V, n)
	if op.Step < 1 {
		panic(fmt.Sprintf("compute/cpu: adamw step %d, the first is 1", op.Step))
	}
	d.tasks.adamW = adamW{op: op, scalars: op.Scalars()}
	d.run(&d.tasks.adamW, parts(n, elementChunk))
}
