//go:build (amd64 || arm64) && !noasm

package cpu

import (
	"unsafe"

	"dunlin/compute"
)

// tile is what one call of a micro-kernel computes: blocks of rows of C, one
// below the other, and a few vectors wide.
//
//	C = init (zero when nil) + bias (when not nil) + A·B
//
// The generator in _asm knows the offsets. Strides are in bytes.
type tile struct {
	a, b, c, init, bias *float32
	lda, ldb, ldc       int
	ldinit              int
	k, blocks           int
	tail                int // lanes of the last vector that exist, 1..lanes
}

// How a product is cut. A panel of B (at most depthBlock × 48 values, 96 KiB)
// stays in the second-level cache while the rows of a part pass by it.
const (
	depthBlock  = 512  // words of products summed before C is written
	columnBlock = 2016 // columns packed at once, a multiple of every panel's width
	rowsBlock   = 128  // most rows of a part
)

// multiplier is the matrix product of one instruction set.
type multiplier struct {
	lanes   int // of a vector
	rows    int // of the tallest micro-kernel
	vectors int // of the widest
	dot     func(a, b *float32, n int) float32
	pairs   *pairing // nil when it multiplies float32
}

// pairing makes operands of bf16: two values that meet the other operand's in
// one sum lie side by side, in the place of one float32. To the blocking they
// are one word. ld are in bytes; n columns of at least one row.
type pairing struct {
	// narrowRows rounds rows as they lie, with zeros up to a multiple of 32 values.
	narrowRows func(dst *float32, lddst int, src *float32, ldsrc, n, rows int)
	// pairRows rounds two rows to one of pairs, with zeros up to a multiple of 16.
	pairRows func(dst *float32, lddst int, src *float32, ldsrc, n, rows int)
}

// values returns the values in a word.
func (m *multiplier) values() int {
	if m.pairs != nil {
		return 2
	}
	return 1
}

// panel computes rows rows of t's panel: as many blocks of the tallest
// micro-kernel as fit, then shorter ones. It leaves t's pointers behind the
// last row.
func (m *multiplier) panel(kMajor bool, vectors, rows int, t *tile) {
	for height := m.rows; rows > 0; height /= 2 {
		t.blocks = rows / height
		if t.blocks == 0 {
			continue
		}
		m.tile(kMajor, height, vectors, t)
		done := t.blocks * height
		rows -= done
		if rows == 0 {
			return
		}
		if kMajor {
			t.a = after(t.a, 4*done)
		} else {
			t.a = after(t.a, t.lda*done)
		}
		t.c = after(t.c, t.ldc*done)
		if t.init != nil {
			t.init = after(t.init, t.ldinit*done)
		}
	}
}

// after returns p moved by bytes, which stays inside of p's slice.
func after(p *float32, bytes int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(p), bytes))
}

// matmul is a compute.MatMul in progress: for each block of columns and depth,
// B is packed panel by panel, then rows of C are computed part by part.
type matmul struct {
	op      *compute.MatMul
	m       *multiplier
	kernels *kernels
	packed  []float32

	column, depthFrom, depth int // the block
	words                    int // of its depth
	split                    split
	packing, direct, last    bool
	mirroring                bool
	rows, groups             int       // of a part; groups of panels
	sums                     []float32 // [M,N], what micro-kernels write

	memory []float32 // packed lies in it
	apart  []float32 // sums that may not be written to C yet
}

// pack returns n values aligned to a cache line.
func (g *matmul) pack(n int) []float32 {
	g.memory, g.packed = aligned(g.memory, n)
	return g.packed
}

// run computes op on d's pool.
func (m *multiplier) run(d *Device, op *compute.MatMul) {
	if op.Form == compute.NT && op.M < 4 && m.pairs == nil {
		d.fast.dots = dots{op: op, m: m, kernels: d.kernels}
		d.run(&d.fast.dots, parts(op.N, dotColumns))
		return
	}
	g := &d.fast.matmul
	g.op, g.m, g.kernels = op, m, d.kernels
	g.sums = g.target()
	// So few rows are not worth a copy of B.
	g.direct = op.M < m.rows && op.Form != compute.NT && op.N%m.lanes == 0 && m.pairs == nil
	for g.column = 0; g.column < op.N; g.column += columnBlock {
		g.split = m.split(min(columnBlock, op.N-g.column))
		for g.depthFrom = 0; g.depthFrom < op.K; g.depthFrom += depthBlock * m.values() {
			g.depth = min(depthBlock*m.values(), op.K-g.depthFrom)
			g.words = parts(g.depth, m.values())
			g.last = g.depthFrom+g.depth == op.K
			if !g.direct {
				g.pack(g.words * g.split.width())
				g.packing = true
				d.run(g, g.split.panels)
				g.packing = false
			}
			g.cut(d.threads)
			d.run(g, parts(op.M, g.rows)*g.groups)
		}
	}
	if op.Symmetric {
		g.mirroring = true
		d.run(g, parts(op.N, mirrorRows))
		g.mirroring = false
	}
}

// cut chooses the parts of a block: enough for all threads. A value of C does
// not depend on the part it is computed in.
func (g *matmul) cut(threads int) {
	g.rows, g.groups = rowsBlock, 1
	if threads == 1 {
		return
	}
	want := 2 * threads
	for g.rows > 4*g.m.rows && parts(g.op.M, g.rows) < want {
		g.rows /= 2
	}
	g.rows = parts(g.rows, g.m.rows) * g.m.rows
	if have := parts(g.op.M, g.rows); have < want {
		g.groups = min(g.split.panels, parts(want, have))
	}
}

func (g *matmul) part(d *Device, worker, i int) {
	if g.packing {
		g.packPanel(i, &d.scratch[worker])
		return
	}
	if g.mirroring {
		g.mirror(i)
		return
	}
	op := g.op
	from, to := span(op.M, g.rows, i/g.groups)
	group := i % g.groups
	first, end := group*g.split.panels/g.groups, (group+1)*g.split.panels/g.groups
	if first == end {
		return
	}
	if op.Symmetric {
		to = min(to, g.below(end-1))
		if from >= to {
			return
		}
	}
	a, lda := g.left(from, to, &d.scratch[worker])
	for p := first; p < end; p++ {
		if op.Symmetric {
			g.triangle(p, from, to, a, lda)
		} else {
			g.multiply(p, 0, from, to, a, lda)
		}
	}
	if g.last {
		left, _, _ := g.split.panel(first)
		right := g.split.columns
		if end < g.split.panels {
			right, _, _ = g.split.panel(end)
		}
		g.epilogue(from, to, g.column+left, g.column+right)
	}
}

func (g *matmul) packPanel(i int, s *scratch) {
	op, pairs := g.op, g.m.pairs
	column, vectors, tail := g.split.panel(i)
	dst, columns := g.packed[column*g.words:], (vectors-1)*g.m.lanes+tail
	column += g.column
	if op.Form == compute.NT {
		b, ld := op.B.Host[column*op.K+g.depthFrom:], op.K
		if pairs != nil {
			b, ld = g.narrow(b, ld, columns, s)
		}
		g.split.packColumns(dst, b, ld, g.words, i)
		return
	}
	b := op.B.Host[g.depthFrom*op.N+column:]
	if pairs != nil {
		pairs.pairRows(&dst[0], 4*vectors*g.m.lanes, &b[0], 4*op.N, columns, g.depth)
	} else {
		g.split.packRows(dst, b, op.N, g.depth, i)
	}
}

// narrow rounds rows of the block's depth to pairs in s. The distance between
// rows is no power of two, so that they do not meet in one set of the cache.
func (g *matmul) narrow(x []float32, ld, rows int, s *scratch) (pairs []float32, words int) {
	words = parts(g.depth, 32)*16 + 16
	pairs = s.take(rows * words)
	g.m.pairs.narrowRows(&pairs[0], 4*words, &x[0], 4*ld, g.depth, rows)
	return pairs, words
}

// left returns rows [from, to) of the block's A, as they lie or as pairs in s.
func (g *matmul) left(from, to int, s *scratch) (a []float32, lda int) {
	op, pairs := g.op, g.m.pairs
	if op.Form != compute.TN {
		a, lda = op.A.Host[from*op.K+g.depthFrom:], op.K
		if pairs != nil {
			a, lda = g.narrow(a, lda, to-from, s)
		}
		return a, lda
	}
	a, lda = op.A.Host[g.depthFrom*op.M+from:], op.M
	if pairs != nil {
		width := parts(to-from, 16) * 16
		rounded := s.take(g.words * width)
		pairs.pairRows(&rounded[0], 4*width, &a[0], 4*lda, to-from, g.depth)
		a, lda = rounded, width
	}
	return a, lda
}

// multiply adds the block's products to rows [from, to), whose A is given, of
// panel p without its first vectors.
func (g *matmul) multiply(p, without, from, to int, a []float32, lda int) {
	op, e := g.op, &g.op.Epilogue
	column, vectors, tail := g.split.panel(p)
	skip := without * g.m.lanes
	at := from*op.N + g.column + column + skip
	t := tile{a: &a[0], lda: 4 * lda, c: &g.sums[at], ldc: 4 * op.N, ldinit: 4 * op.N, k: g.words, tail: tail}
	switch {
	case g.depthFrom > 0:
		t.init = t.c
	case op.Accumulate:
		t.init = &op.C.Host[at]
	case g.foldsResidual():
		t.init = &e.Residual.Host[at]
	}
	if g.depthFrom == 0 && e.Bias.Len() > 0 {
		t.bias = &e.Bias.Host[g.column+column+skip]
	}
	if g.direct {
		t.b, t.ldb = &op.B.Host[g.depthFrom*op.N+g.column+column+skip], 4*op.N
	} else {
		t.b, t.ldb = &g.packed[column*g.words+skip], 4*vectors*g.m.lanes
	}
	g.m.panel(op.Form == compute.TN, vectors-without, to-from, &t)
}

// foldsResidual says whether the residual is what the sums start from.
func (g *matmul) foldsResidual() bool {
	e := &g.op.Epilogue
	return e.Residual.Len() > 0 && !e.GELU && e.Pre.Len() == 0 && !g.op.Accumulate
}

// target returns where sums are kept: in C, in Pre when gelu follows, and apart
// when a residual is added at the end, which may be C itself.
func (g *matmul) target() []float32 {
	op, e := g.op, &g.op.Epilogue
	switch {
	case e.Residual.Len() > 0 && !g.foldsResidual():
		if n := op.M * op.N; len(g.apart) < n {
			g.apart = make([]float32, n)
		}
		return g.apart
	case e.Pre.Len() > 0:
		return e.Pre.Host
	default:
		return op.C.Host
	}
}

// epilogue does what is left for rows [from, to) and columns [left, right).
func (g *matmul) epilogue(from, to, left, right int) {
	e, n := &g.op.Epilogue, g.op.N
	residual := e.Residual.Len() > 0 && !g.foldsResidual()
	if !e.GELU && !residual && e.Pre.Len() == 0 {
		return
	}
	for r := from; r < to; r++ {
		a, b := r*n+left, r*n+right
		stored, sums := g.op.C.Host[a:b], g.sums[a:b]
		switch {
		case residual:
			if e.Pre.Len() > 0 {
				copy(e.Pre.Host[a:b], sums)
			}
			if e.GELU {
				g.kernels.gelu(sums, sums)
			}
			g.kernels.add(stored, sums, e.Residual.Host[a:b])
		case e.GELU:
			g.kernels.gelu(stored, sums)
		default:
			copy(stored, sums)
		}
	}
}

// dotColumns is the number of columns of a part of dots.
const dotColumns = 256

// dots is C = A·Bᵀ for a row or two, as when one token is generated: every
// value a dot product, since reading B once is all the work there is.
type dots struct {
	op      *compute.MatMul
	m       *multiplier
	kernels *kernels
}

func (t *dots) part(d *Device, worker, i int) {
	op := t.op
	from, to := span(op.N, dotColumns, i)
	row := d.scratch[worker].take(to - from)
	for r := range op.M {
		stored := op.C.Host[r*op.N+from : r*op.N+to]
		a := op.A.Host[r*op.K:]
		for j := range row {
			row[j] = t.m.dot(&a[0], &op.B.Host[(from+j)*op.K], op.K)
		}
		if op.Accumulate {
			t.kernels.add(row, row, stored)
		}
		t.epilogue(stored, row, r*op.N+from, from)
	}
}

// epilogue finishes a row of sums whose first value is at position at of C and
// in a column.
func (t *dots) epilogue(stored, row []float32, at, column int) {
	e, n := &t.op.Epilogue, len(row)
	if e.Bias.Len() > 0 {
		t.kernels.add(row, row, e.Bias.Host[column:column+n])
	}
	if e.Pre.Len() > 0 {
		copy(e.Pre.Host[at:at+n], row)
	}
	if e.GELU {
		t.kernels.gelu(row, row)
	}
	if e.Residual.Len() > 0 {
		t.kernels.add(stored, row, e.Residual.Host[at:at+n])
	} else {
		copy(stored, row)
	}
}
