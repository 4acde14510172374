package cpu

import "math"

// portableRMSNorm sums the squares in float64.
func portableRMSNorm(y, x, gain []float32, eps float32) (rstd float32) {
	y, gain = y[:len(x)], gain[:len(x)]
	rstd = float32(1 / math.Sqrt(portableSumSquares(x)/float64(len(x))+float64(eps)))
	for i, v := range x {
		y[i] = v * rstd * gain[i]
	}
	return rstd
}

// portableRMSNormGrad sums the row's mean in float64.
func portableRMSNormGrad(dx, dy, x, gain []float32, rstd float32, accumulate bool) {
	dy, x, gain = dy[:len(dx)], x[:len(dx)], gain[:len(dx)]
	var sum float64
	for i := range dx {
		sum += float64(dy[i]) * float64(gain[i]) * float64(x[i]*rstd)
	}
	mean := float32(sum / float64(len(dx)))
	for i := range dx {
		d := (dy[i]*gain[i] - x[i]*rstd*mean) * rstd
		if accumulate {
			d += dx[i]
		}
		dx[i] = d
	}
}

func portableRMSNormGradGain(dgain, dy, x, rstd []float32, rows, stride int) {
	for r := range rows {
		dyRow, xRow := dy[r*stride:][:len(dgain)], x[r*stride:][:len(dgain)]
		for j := range dgain {
			dgain[j] += dyRow[j] * xRow[j] * rstd[r]
		}
	}
}

func portableSwiGLU(y, gate, up []float32) {
	gate, up = gate[:len(y)], up[:len(y)]
	for i := range y {
		g := float64(gate[i])
		y[i] = float32(g / (1 + math.Exp(-g)) * float64(up[i]))
	}
}

// portableSwiGLUGrad: silu'(g) = σ + g·σ·(1-σ) with the logistic function σ(g).
func portableSwiGLUGrad(dgate, dup, dy, gate, up []float32) {
	dup, dy, gate, up = dup[:len(dgate)], dy[:len(dgate)], gate[:len(dgate)], up[:len(dgate)]
	for i := range dgate {
		g, d, u := float64(gate[i]), float64(dy[i]), float64(up[i])
		s := 1 / (1 + math.Exp(-g))
		dgate[i] = float32(d * u * (s + g*s*(1-s)))
		dup[i] = float32(d * g * s)
	}
}

func portableRotate(x, cos, sin []float32, sign float32) {
	half := len(cos)
	sin = sin[:half]
	for at := 0; at < len(x); at += 2 * half {
		low, high := x[at:][:half], x[at+half:][:half]
		for i, c := range cos {
			s := sin[i] * sign
			low[i], high[i] = low[i]*c-high[i]*s, high[i]*c+low[i]*s
		}
	}
}
