package cpu

import "dunlin/compute"

// matmulRows is the number of rows of C in a part of the portable MatMul.
const matmulRows = 16

// portableMatMul computes C row by row. Its value at (i, j) is summed over k in
// ascending order, four products at a time, in float32.
type portableMatMul struct{ op compute.MatMul }

// portableMatMulRun runs op, which is d.tasks.matmul.op, on the pool.
func portableMatMulRun(d *Device, op *compute.MatMul) {
	d.run(&d.tasks.matmul, parts(op.M, matmulRows))
}

func (t *portableMatMul) part(d *Device, worker, i int) {
	op := &t.op
	from, to := span(op.M, matmulRows, i)
	for r := from; r < to; r++ {
		stored := op.C.Host[r*op.N : (r+1)*op.N]
		row := stored
		if op.Epilogue.Residual.Len() > 0 { // which may be C
			row = d.scratch[worker].take(op.N)
			copy(row, stored)
		}
		if !op.Accumulate {
			clear(row)
		}
		switch op.Form {
		case compute.NN:
			addProducts(row, op.A.Host[r*op.K:], 1, op.B.Host, op.K)
		case compute.TN:
			addProducts(row, op.A.Host[r:], op.M, op.B.Host, op.K)
		case compute.NT:
			addDots(row, op.A.Host[r*op.K:(r+1)*op.K], op.B.Host)
		}
		epilogueRow(d.kernels, &op.Epilogue, stored, row, r)
	}
}

// addProducts adds to row the sum over k of a[k·stride] · b[k,:].
func addProducts(row, a []float32, stride int, b []float32, depth int) {
	n := len(row)
	k := 0
	for ; k+4 <= depth; k += 4 {
		a0, a1, a2, a3 := a[k*stride], a[(k+1)*stride], a[(k+2)*stride], a[(k+3)*stride]
		b0, b1, b2, b3 := b[k*n:][:n], b[(k+1)*n:][:n], b[(k+2)*n:][:n], b[(k+3)*n:][:n]
		for j := range row {
			row[j] += a0*b0[j] + a1*b1[j] + a2*b2[j] + a3*b3[j]
		}
	}
	for ; k < depth; k++ {
		axpy(row, a[k*stride], b[k*n:])
	}
}

// addDots adds to row[j] the dot product of a and b[j,:], four rows of b at once.
func addDots(row, a, b []float32) {
	depth := len(a)
	j := 0
	for ; j+4 <= len(row); j += 4 {
		b0, b1 := b[j*depth:][:depth], b[(j+1)*depth:][:depth]
		b2, b3 := b[(j+2)*depth:][:depth], b[(j+3)*depth:][:depth]
		var s0, s1, s2, s3 float32
		for k, v := range a {
			s0 += v * b0[k]
			s1 += v * b1[k]
			s2 += v * b2[k]
			s3 += v * b3[k]
		}
		row[j] += s0
		row[j+1] += s1
		row[j+2] += s2
		row[j+3] += s3
	}
	for ; j < len(row); j++ {
		row[j] += dot(a, b[j*depth:])
	}
}

// epilogueRow applies e to row r of the product and leaves the result in
// stored, row r of C, which is row itself unless there is a residual.
func epilogueRow(k *kernels, e *compute.Epilogue, stored, row []float32, r int) {
	n := len(row)
	if e.Bias.Len() > 0 {
		k.add(row, row, e.Bias.Host)
	}
	if e.Pre.Len() > 0 {
		copy(e.Pre.Host[r*n:(r+1)*n], row)
	}
	if e.GELU {
		k.gelu(row, row)
	}
	if e.Residual.Len() > 0 {
		k.add(stored, row, e.Residual.Host[r*n:(r+1)*n])
	}
}

// axpy adds s·x to y.
func axpy(y []float32, s float32, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += s * x[i]
	}
}

// dot returns the sum of x[i]·y[i], in float32 and ascending order.
func dot(x, y []float32) float32 {
	y = y[:len(x)]
	var sum float32
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}
