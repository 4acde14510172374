package computetest

import (
	"math"

	"dunlin/compute"
)

func rmsNormScenarios() []scenario {
	var all []scenario
	for _, s := range [][2]int{{1, 1}, {3, 2}, {5, 16}, {17, 33}, {40, 100}, {64, 128}, {9, 771}, {70, 5}} {
		all = append(all, scenario{named("rms norm/%dx%d", s[0], s[1]), func(r *rig) { rmsNorm(r, s[0], s[1]) }})
	}
	return all
}

func rmsNorm(r *rig, rows, n int) {
	x, dy, start := r.normal(rows*n, 2), r.normal(rows*n, 1), r.normal(rows*n, 1)
	gain, dgain := r.normal(n, 1), r.normal(n, 1)
	const eps = 1e-5

	y, rstd := make([]float64, rows*n), make([]float64, rows)
	dx, wantGain := make([]float64, rows*n), widen(dgain)
	for row := range rows {
		xs, ds := widen(x[row*n:(row+1)*n]), widen(dy[row*n:(row+1)*n])
		var squares, mean float64
		for _, v := range xs {
			squares += v * v
		}
		rstd[row] = 1 / math.Sqrt(squares/float64(n)+eps)
		for j, v := range xs {
			normal := v * rstd[row]
			y[row*n+j] = normal * float64(gain[j])
			mean += ds[j] * float64(gain[j]) * normal / float64(n)
			wantGain[j] += ds[j] * normal
		}
		for j, v := range xs {
			dx[row*n+j] = (ds[j]*float64(gain[j]) - v*rstd[row]*mean) * rstd[row]
		}
	}

	op := compute.RMSNorm{Y: r.out(rows * n), X: r.in(x), Gain: r.in(gain), RStd: r.out(rows), Rows: rows, N: n, Eps: eps}
	tol, gradTol := tolerance{abs: 1e-6, rel: 2e-6}, tolerance{abs: 1e-5, rel: 4e-6, scale: make([]float64, rows*n)}
	for i := range gradTol.scale {
		gradTol.scale[i] = rstd[i/n]
	}
	r.dev.RMSNorm(op)
	r.check("output", op.Y, y, tol)
	r.check("rstd", op.RStd, rstd, tol)
	inPlace := op
	inPlace.Y = r.buffer(x)
	inPlace.X = inPlace.Y
	r.dev.RMSNorm(inPlace)
	r.check("output in place", inPlace.Y, y, tol)

	grad := compute.RMSNormGrad{
		DX: r.out(rows * n), DY: r.in(dy), X: op.X, DGain: r.buffer(dgain), Gain: op.Gain, RStd: op.RStd, Rows: rows, N: n,
	}
	r.dev.RMSNormGrad(grad)
	r.check("input gradient", grad.DX, dx, gradTol)
	r.check("gain gradient", grad.DGain, wantGain, tolerance{abs: 2e-5, rel: 1e-5})

	grad.DX = r.buffer(dy)
	grad.DY = grad.DX
	r.dev.RMSNormGrad(grad)
	r.check("input gradient in place", grad.DX, dx, gradTol)

	grad.DX, grad.DY, grad.Accumulate = r.buffer(start), r.in(dy), true
	r.dev.RMSNormGrad(grad)
	for i := range dx {
		dx[i] += float64(start[i])
	}
	r.check("accumulated input gradient", grad.DX, dx, gradTol)
}

func swiGLUScenarios() []scenario {
	all := []scenario{{"swiglu/extremes", func(r *rig) {
		var values []float32
		for _, gate := range []float32{0, 1e-45, -1e-45, 1e-20, 80, -80, 100, -100, 1e4, -1e4, 1e30, -1e30, math.MaxFloat32, -math.MaxFloat32} {
			values = append(values, gate, 1)
		}
		swiGLU(r, len(values)/2, 1, values)
	}}}
	for _, s := range [][2]int{{1, 1}, {2, 7}, {3, 16}, {17, 33}, {5, 100}, {4, 1003}} {
		all = append(all, scenario{named("swiglu/%dx%d", s[0], s[1]), func(r *rig) { swiGLU(r, s[0], s[1], r.normal(2*s[0]*s[1], 3)) }})
	}
	return all
}

func swiGLU(r *rig, rows, n int, gateUp []float32) {
	dy := r.normal(rows*n, 1)
	y, dgateUp := make([]float64, rows*n), make([]float64, 2*rows*n)
	for row := range rows {
		for j := range n {
			g, u, d := float64(gateUp[2*row*n+j]), float64(gateUp[(2*row+1)*n+j]), float64(dy[row*n+j])
			s := 1 / (1 + math.Exp(-g))
			y[row*n+j] = g * s * u
			dgateUp[2*row*n+j] = d * u * (s + g*s*(1-s))
			dgateUp[(2*row+1)*n+j] = d * g * s
		}
	}
	tol := tolerance{abs: 2e-6, rel: 1e-6}
	op := compute.SwiGLU{Y: r.out(rows * n), GateUp: r.in(gateUp), Rows: rows, N: n}
	r.dev.SwiGLU(op)
	r.check("output", op.Y, y, tol)
	grad := compute.SwiGLUGrad{DGateUp: r.out(2 * rows * n), DY: r.in(dy), GateUp: op.GateUp, Rows: rows, N: n}
	r.dev.SwiGLUGrad(grad)
	tol.rel = 3e-6
	r.check("gradient", grad.DGateUp, dgateUp, tol)
	grad.GateUp = r.buffer(gateUp)
	grad.DGateUp = grad.GateUp
	r.dev.SwiGLUGrad(grad)
	r.check("gradient in place", grad.DGateUp, dgateUp, tol)
}

func rotaryScenarios() []scenario {
	var all []scenario
	for _, s := range [][6]int{ // B, T, heads, values a head, values of a row beside, first position
		{1, 1, 1, 2, 0, 0}, {2, 5, 3, 6, 5, 0}, {1, 9, 2, 16, 0, 4}, {3, 17, 2, 32, 64, 1}, {2, 3, 5, 64, 7, 0}, {1, 2, 3, 70, 1, 0},
	} {
		all = append(all, scenario{named("rotary/%dx%dx%dx%d+%d from %d", s[0], s[1], s[2], s[3], s[4], s[5]), func(r *rig) {
			rotary(r, compute.Rotary{B: s[0], T: s[1], H: s[2], S: s[3], Stride: s[2]*s[3] + s[4], From: s[5]})
		}})
	}
	return all
}

func rotary(r *rig, op compute.Rotary) {
	half := op.S / 2
	x, table := r.normal(op.B*op.T*op.Stride, 1), r.normal((op.From+op.T)*op.S, 1)
	forth, back := widen(x), widen(x)
	for row := range op.B * op.T {
		angles := widen(table[(op.From+row%op.T)*op.S:][:op.S])
		for h := range op.H {
			for i := range half {
				low := row*op.Stride + h*op.S + i
				a, b, cos, sin := float64(x[low]), float64(x[low+half]), angles[i], angles[half+i]
				forth[low], forth[low+half] = a*cos-b*sin, b*cos+a*sin
				back[low], back[low+half] = a*cos+b*sin, b*cos-a*sin
			}
		}
	}
	tol := tolerance{abs: 1e-6, rel: 1e-6}
	op.X, op.Table = r.buffer(x), r.in(table)
	r.dev.Rotary(op)
	r.check("turned", op.X, forth, tol)
	op.X, op.Back = r.buffer(x), true
	r.dev.Rotary(op)
	r.check("turned back", op.X, back, tol)
}
