package cpu

import (
	"fmt"

	"dunlin/compute"
)

type rmsNorm struct {
	y, x, gain, rstd []float32
	rows, n          int
	eps              float32
}

func (t *rmsNorm) part(d *Device, _, i int) {
	from, to := span(t.rows, rowChunk, i)
	for r := from; r < to; r++ {
		a, b := r*t.n, (r+1)*t.n
		t.rstd[r] = d.kernels.rmsNorm(t.y[a:b], t.x[a:b], t.gain, t.eps)
	}
}

// RMSNorm implements compute.Device.
func (d *Device) RMSNorm(op compute.RMSNorm) {
	const name = "rms norm"
	n := op.Rows * op.N
	d.tasks.rmsNorm = rmsNorm{
		y: need(name, op.Y, n), x: need(name, op.X, n), gain: need(name, op.Gain, op.N), rstd: need(name, op.RStd, op.Rows),
		rows: op.Rows, n: op.N, eps: op.Eps,
	}
	d.run(&d.tasks.rmsNorm, parts(op.Rows, rowChunk))
}

// rmsNormGrad runs twice: over columns for the gain, then over rows for dx,
// which may overwrite dy.
type rmsNormGrad struct {
	dx, dy, x, dgain, gain, rstd []float32
	rows, n                      int
	accumulate, params           bool
}

func (t *rmsNormGrad) part(d *Device, _, i int) {
	if t.params {
		from, to := span(t.n, columnChunk, i)
		d.kernels.rmsNormGradGain(t.dgain[from:to], t.dy[from:], t.x[from:], t.rstd, t.rows, t.n)
		return
	}
	from, to := span(t.rows, rowChunk, i)
	for r := from; r < to; r++ {
		a, b := r*t.n, (r+1)*t.n
		d.kernels.rmsNormGrad(t.dx[a:b], t.dy[a:b], t.x[a:b], t.gain, t.rstd[r], t.accumulate)
	}
}

// RMSNormGrad implements compute.Device.
func (d *Device) RMSNormGrad(op compute.RMSNormGrad) {
	const name = "rms norm gradient"
	n := op.Rows * op.N
	t := &d.tasks.rmsNormGrad
	*t = rmsNormGrad{
		dx: need(name, op.DX, n), dy: need(name, op.DY, n), x: need(name, op.X, n),
		dgain: need(name, op.DGain, op.N), gain: need(name, op.Gain, op.N), rstd: need(name, op.RStd, op.Rows),
		rows: op.Rows, n: op.N, accumulate: op.Accumulate, params: true,
	}
	d.run(t, parts(op.N, columnChunk))
	t.params = false
	d.run(t, parts(op.Rows, rowChunk))
}

// swiGLU is SwiGLU, or its gradient when there is a dgateUp.
type swiGLU struct {
	y, dgateUp, gateUp []float32
	rows, n            int
}

func (t *swiGLU) part(d *Device, _, i int) {
	from, to := span(t.rows, rowChunk, i)
	for r := from; r < to; r++ {
		y := t.y[r*t.n : (r+1)*t.n]
		gate, up := halves(t.gateUp, r, t.n)
		if t.dgateUp == nil {
			d.kernels.swiGLU(y, gate, up)
			continue
		}
		dgate, dup := halves(t.dgateUp, r, t.n)
		d.kernels.swiGLUGrad(dgate, dup, y, gate, up)
	}
}

// halves returns row r of [rows,2n] as its two parts.
func halves(x []float32, r, n int) (first, second []float32) {
	row := x[2*r*n : 2*(r+1)*n]
	return row[:n], row[n:]
}

// SwiGLU implements compute.Device.
func (d *Device) SwiGLU(op compute.SwiGLU) {
	const name = "swiglu"
	n := op.Rows * op.N
	d.tasks.swiGLU = swiGLU{y: need(name, op.Y, n), gateUp: need(name, op.GateUp, 2*n), rows: op.Rows, n: op.N}
	d.run(&d.tasks.swiGLU, parts(op.Rows, rowChunk))
}

// SwiGLUGrad implements compute.Device.
func (d *Device) SwiGLUGrad(op compute.SwiGLUGrad) {
	const name = "swiglu gradient"
	n := op.Rows * op.N
	d.tasks.swiGLU = swiGLU{
		y: need(name, op.DY, n), dgateUp: need(name, op.DGateUp, 2*n), gateUp: need(name, op.GateUp, 2*n), rows: op.Rows, n: op.N,
	}
	d.run(&d.tasks.swiGLU, parts(op.Rows, rowChunk))
}

type rotary struct{ op compute.Rotary }

func (t *rotary) part(d *Device, _, i int) {
	op := &t.op
	sign := float32(1)
	if op.Back {
		sign = -1
	}
	from, to := span(op.B*op.T, rowChunk, i)
	for r := from; r < to; r++ {
		angles := op.Table.Host[(op.From+r%op.T)*op.S:][:op.S]
		d.kernels.rotate(op.X.Host[r*op.Stride:][:op.H*op.S], angles[:op.S/2], angles[op.S/2:], sign)
	}
}

// Rotary implements compute.Device.
func (d *Device) Rotary(op compute.Rotary) {
	if op.T < 1 || op.From < 0 || op.H < 1 || op.S < 2 || op.S%2 != 0 || op.Stride < op.H*op.S {
		panic(fmt.Sprintf("compute/cpu: rotary of %d heads of %d values in rows of %d", op.H, op.S, op.Stride))
	}
	need("rotary x", op.X, op.B*op.T*op.Stride)
	need("rotary table", op.Table, (op.From+op.T)*op.S)
	d.tasks.rotary.op = op
	d.run(&d.tasks.rotary, parts(op.B*op.T, rowChunk))
}
