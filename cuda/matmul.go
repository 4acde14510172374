package cuda

import (
	"fmt"

	"dunlin/compute"
)

// What the epilogue of a product does, and which operands it may read by 16
// bytes: as in matmul.cu.
const (
	flagAccumulate = 1 << iota
	flagGELU
	flagWideA
	flagWideB
	flagWideC
)

// longestProduct is the most operations of one launch of a product or an attention:
// 80 ms on a card that makes half a TFLOP/s of it, the slowest that has any business
// here. A launch has a row of tiles, however long.
const longestProduct = 4e10

// product is a MatMul with its operands' addresses.
type product struct {
	m, n, k             int
	a, b, c             uint64
	bias, pre, residual uint64
	flags               uint64
}

func newProduct(op *compute.MatMul) product {
	if op.M < 1 || op.N < 1 || op.K < 1 {
		panic(fmt.Sprintf("cuda: matmul with M %d, N %d, K %d", op.M, op.N, op.K))
	}
	p := product{
		m: op.M, n: op.N, k: op.K,
		a: need("matmul A", op.A, op.M*op.K), b: need("matmul B", op.B, op.K*op.N), c: need("matmul C", op.C, op.M*op.N),
		bias: needOptional("matmul bias", op.Epilogue.Bias, op.N), pre: needOptional("matmul pre", op.Epilogue.Pre, op.M*op.N),
		residual: needOptional("matmul residual", op.Epilogue.Residual, op.M*op.N),
	}
	if op.Accumulate {
		p.flags |= flagAccumulate
	}
	if op.Epilogue.GELU {
		p.flags |= flagGELU
	}
	if aligned(op.N, p.c, p.bias, p.pre, p.residual) {
		p.flags |= flagWideC
	}
	return p
}

// aligned says that rows of n values from these addresses on can be read by 16 bytes.
func aligned(n int, addresses ...uint64) bool {
	for _, a := range addresses {
		if a%16 != 0 {
			return false
		}
	}
	return n%4 == 0
}

// from returns the product of the rows from row on, at most count; row times
// stride is what it skips of A.
func (p product) from(row, count, stride int) product {
	p.m = min(count, p.m-row)
	p.a += 4 * uint64(row*stride)
	skip := 4 * uint64(row*p.n)
	p.c += skip
	if p.pre != 0 {
		p.pre += skip
	}
	if p.residual != 0 {
		p.residual += skip
	}
	return p
}

// MatMul implements compute.Device.
func (d *Device) MatMul(op compute.MatMul) {
	p := newProduct(&op)
	if d.precision != compute.FP32 {
		d.matMul16(&op, p)
		return
	}
	lda, ldb, stride := op.K, op.N, op.K
	switch op.Form {
	case compute.NN:
	case compute.NT:
		ldb = op.K
	case compute.TN:
		lda, stride = op.M, 1
	}
	if aligned(lda, p.a) {
		p.flags |= flagWideA
	}
	if aligned(ldb, p.b) {
		p.flags |= flagWideB
	}
	edge, k := 64, kernelMatMulNN64+kernel(op.Form)
	if d.fills(op.M, op.N, 128) {
		edge, k = 128, kernelMatMulNN128+kernel(op.Form)
	}
	rows := max(edge, int(d.longest/(2*float64(op.N)*float64(op.K)))/edge*edge)
	for row := 0; row < op.M; row += rows {
		q := p.from(row, rows, stride)
		d.launch(k, [3]uint32{blocks(q.n, edge), blocks(q.m, edge), 1}, [3]uint32{256, 1, 1}, q.a, q.b, q.c,
			uint64(q.m), uint64(q.n), uint64(q.k), uint64(lda), uint64(ldb), q.bias, q.pre, q.residual, q.flags)
	}
}

// fills says that a product's tiles of that edge, of which a multiprocessor makes
// one at a time, keep more than three in four of them at work: then large tiles,
// which need less traffic, are faster than small ones.
func (d *Device) fills(m, n, edge int) bool {
	tiles, processors := int(blocks(m, edge))*int(blocks(n, edge)), max(1, d.info.Multiprocessors)
	rounds := (tiles + processors - 1) / processors
	return 4*tiles > 3*rounds*processors
}

// panel is the depth to which operands of 16 bits are filled up.
const panel = 32

// matMul16 packs both operands as 16 bits and multiplies them on tensor cores.
func (d *Device) matMul16(op *compute.MatMul, p product) {
	edge, first := 64, kernelPackAlongFP16
	if d.fills(p.m, p.n, 128) {
		edge = 128
	}
	if d.precision == compute.BF16 {
		first = kernelPackAlongBF16
	}
	multiply := first + 2
	if edge == 128 {
		multiply++
	}
	largest := uint64(0)
	if d.precision == compute.FP16 {
		largest = d.scratch(&d.largest, 8)
		d.set(largest, 0, 2)
	}
	depth := (p.k + panel - 1) / panel * panel
	a := d.pack(0, first, p.a, largest, p.m, p.k, depth, edge, op.Form != compute.TN)
	if largest != 0 {
		largest += 4
	}
	b := d.pack(1, first, p.b, largest, p.n, p.k, depth, edge, op.Form == compute.NT)
	if largest != 0 {
		largest -= 4
	}
	rows := max(edge, int(d.longest/(2*float64(p.n)*float64(p.k)))/edge*edge)
	for row := 0; row < p.m; row += rows {
		q := p.from(row, rows, 0)
		d.launch(multiply, [3]uint32{blocks(q.n, edge), blocks(q.m, edge), 1}, [3]uint32{uint32(edge) * 2, 1, 1},
			a+2*uint64(row*depth), b, q.c, largest, uint64(q.m), uint64(q.n), uint64(depth), q.bias, q.pre, q.residual, q.flags)
	}
}

// pack rounds operand i, [rows,k] or with across [k,rows], and returns its address.
// largest, unless 0, is where its greatest magnitude goes.
func (d *Device) pack(i int, first kernel, source, largest uint64, rows, k, depth, edge int, along bool) uint64 {
	padded := (rows + edge - 1) / edge * edge
	target := d.scratch(&d.packed[i], 2*padded*depth)
	if largest != 0 {
		n := rows * k
		d.launch(kernelLargest, [3]uint32{blocks(n, 4096), 1, 1}, [3]uint32{threads, 1, 1}, largest, source, uint64(n))
	}
	grid, block := [3]uint32{blocks(padded, 32), blocks(depth, 32), 1}, [3]uint32{threads, 1, 1}
	if along {
		d.launch(first, grid, block, target, source, largest, uint64(rows), uint64(k), uint64(depth), flag(aligned(k, source)))
	} else {
		d.launch(first+1, grid, block, target, source, largest, uint64(rows), uint64(k), uint64(depth))
	}
	return target
}
