//go:build (amd64 || arm64) && !noasm

package cpu

import (
	"math"

	"dunlin/compute"
)

// vectors are the assembly functions of one instruction set that work on rows
// of values. Lengths are at least 1.
type vectors struct {
	lanes     int
	add       func(dst, a, b *float32, n int)
	addRows   func(dst, src *float32, n, rows, ld int)
	scale     func(dst, src *float32, n int, s float32)
	combine   func(dst, a, b *float32, n int, s, t float32)
	scoreGrad func(dp, p *float32, n int, d, s float32)

	dot        func(a, b *float32, n int) float32
	rowMax     func(src *float32, n int) float32
	expSum     func(dst, src *float32, n int, scale, shift float32) float32
	expTotal   func(src *float32, n int, scale, shift float32) float32
	sumSquares func(src *float32, n int) float64

	gelu     func(dst, src *float32, n int)
	geluGrad func(dx, y, dy, src *float32, n int)

	layerNorm                       func(y, x, gain, bias *float32, n int, inv, eps float32) (mean, rstd float32)
	layerNormGrad, layerNormGradAdd func(dx, dy, x, gain *float32, n int, mean, rstd, inv float32)
	layerNormParams                 func(dgain, dbias, dy, x, mean, rstd *float32, n, rows, ld int)

	rmsNorm                     func(y, x, gain *float32, n int, inv, eps float32) (rstd float32)
	rmsNormGrad, rmsNormGradAdd func(dx, dy, x, gain *float32, n int, rstd, inv float32)
	rmsNormGain                 func(dgain, dy, x, rstd *float32, n, rows, ld int)

	swiGLU     func(dst, gate, up *float32, n int)
	swiGLUGrad func(dgate, dup, dy, gate, up *float32, n int)
	rotate     func(x, cos, sin *float32, n, rows, ld, half int, sign float32)

	adamW func(p, g, m, v *float32, n int, beta1, oneMinusBeta1, beta2, oneMinusBeta2, eps, gradScale, stepSize, invRoot2, keep float32)
}

// kernels returns the path that computes with v and m.
func (v *vectors) kernels(name string, m *multiplier) *kernels {
	heads := &heads{vectors: v, multiplier: m}
	return &kernels{
		name:                name,
		matmul:              m.run,
		attention:           heads.attention,
		attentionGrad:       heads.attentionGrad,
		add:                 v.addSlices,
		scale:               v.scaleSlice,
		combine:             v.combineSlices,
		addRows:             v.addRowsSlices,
		sumSquares:          v.sumSquaresSlice,
		gelu:                v.geluSlices,
		geluGrad:            v.geluGradSlices,
		layerNorm:           v.layerNormRow,
		layerNormGrad:       v.layerNormGradRow,
		layerNormGradParams: v.layerNormGradParams,
		rmsNorm:             v.rmsNormRow,
		rmsNormGrad:         v.rmsNormGradRow,
		rmsNormGradGain:     v.rmsNormGradGain,
		swiGLU:              v.swiGLURow,
		swiGLUGrad:          v.swiGLUGradRow,
		rotate:              v.rotateHeads,
		crossEntropy:        v.crossEntropy,
		adamw:               v.adamWSlices,
	}
}

func (v *vectors) addSlices(dst, a, b []float32) {
	if n := len(dst); n > 0 {
		v.add(&dst[0], &a[0], &b[0], n)
	}
}

func (v *vectors) scaleSlice(x []float32, s float32) {
	if n := len(x); n > 0 {
		v.scale(&x[0], &x[0], n, s)
	}
}

func (v *vectors) combineSlices(dst, a, b []float32, s, t float32) {
	if n := len(dst); n > 0 {
		v.combine(&dst[0], &a[0], &b[0], n, s, t)
	}
}

func (v *vectors) addRowsSlices(dst, src []float32, rows, stride int) {
	if n := len(dst); n > 0 && rows > 0 {
		v.addRows(&dst[0], &src[0], n, rows, 4*stride)
	}
}

func (v *vectors) sumSquaresSlice(x []float32) float64 {
	var sum float64
	whole := len(x) / v.lanes * v.lanes
	if whole > 0 {
		sum = v.sumSquares(&x[0], whole)
	}
	for _, f := range x[whole:] {
		sum += float64(f) * float64(f)
	}
	return sum
}

func (v *vectors) geluSlices(y, x []float32) {
	if n := len(y); n > 0 {
		v.gelu(&y[0], &x[0], n)
	}
}

func (v *vectors) geluGradSlices(dx, y, dy, x []float32) {
	if n := len(dx); n > 0 {
		v.geluGrad(&dx[0], &y[0], &dy[0], &x[0], n)
	}
}

func (v *vectors) layerNormRow(y, x, gain, bias []float32, eps float32) (mean, rstd float32) {
	n := len(y)
	return v.layerNorm(&y[0], &x[0], &gain[0], &bias[0], n, 1/float32(n), eps)
}

func (v *vectors) layerNormGradRow(dx, dy, x, gain []float32, mean, rstd float32, accumulate bool) {
	n := len(dx)
	if accumulate {
		v.layerNormGradAdd(&dx[0], &dy[0], &x[0], &gain[0], n, mean, rstd, 1/float32(n))
	} else {
		v.layerNormGrad(&dx[0], &dy[0], &x[0], &gain[0], n, mean, rstd, 1/float32(n))
	}
}

func (v *vectors) layerNormGradParams(dgain, dbias, dy, x, mean, rstd []float32, rows, stride int) {
	if n := len(dgain); n > 0 && rows > 0 {
		v.layerNormParams(&dgain[0], &dbias[0], &dy[0], &x[0], &mean[0], &rstd[0], n, rows, 4*stride)
	}
}

func (v *vectors) crossEntropy(logits []float32, target int, grad bool, scale float32) float32 {
	n := len(logits)
	highest, correct := v.rowMax(&logits[0], n), logits[target]
	if !grad {
		return highest - correct + log(v.expTotal(&logits[0], n, 1, highest))
	}
	sum := v.expSum(&logits[0], &logits[0], n, 1, highest)
	v.scale(&logits[0], &logits[0], n, scale/sum)
	logits[target] -= scale
	return highest - correct + log(sum)
}

func log(x float32) float32 { return float32(math.Log(float64(x))) }

func (v *vectors) adamWSlices(p, g, m, second []float32, s *compute.AdamWScalars, decay bool) {
	keep := float32(1)
	if decay {
		keep = s.Keep
	}
	if n := len(p); n > 0 {
		v.adamW(&p[0], &g[0], &m[0], &second[0], n, s.Beta1, s.OneMinusBeta1, s.Beta2, s.OneMinusBeta2,
			s.Eps, s.GradScale, s.StepSize, s.InvRootCorrection2, keep)
	}
}
