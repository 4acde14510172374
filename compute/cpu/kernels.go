package cpu

import "dunlin/compute"

// The assembly and its declarations, on any machine:
//
//go:generate go run -C _asm . cpu ..

// kernels are the inner loops of one path. They work on host slices, start no
// goroutine and keep no state. All slices of a call are long enough; the
// Device has checked. A path that has nothing better takes portable's function.
type kernels struct {
	name string

	// matmul runs the whole operation on d's pool, since packing and the
	// split of work belong to the kernel. It may use d.run and d.scratch.
	matmul func(d *Device, op *compute.MatMul)
	// matmulBF16 is matmul with both operands rounded to bf16. A path without
	// such instructions has none.
	matmulBF16 func(d *Device, op *compute.MatMul)
	// attention computes query head h of batch element b, attentionGrad all
	// query heads that share key and value head h. They write only those
	// heads' outputs; op.KV is never 0. Scratch is the calling worker's own.
	attention     func(op *compute.Attention, b, h int, s *scratch)
	attentionGrad func(op *compute.AttentionGrad, b, h int, s *scratch)

	// add sets dst to a + b; dst may be a or b.
	add func(dst, a, b []float32)
	// scale multiplies x by s.
	scale func(x []float32, s float32)
	// combine sets dst to s·a + t·b; dst may be a or b.
	combine func(dst, a, b []float32, s, t float32)
	// addRows adds src[r·stride+j] over all rows r to dst[j], j < len(dst).
	addRows func(dst, src []float32, rows, stride int)
	// sumSquares returns the sum of squares of at most sumChunk values.
	sumSquares func(x []float32) float64

	// gelu sets y to gelu(x); y may be x.
	gelu func(y, x []float32)
	// geluGrad sets dx to dy·gelu'(x) and y to gelu(x); dx may be dy, y may be x.
	geluGrad func(dx, y, dy, x []float32)

	// layerNorm normalises one row; y may be x.
	layerNorm func(y, x, gain, bias []float32, eps float32) (mean, rstd float32)
	// layerNormGrad computes one row's dx, added to dx when accumulate.
	layerNormGrad func(dx, dy, x, gain []float32, mean, rstd float32, accumulate bool)
	// layerNormGradParams adds to dgain and dbias (a range of columns) over
	// all rows; dy and x begin at the range's first column of row 0.
	layerNormGradParams func(dgain, dbias, dy, x, mean, rstd []float32, rows, stride int)

	// rmsNorm normalises one row; y may be x.
	rmsNorm func(y, x, gain []float32, eps float32) (rstd float32)
	// rmsNormGrad computes one row's dx, added to dx when accumulate.
	rmsNormGrad func(dx, dy, x, gain []float32, rstd float32, accumulate bool)
	// rmsNormGradGain adds to dgain (a range of columns) over all rows; dy and x
	// begin at the range's first column of row 0.
	rmsNormGradGain func(dgain, dy, x, rstd []float32, rows, stride int)

	// swiGLU sets one row of y to silu(gate)·up.
	swiGLU func(y, gate, up []float32)
	// swiGLUGrad computes one row; dgate may be gate and dup may be up.
	swiGLUGrad func(dgate, dup, dy, gate, up []float32)
	// rotate turns every head of 2·len(cos) values in x by the angles, the
	// other way when sign is -1 instead of 1.
	rotate func(x, cos, sin []float32, sign float32)

	// crossEntropy returns a row's loss; with grad it replaces the logits by
	// (softmax - onehot)·scale.
	crossEntropy func(logits []float32, target int, grad bool, scale float32) float32

	// adamw steps equally long pieces of parameters, gradients and moments;
	// decay says whether weight decay applies to them.
	adamw func(p, g, m, v []float32, s *compute.AdamWScalars, decay bool)
}

// available returns the paths this machine can run, best first; the last is
// always portable.
func available() []*kernels {
	return append(fastKernels(), portable())
}

// Paths returns the names of the paths this machine can run, best first.
func Paths() []string {
	var names []string
	for _, k := range available() {
		names = append(names, k.name)
	}
	return names
}
