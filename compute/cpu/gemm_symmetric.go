//go:build (amd64 || arm64) && !noasm

package cpu

import "dunlin/compute"

// below returns the row after the last one that panel p of a symmetric product
// has at or above the diagonal.
func (g *matmul) below(p int) int {
	column, vectors, _ := g.split.panel(p)
	return g.column + column + vectors*g.m.lanes
}

// triangle is multiply for the part of panel p at and above the diagonal: all
// vectors for the rows above and beside the first one, then one fewer for each
// vector's height of rows.
func (g *matmul) triangle(p, from, to int, a []float32, lda int) {
	column, vectors, _ := g.split.panel(p)
	row := from
	for v := 0; v < vectors && row < to; v++ {
		end := min(to, g.column+column+(v+1)*g.m.lanes)
		if row >= end {
			continue
		}
		skip := (row - from) * lda
		if g.op.Form == compute.TN {
			skip = row - from
		}
		g.multiply(p, v, row, end, a[skip:], lda)
		row = end
	}
}

// mirrorRows is the number of rows that a part of mirror copies from.
const mirrorRows = 4 * transposeSide

// mirror copies what is above the diagonal in rows of C to below it.
func (g *matmul) mirror(i int) {
	n, c := g.op.N, g.op.C.Host
	from, to := span(n, mirrorRows, i)
	for ; from < to; from += transposeSide {
		side := min(transposeSide, to-from)
		for r := from; r < from+side; r++ { // the square on the diagonal
			for j := r + 1; j < from+side; j++ {
				c[j*n+r] = c[r*n+j]
			}
		}
		right := from + side
		if side == transposeSide {
			if squares := (n - right) / transposeSide; squares > 0 {
				transpose(&c[right*n+from], 4*n, &c[from*n+right], 4*n, squares)
				right += squares * transposeSide
			}
		}
		for r := from; r < from+side; r++ {
			for j := right; j < n; j++ {
				c[j*n+r] = c[r*n+j]
			}
		}
	}
}
