package model

import "dunlin/compute"

// extent is the rows that a pass computes: positions from..to-1 of batch
// windows. From is above 0 only with one window, when its earlier positions are
// still in the activations.
type extent struct{ batch, from, to int }

// rows returns their number.
func (e extent) rows() int { return e.batch * (e.to - e.from) }

// of returns these rows of b, which holds width values a row.
func (e extent) of(b compute.Buffer, width int) compute.Buffer {
	return rowsOf(b, e.from, e.rows(), width)
}

// rowsOf returns n rows of width values from row first.
func rowsOf(b compute.Buffer, first, n, width int) compute.Buffer {
	return b.Slice(first*width, (first+n)*width)
}

// block is one layer of the decoder: parameters, their gradients and what
// forward leaves for backward. In is the residual stream before the block.
type block interface {
	// forward sets out, the rows of e only, to the stream after the block.
	forward(in, out compute.Buffer, e extent)
	// backward adds to the parameters' gradients and turns f.stream from the
	// gradient of the block's output into that of its input. The residual sums
	// pass it on unchanged; each branch adds.
	backward(in compute.Buffer, f *flight, e extent)
}

// flight is room for gradients on their way back.
type flight struct {
	stream compute.Buffer // [rows,C] of the residual stream
	narrow compute.Buffer // [rows,C]
}

// linear is y = x·weight + bias.
type linear struct {
	dev                compute.Device
	weight, weightGrad compute.Buffer // [in,out], or [out,in] with outFirst
	bias, biasGrad     compute.Buffer // [out], or empty
	in, out            int
	outFirst           bool
}

// forward sets y [rows,out] from x [rows,in].
func (l *linear) forward(y, x compute.Buffer, rows int, e compute.Epilogue) {
	form := compute.NN
	if l.outFirst {
		form = compute.NT
	}
	e.Bias = l.bias
	l.dev.MatMul(compute.MatMul{Form: form, M: rows, N: l.out, K: l.in, A: x, B: l.weight, C: y, Epilogue: e})
}

// backward adds to the parameters' gradients and then sets dx [rows,in], which
// may be x.
func (l *linear) backward(dx, dy, x compute.Buffer, rows int) {
	if l.bias.Len() > 0 {
		l.dev.BiasGrad(compute.BiasGrad{DBias: l.biasGrad, DY: dy, Rows: rows, N: l.out})
	}
	if l.outFirst {
		l.dev.MatMul(compute.MatMul{Form: compute.TN, M: l.out, N: l.in, K: rows, A: dy, B: x, C: l.weightGrad, Accumulate: true})
		l.dev.MatMul(compute.MatMul{Form: compute.NN, M: rows, N: l.in, K: l.out, A: dy, B: l.weight, C: dx})
		return
	}
	l.dev.MatMul(compute.MatMul{Form: compute.TN, M: l.in, N: l.out, K: rows, A: x, B: dy, C: l.weightGrad, Accumulate: true})
	l.dev.MatMul(compute.MatMul{Form: compute.NT, M: rows, N: l.in, K: l.out, A: dy, B: l.weight, C: dx})
}

// norm is a normalisation of rows.
type norm interface {
	forward(y, x compute.Buffer, e extent)
	// backward adds to the parameters' gradients, and sets dx or adds to it.
	backward(dx, dy, x compute.Buffer, rows int, accumulate bool)
}

// layerNorm is GPT-2's.
type layerNorm struct {
	dev            compute.Device
	width          int
	gain, gainGrad compute.Buffer // [C]
	bias, biasGrad compute.Buffer // [C]
	mean, rstd     compute.Buffer // [rows], for the gradient
}

func (n *layerNorm) forward(y, x compute.Buffer, e extent) {
	n.dev.LayerNorm(compute.LayerNorm{
		Y: e.of(y, n.width), X: e.of(x, n.width), Gain: n.gain, Bias: n.bias,
		Mean: e.of(n.mean, 1), RStd: e.of(n.rstd, 1), Rows: e.rows(), N: n.width, Eps: layerNormEps,
	})
}

func (n *layerNorm) backward(dx, dy, x compute.Buffer, rows int, accumulate bool) {
	n.dev.LayerNormGrad(compute.LayerNormGrad{
		DX: dx, DY: dy, X: x, DGain: n.gainGrad, DBias: n.biasGrad, Gain: n.gain,
		Mean: n.mean, RStd: n.rstd, Rows: rows, N: n.width, Accumulate: accumulate,
	})
}

// rmsNorm is Llama's.
type rmsNorm struct {
	dev            compute.Device
	width          int
	eps            float32
	gain, gainGrad compute.Buffer // [C]
	rstd           compute.Buffer // [rows], for the gradient
}

func (n *rmsNorm) forward(y, x compute.Buffer, e extent) {
	n.dev.RMSNorm(compute.RMSNorm{
		Y: e.of(y, n.width), X: e.of(x, n.width), Gain: n.gain, RStd: e.of(n.rstd, 1), Rows: e.rows(), N: n.width, Eps: n.eps,
	})
}

func (n *rmsNorm) backward(dx, dy, x compute.Buffer, rows int, accumulate bool) {
	n.dev.RMSNormGrad(compute.RMSNormGrad{
		DX: dx, DY: dy, X: x, DGain: n.gainGrad, Gain: n.gain, RStd: n.rstd, Rows: rows, N: n.width, Accumulate: accumulate,
	})
}
