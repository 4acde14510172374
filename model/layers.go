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
	// forward sets out, the rows of e only, to the stream after the block. Of f it
	// uses all but the stream.
	forward(in, out compute.Buffer, f *flight, e extent)
	// backward adds to the parameters' gradients and turns f.stream from the
	// gradient of the block's output into that of its input. The residual sums
	// pass it on unchanged; each branch adds.
	backward(in compute.Buffer, f *flight, e extent)
}

// flight is room for what one operation leaves to the next: a norm's output and
// the activation function's, and gradients on their way back.
type flight struct {
	stream compute.Buffer // [rows,C] gradient of the residual stream
	narrow compute.Buffer // [rows,C]
	wide   compute.Buffer // [rows,hidden]
	outside
}

// linear is y = x·weight + bias.
type linear struct {
	dev                compute.Device
	weight, weightGrad compute.Buffer // [in,out], or [out,in] with outFirst
	bias, biasGrad     compute.Buffer // [out], or empty
	in, out            int
	outFirst           bool
	replace            bool // see Room.Lend
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

// backward sets dx [rows,in], the gradient of the input.
func (l *linear) backward(dx, dy compute.Buffer, rows int) {
	form := compute.NT
	if l.outFirst {
		form = compute.NN
	}
	l.dev.MatMul(compute.MatMul{Form: form, M: rows, N: l.in, K: l.out, A: dy, B: l.weight, C: dx})
}

// gradient adds to the parameters' gradients, or replaces them.
func (l *linear) gradient(dy, x compute.Buffer, rows int) {
	if l.bias.Len() > 0 {
		if l.replace {
			l.dev.Zero(l.biasGrad)
		}
		l.dev.BiasGrad(compute.BiasGrad{DBias: l.biasGrad, DY: dy, Rows: rows, N: l.out})
	}
	op := compute.MatMul{Form: compute.TN, M: l.in, N: l.out, K: rows, A: x, B: dy, C: l.weightGrad, Accumulate: !l.replace}
	if l.outFirst {
		op.M, op.N, op.A, op.B = l.out, l.in, dy, x
	}
	l.dev.MatMul(op)
}

// norm is a normalisation of rows.
type norm interface {
	forward(y, x compute.Buffer, e extent)
	// backward adds to the parameters' gradients, or replaces them, and sets dx or
	// adds to it.
	backward(dx, dy, x compute.Buffer, rows int, accumulate bool)
}

// layerNorm is GPT-2's.
type layerNorm struct {
	dev            compute.Device
	width          int
	gain, gainGrad compute.Buffer // [C]
	bias, biasGrad compute.Buffer // [C]
	mean, rstd     compute.Buffer // [rows], for the gradient
	replace        bool           // see Room.Lend
}

func (n *layerNorm) forward(y, x compute.Buffer, e extent) {
	n.dev.LayerNorm(compute.LayerNorm{
		Y: e.of(y, n.width), X: e.of(x, n.width), Gain: n.gain, Bias: n.bias,
		Mean: e.of(n.mean, 1), RStd: e.of(n.rstd, 1), Rows: e.rows(), N: n.width, Eps: layerNormEps,
	})
}

func (n *layerNorm) backward(dx, dy, x compute.Buffer, rows int, accumulate bool) {
	if n.replace {
		n.dev.Zero(n.gainGrad)
		n.dev.Zero(n.biasGrad)
	}
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
	replace        bool           // see Room.Lend
}

func (n *rmsNorm) forward(y, x compute.Buffer, e extent) {
	n.dev.RMSNorm(compute.RMSNorm{
		Y: e.of(y, n.width), X: e.of(x, n.width), Gain: n.gain, RStd: e.of(n.rstd, 1), Rows: e.rows(), N: n.width, Eps: n.eps,
	})
}

func (n *rmsNorm) backward(dx, dy, x compute.Buffer, rows int, accumulate bool) {
	if n.replace {
		n.dev.Zero(n.gainGrad)
	}
	n.dev.RMSNormGrad(compute.RMSNormGrad{
		DX: dx, DY: dy, X: x, DGain: n.gainGrad, Gain: n.gain, RStd: n.rstd, Rows: rows, N: n.width, Accumulate: accumulate,
	})
}
