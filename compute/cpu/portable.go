package cpu

import (
	"math"

	"dunlin/compute"
)

// portable returns the path in plain Go: the reference of every other path.
// Sums along a row run in float64 where a comment says so, else in float32.
func portable() *kernels {
	return &kernels{
		name:                "portable",
		matmul:              portableMatMulRun,
		attention:           portableAttention,
		attentionGrad:       portableAttentionGrad,
		add:                 portableAdd,
		scale:               portableScale,
		combine:             portableCombine,
		addRows:             portableAddRows,
		sumSquares:          portableSumSquares,
		gelu:                portableGELU,
		geluGrad:            portableGELUGrad,
		layerNorm:           portableLayerNorm,
		layerNormGrad:       portableLayerNormGrad,
		layerNormGradParams: portableLayerNormGradParams,
		rmsNorm:             portableRMSNorm,
		rmsNormGrad:         portableRMSNormGrad,
		rmsNormGradGain:     portableRMSNormGradGain,
		swiGLU:              portableSwiGLU,
		swiGLUGrad:          portableSwiGLUGrad,
		rotate:              portableRotate,
		crossEntropy:        portableCrossEntropy,
		adamw:               portableAdamW,
	}
}

func portableAdd(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] + b[i]
	}
}

func portableScale(x []float32, s float32) {
	for i := range x {
		x[i] *= s
	}
}

func portableCombine(dst, a, b []float32, s, t float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = s*a[i] + t*b[i]
	}
}

func portableAddRows(dst, src []float32, rows, stride int) {
	for r := range rows {
		row := src[r*stride:][:len(dst)]
		for j := range dst {
			dst[j] += row[j]
		}
	}
}

// portableSumSquares sums in float64.
func portableSumSquares(x []float32) float64 {
	var sum float64
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}

// Constants of the tanh form of GELU.
const (
	geluRoot  = 0.7978845608028654 // √(2/π)
	geluCubic = 0.044715
)

// geluGate returns (1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 in float64, as the
// logistic function of twice the argument.
func geluGate(x float64) float64 {
	return 1 / (1 + math.Exp(-2*geluRoot*(x+geluCubic*x*x*x)))
}

func portableGELU(y, x []float32) {
	x = x[:len(y)]
	for i, v := range x {
		y[i] = float32(float64(v) * geluGate(float64(v)))
	}
}

func portableGELUGrad(dx, y, dy, x []float32) {
	y, dy, x = y[:len(dx)], dy[:len(dx)], x[:len(dx)]
	for i := range dx {
		v := float64(x[i])
		gate := geluGate(v)
		slope := 0.0
		if gate > 0 && gate < 1 { // outside, v² may overflow and the slope is 0
			slope = 2 * v * gate * (1 - gate) * geluRoot * (1 + 3*geluCubic*v*v)
		}
		dx[i], y[i] = float32(float64(dy[i])*(gate+slope)), float32(v*gate)
	}
}

// portableLayerNorm sums mean and variance in float64.
func portableLayerNorm(y, x, gain, bias []float32, eps float32) (mean, rstd float32) {
	y, gain, bias = y[:len(x)], gain[:len(x)], bias[:len(x)]
	n := float64(len(x))
	var sum float64
	for _, v := range x {
		sum += float64(v)
	}
	centre := sum / n
	var squares float64
	for _, v := range x {
		squares += (float64(v) - centre) * (float64(v) - centre)
	}
	mean, rstd = float32(centre), float32(1/math.Sqrt(squares/n+float64(eps)))
	for i, v := range x {
		y[i] = (v-mean)*rstd*gain[i] + bias[i]
	}
	return mean, rstd
}

// portableLayerNormGrad sums the row's two means in float64.
func portableLayerNormGrad(dx, dy, x, gain []float32, mean, rstd float32, accumulate bool) {
	dy, x, gain = dy[:len(dx)], x[:len(dx)], gain[:len(dx)]
	var sum, sumX float64
	for i := range dx {
		g := float64(dy[i]) * float64(gain[i])
		sum += g
		sumX += g * float64((x[i]-mean)*rstd)
	}
	n := float64(len(dx))
	meanG, meanGX := float32(sum/n), float32(sumX/n)
	for i := range dx {
		normal := (x[i] - mean) * rstd
		d := (dy[i]*gain[i] - meanG - normal*meanGX) * rstd
		if accumulate {
			d += dx[i]
		}
		dx[i] = d
	}
}

func portableLayerNormGradParams(dgain, dbias, dy, x, mean, rstd []float32, rows, stride int) {
	dbias = dbias[:len(dgain)]
	for r := range rows {
		dyRow, xRow := dy[r*stride:][:len(dgain)], x[r*stride:][:len(dgain)]
		for j := range dgain {
			dgain[j] += dyRow[j] * (xRow[j] - mean[r]) * rstd[r]
			dbias[j] += dyRow[j]
		}
	}
}

// portableCrossEntropy sums the exponentials in float64.
func portableCrossEntropy(logits []float32, target int, grad bool, scale float32) float32 {
	highest := logits[0]
	for _, v := range logits[1:] {
		highest = max(highest, v)
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v - highest))
	}
	loss := float32(math.Log(sum) + float64(highest-logits[target]))
	if !grad {
		return loss
	}
	inverse := float64(scale) / sum
	for i, v := range logits {
		logits[i] = float32(math.Exp(float64(v-highest)) * inverse)
	}
	logits[target] -= scale
	return loss
}

func portableAdamW(p, g, m, v []float32, s *compute.AdamWScalars, decay bool) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	keep := float32(1)
	if decay {
		keep = s.Keep
	}
	for i := range p {
		gi := g[i] * s.GradScale
		mi := s.Beta1*m[i] + s.OneMinusBeta1*gi
		vi := s.Beta2*v[i] + s.OneMinusBeta2*gi*gi
		m[i], v[i] = mi, vi
		root := float32(math.Sqrt(float64(vi)))*s.InvRootCorrection2 + s.Eps
		p[i] = p[i]*keep - s.StepSize*mi/root
	}
}
