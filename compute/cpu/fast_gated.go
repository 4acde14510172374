//go:build (amd64 || arm64) && !noasm

package cpu

func (v *vectors) rmsNormRow(y, x, gain []float32, eps float32) (rstd float32) {
	n := len(y)
	return v.rmsNorm(&y[0], &x[0], &gain[0], n, 1/float32(n), eps)
}

func (v *vectors) rmsNormGradRow(dx, dy, x, gain []float32, rstd float32, accumulate bool) {
	n := len(dx)
	if accumulate {
		v.rmsNormGradAdd(&dx[0], &dy[0], &x[0], &gain[0], n, rstd, 1/float32(n))
	} else {
		v.rmsNormGrad(&dx[0], &dy[0], &x[0], &gain[0], n, rstd, 1/float32(n))
	}
}

func (v *vectors) rmsNormGradGain(dgain, dy, x, rstd []float32, rows, stride int) {
	if n := len(dgain); n > 0 && rows > 0 {
		v.rmsNormGain(&dgain[0], &dy[0], &x[0], &rstd[0], n, rows, 4*stride)
	}
}

func (v *vectors) swiGLURow(y, gate, up []float32) {
	if n := len(y); n > 0 {
		v.swiGLU(&y[0], &gate[0], &up[0], n)
	}
}

func (v *vectors) swiGLUGradRow(dgate, dup, dy, gate, up []float32) {
	if n := len(dgate); n > 0 {
		v.swiGLUGrad(&dgate[0], &dup[0], &dy[0], &gate[0], &up[0], n)
	}
}

func (v *vectors) rotateHeads(x, cos, sin []float32, sign float32) {
	if n := len(cos); n > 0 {
		v.rotate(&x[0], &cos[0], &sin[0], n, len(x)/(2*n), 8*n, 4*n, sign)
	}
}
