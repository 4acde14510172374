package cuda

import (
	"fmt"
	"slices"

	"dunlin/compute"
	"dunlin/cuda/driver"
)

const (
	threads = 256         // of a block of an elementwise operation
	part    = 4 * threads // values that it takes
	// longest is the most values of one launch of such an operation. For the widest,
	// AdamW, they are 3.8 GB of traffic, 20 ms on a card with 190 GB/s: no kernel may
	// run for 100 ms, or a card that also draws a screen stutters.
	longest = 1 << 27
	sumPart = 1 << 14 // values of a block of sum_squares
)

// element calls launch for n values piece by piece, with a piece's first value as
// an offset in bytes.
func element(n int, launch func(grid, block [3]uint32, offset uint64, n int)) {
	for from := 0; from < n; from += longest {
		piece := min(longest, n-from)
		launch([3]uint32{blocks(piece, part), 1, 1}, [3]uint32{threads, 1, 1}, 4*uint64(from), piece)
	}
}

// Zero implements compute.Device.
func (d *Device) Zero(x compute.Buffer) {
	if p := need("zero", x, x.Len()); x.Len() > 0 {
		d.set(p, 0, x.Len())
	}
}

// Copy implements compute.Device.
func (d *Device) Copy(dst, src compute.Buffer) {
	n := dst.Len()
	to, from := need("copy", dst, n), need("copy", src, n)
	if n > 0 {
		d.queue(work{kernel: workCopy, args: [maxArgs]uint64{to, from, 4 * uint64(n)}, count: 3})
	}
}

// Add implements compute.Device.
func (d *Device) Add(dst, a, b compute.Buffer) {
	n := dst.Len()
	to, x, y := need("add", dst, n), need("add", a, n), need("add", b, n)
	element(n, func(grid, block [3]uint32, at uint64, n int) {
		d.launch(kernelAdd, grid, block, to+at, x+at, y+at, uint64(n))
	})
}

// Scale implements compute.Device.
func (d *Device) Scale(x compute.Buffer, s float32) {
	p := need("scale", x, x.Len())
	element(x.Len(), func(grid, block [3]uint32, at uint64, n int) {
		d.launch(kernelScale, grid, block, p+at, bits(s), uint64(n))
	})
}

// Combine implements compute.Device.
func (d *Device) Combine(dst compute.Buffer, s float32, a compute.Buffer, t float32, b compute.Buffer) {
	n := dst.Len()
	to, x, y := need("combine", dst, n), need("combine", a, n), need("combine", b, n)
	element(n, func(grid, block [3]uint32, at uint64, n int) {
		d.launch(kernelCombine, grid, block, to+at, bits(s), x+at, bits(t), y+at, uint64(n))
	})
}

// GELU implements compute.Device.
func (d *Device) GELU(y, x compute.Buffer) {
	n := y.Len()
	to, from := need("gelu", y, n), need("gelu", x, n)
	element(n, func(grid, block [3]uint32, at uint64, n int) {
		d.launch(kernelGELU, grid, block, to+at, from+at, uint64(n))
	})
}

// GELUGrad implements compute.Device. The gradient comes first, since y may be x.
func (d *Device) GELUGrad(dx, y, dy, x compute.Buffer) {
	n := dx.Len()
	to, slope, from := need("gelu gradient", dx, n), need("gelu gradient", dy, n), need("gelu gradient", x, n)
	element(n, func(grid, block [3]uint32, at uint64, n int) {
		d.launch(kernelGELUGrad, grid, block, to+at, slope+at, from+at, uint64(n))
	})
	d.GELU(y, x)
}

// SumSquares implements compute.Device. After an error it is NaN.
func (d *Device) SumSquares(x compute.Buffer) float64 {
	n := x.Len()
	p := need("sum of squares", x, n)
	if n == 0 {
		return 0
	}
	count := int(blocks(n, sumPart))
	partial := d.scratch(&d.partial, 8*(count+1))
	total := partial + 8*uint64(count)
	block := [3]uint32{threads, 1, 1}
	d.launch(kernelSumSquares, [3]uint32{uint32(count), 1, 1}, block, partial, p, uint64(n))
	d.launch(kernelSumPartial, [3]uint32{1, 1, 1}, block, total, partial, uint64(count))
	return d.readFloat64(total)
}

// wide is a grid of rows × columns, for kernels that step over rows themselves
// when there are more than a grid's second extent can hold.
func wide(rows, columns int) (grid, block [3]uint32) {
	width := min(threads, int(blocks(columns, 32))*32)
	return [3]uint32{blocks(columns, width), uint32(min(rows, 65535)), 1}, [3]uint32{uint32(width), 1, 1}
}

// SwiGLU implements compute.Device.
func (d *Device) SwiGLU(op compute.SwiGLU) {
	const name = "swiglu"
	n := op.Rows * op.N
	grid, block := wide(op.Rows, op.N)
	d.launch(kernelSwiGLU, grid, block, need(name, op.Y, n), need(name, op.GateUp, 2*n), uint64(op.Rows), uint64(op.N))
}

// SwiGLUGrad implements compute.Device.
func (d *Device) SwiGLUGrad(op compute.SwiGLUGrad) {
	const name = "swiglu gradient"
	n := op.Rows * op.N
	grid, block := wide(op.Rows, op.N)
	d.launch(kernelSwiGLUGrad, grid, block,
		need(name, op.DGateUp, 2*n), need(name, op.DY, n), need(name, op.GateUp, 2*n), uint64(op.Rows), uint64(op.N))
}

// Rotary implements compute.Device.
func (d *Device) Rotary(op compute.Rotary) {
	if op.T < 1 || op.From < 0 || op.H < 1 || op.S < 2 || op.S%2 != 0 || op.Stride < op.H*op.S {
		panic(fmt.Sprintf("cuda: rotary of %d heads of %d values in rows of %d", op.H, op.S, op.Stride))
	}
	rows, sign := op.B*op.T, float32(1)
	if op.Back {
		sign = -1
	}
	grid, block := wide(rows, op.H*op.S/2)
	d.launch(kernelRotary, grid, block, need("rotary x", op.X, rows*op.Stride), need("rotary table", op.Table, (op.From+op.T)*op.S),
		uint64(rows), uint64(op.T), uint64(op.From), uint64(op.H), uint64(op.S/2), uint64(op.Stride), bits(sign))
}

// decayTable is the ranges of an AdamW on the card, where they stay: they are
// those of a model, the same at each step.
type decayTable struct {
	ranges  []compute.Range
	address driver.Pointer
}

// maxTables bounds how many are kept: Muon steps each tensor that it leaves to
// AdamW by itself.
const maxTables = 256

// table returns the address of ranges on the card, 0 for none.
func (d *Device) table(ranges []compute.Range) uint64 {
	if len(ranges) == 0 || d.err != nil {
		return 0
	}
	for i := range d.tables {
		if slices.Equal(d.tables[i].ranges, ranges) {
			return uint64(d.tables[i].address)
		}
	}
	if len(d.tables) == maxTables {
		d.memory.give(d.tables[0].address)
		d.tables = slices.Delete(d.tables, 0, 1)
	}
	values := make([]int64, 0, 2*len(ranges))
	for _, r := range ranges {
		values = append(values, int64(r.From), int64(r.To))
	}
	d.flush() // a full card gives back what nobody uses, which what waits may use still
	p, err := d.memory.take(8 * len(values))
	if err != nil {
		d.note("ranges of adamw", err)
		return 0
	}
	d.tables = append(d.tables, decayTable{slices.Clone(ranges), p})
	d.upload(uint64(p), bytesOf(values))
	return uint64(p)
}

// AdamW implements compute.Device.
func (d *Device) AdamW(op compute.AdamW) {
	n := op.Params.Len()
	params, grads := need("adamw parameters", op.Params, n), need("adamw gradients", op.Grads, n)
	m, v := need("adamw first moments", op.M, n), need("adamw second moments", op.V, n)
	if op.Step < 1 {
		panic(fmt.Sprintf("cuda: adamw step %d, the first is 1", op.Step))
	}
	s, table := op.Scalars(), d.table(op.Decay)
	for from := 0; from < n; from += longest {
		piece, at := min(longest, n-from), 4*uint64(from)
		grid, block := [3]uint32{blocks(piece, part), 1, 1}, [3]uint32{threads, 1, 1}
		d.launch(kernelAdamW, grid, block, params+at, grads+at, m+at, v+at, table, uint64(len(op.Decay)),
			bits(s.Beta1), bits(s.OneMinusBeta1), bits(s.Beta2), bits(s.OneMinusBeta2), bits(s.Eps), bits(s.GradScale),
			bits(s.StepSize), bits(s.InvRootCorrection2), bits(s.Keep), uint64(from), uint64(piece))
	}
}
