package cuda

import "dunlin/compute"

// normGrid is a warp for each row, 4 warps a block.
func normGrid(rows int) (grid, block [3]uint32) {
	return [3]uint32{blocks(rows, 4), 1, 1}, [3]uint32{128, 1, 1}
}

// flag is a truth value as a kernel's argument.
func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// LayerNorm implements compute.Device.
func (d *Device) LayerNorm(op compute.LayerNorm) {
	const name = "layer norm"
	n := op.Rows * op.N
	grid, block := normGrid(op.Rows)
	d.launch(kernelLayerNorm, grid, block, need(name, op.Y, n), need(name, op.X, n), need(name, op.Gain, op.N), need(name, op.Bias, op.N),
		need(name, op.Mean, op.Rows), need(name, op.RStd, op.Rows), uint64(op.Rows), uint64(op.N), bits(op.Eps))
}

// LayerNormGrad implements compute.Device. The sums over rows come first, since
// dx may overwrite dy.
func (d *Device) LayerNormGrad(op compute.LayerNormGrad) {
	const name = "layer norm gradient"
	n := op.Rows * op.N
	dx, dy, x := need(name, op.DX, n), need(name, op.DY, n), need(name, op.X, n)
	mean, rstd := need(name, op.Mean, op.Rows), need(name, op.RStd, op.Rows)
	c := d.columns(op.Rows, op.N, 2)
	d.launch(kernelLayerNormColumns, c.grid, c.block, c.partial, dy, x, mean, rstd, uint64(op.Rows), uint64(op.N), c.chunk)
	d.addChunks(c, need(name, op.DGain, op.N), op.N, 0)
	d.addChunks(c, need(name, op.DBias, op.N), op.N, 1)
	grid, block := normGrid(op.Rows)
	d.launch(kernelLayerNormGrad, grid, block, dx, dy, x, need(name, op.Gain, op.N), mean, rstd, uint64(op.Rows), uint64(op.N), flag(op.Accumulate))
}

// RMSNorm implements compute.Device.
func (d *Device) RMSNorm(op compute.RMSNorm) {
	const name = "rms norm"
	n := op.Rows * op.N
	grid, block := normGrid(op.Rows)
	d.launch(kernelRMSNorm, grid, block, need(name, op.Y, n), need(name, op.X, n), need(name, op.Gain, op.N), need(name, op.RStd, op.Rows),
		uint64(op.Rows), uint64(op.N), bits(op.Eps))
}

// RMSNormGrad implements compute.Device. The sum over rows comes first, since dx
// may overwrite dy.
func (d *Device) RMSNormGrad(op compute.RMSNormGrad) {
	const name = "rms norm gradient"
	n := op.Rows * op.N
	dx, dy, x, rstd := need(name, op.DX, n), need(name, op.DY, n), need(name, op.X, n), need(name, op.RStd, op.Rows)
	c := d.columns(op.Rows, op.N, 1)
	d.launch(kernelRMSNormColumns, c.grid, c.block, c.partial, dy, x, rstd, uint64(op.Rows), uint64(op.N), c.chunk)
	d.addChunks(c, need(name, op.DGain, op.N), op.N, 0)
	grid, block := normGrid(op.Rows)
	d.launch(kernelRMSNormGrad, grid, block, dx, dy, x, need(name, op.Gain, op.N), rstd, uint64(op.Rows), uint64(op.N), flag(op.Accumulate))
}

// BiasGrad implements compute.Device.
func (d *Device) BiasGrad(op compute.BiasGrad) {
	const name = "bias gradient"
	dbias, dy := need(name, op.DBias, op.N), need(name, op.DY, op.Rows*op.N)
	c := d.columns(op.Rows, op.N, 1)
	d.launch(kernelBiasColumns, c.grid, c.block, c.partial, dy, uint64(op.Rows), uint64(op.N), c.chunk)
	d.addChunks(c, dbias, op.N, 0)
}

// columns is how a sum over rows is cut: into at most 64 chunks of at least 64
// rows, a function of the shape alone.
type columns struct {
	grid, block [3]uint32
	partial     uint64 // address of the chunks' sums
	chunks      int
	chunk       uint64 // rows of one
}

// columns prepares so many sums over rows of n values.
func (d *Device) columns(rows, n, sums int) columns {
	chunk := max(64, (rows+63)/64)
	chunks := int(blocks(rows, chunk))
	return columns{
		grid: [3]uint32{blocks(n, 32), uint32(chunks), 1}, block: [3]uint32{32, 8, 1},
		partial: d.scratch(&d.partial, 4*chunks*n*sums), chunks: chunks, chunk: uint64(chunk),
	}
}

// addChunks adds sum number i of all chunks to dst.
func (d *Device) addChunks(c columns, dst uint64, n, i int) {
	d.launch(kernelAddChunks, [3]uint32{blocks(n, 128), 1, 1}, [3]uint32{128, 1, 1},
		dst, c.partial+4*uint64(i*c.chunks*n), uint64(c.chunks), uint64(n))
}

// Embed implements compute.Device. Tokens are not looked at here: one outside of
// WTE reads elsewhere.
func (d *Device) Embed(op compute.Embed) {
	rows := op.B * op.T
	d.launch(kernelEmbed, [3]uint32{uint32(rows), 1, 1}, [3]uint32{128, 1, 1},
		need("embed out", op.Out, rows*op.C), needInts("embed tokens", op.Tokens, rows), need("embed words", op.WTE, op.C),
		needOptional("embed positions", op.WPE, (op.From+op.T)*op.C), uint64(op.T), uint64(op.From), uint64(op.C))
}

// EmbedGrad implements compute.Device.
func (d *Device) EmbedGrad(op compute.EmbedGrad) {
	rows := op.B * op.T
	dout := need("embed gradient", op.DOut, rows*op.C)
	d.launch(kernelEmbedGrad, [3]uint32{uint32(rows), 1, 1}, [3]uint32{128, 1, 1},
		need("embed gradient words", op.DWTE, op.C), dout, needInts("embed gradient tokens", op.Tokens, rows), uint64(rows), uint64(op.C))
	if op.DWPE.Len() > 0 {
		n := op.T * op.C
		d.launch(kernelPositionGrad, [3]uint32{blocks(n, threads), 1, 1}, [3]uint32{threads, 1, 1},
			need("embed gradient positions", op.DWPE, n), dout, uint64(op.B), uint64(n))
	}
}

// CrossEntropy implements compute.Device.
func (d *Device) CrossEntropy(op compute.CrossEntropy) {
	d.launch(kernelCrossEntropy, [3]uint32{uint32(op.Rows), 1, 1}, [3]uint32{threads, 1, 1},
		need("cross-entropy logits", op.Logits, op.Rows*op.V), need("cross-entropy losses", op.Losses, op.Rows),
		needInts("cross-entropy targets", op.Targets, op.Rows), uint64(op.V), flag(op.Grad), bits(op.Scale))
}
