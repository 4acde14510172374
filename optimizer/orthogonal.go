package optimizer

import (
	"errors"
	"math"

	"dunlin/compute"
)

// turner finds the orthogonal factor of a matrix, U·Vᵀ of its singular value
// decomposition U·Σ·Vᵀ, about: Newton-Schulz iterations x ← z(x·xᵀ)·x with
// z(λ) = a + b·λ + c·λ² move the singular values towards 1. All that they need of x
// is its Gram matrix g = x·xᵀ, of the smaller side. So the iterations run on that,
//
//	q ← q·z(g)      g ← g·z(g)²
//
// where everything commutes and is symmetric, and x is multiplied once, by the last
// q ("Gram Newton-Schulz", Zhang, Amsel, Chen and Dao 2026). An error of g is then
// multiplied by the square of the product of all a, 5,000, which float32 has room for
// and 16 bits have not: a device that rounds the operands of its products begins anew,
// with the Gram matrix of what it has, after the first iteration, whose a is largest.
type turner struct {
	device  compute.Device
	chains  [][]polynomial    // each from the Gram matrix of what the one before left
	turned  compute.Buffer    // as large as the largest matrix
	squares [4]compute.Buffer // as large as the largest Gram matrix
}

// polynomial is z of one iteration.
type polynomial struct{ a, b, c float64 }

// polynomials are the odd ones of degree five whose chain is nearest to 1 on
// [1/100, 1], each the best for what the one before it leaves (Amsel, Persson, Musco
// and Gower, arXiv 2505.16932, theorem 3.1), for values 3 % smaller (a, b and c divided
// by 1.03, its third and its fifth power): outside of their ranges they grow steeply,
// and roundings to 16 bits lead there.
var polynomials = [...]polynomial{
	{7.857639, -21.616040, 15.049204},
	{3.530666, -2.490949, 0.462830},
	{2.583786, -1.809376, 0.390431},
}

// Where singular values end that are at least a hundredth of the bound on the largest;
// smaller ones are multiplied by up to 72.
const (
	turnedFrom = 0.70
	turnedTo   = 1.27
)

// vanishing is the norm below which a matrix counts as zero: the squares of its values
// are near the end of float32.
const vanishing = 1e-15

// openTurner makes a turner of matrices of at most so many values, whose smaller
// side is at most side.
func openTurner(c *core, values, side int) (*turner, error) {
	t := &turner{device: c.device, chains: [][]polynomial{polynomials[:]}}
	if c.device.Precision() != compute.FP32 {
		t.chains = [][]polynomial{polynomials[:1], polynomials[1:]}
	}
	var errs [1 + len(t.squares)]error
	t.turned, errs[0] = c.alloc(values)
	for i := range t.squares {
		t.squares[i], errs[1+i] = c.alloc(side * side)
	}
	return t, errors.Join(errs[:]...)
}

// orthogonal returns a matrix, in x [rows, columns] or in scratch of its size, and a
// factor: their product has x's singular vectors and singular values of about 1. It is
// zero for a vanishing x, and does not depend on x's scale.
func (t *turner) orthogonal(x compute.Buffer, rows, columns int) (turned compute.Buffer, factor float64) {
	norm := math.Sqrt(t.device.SumSquares(x))
	if norm < vanishing {
		return x, 0
	}
	factor = 1 / norm
	y := t.turned.Slice(0, x.Len())
	for i, chain := range t.chains {
		factor = t.turn(y, x, rows, columns, chain, factor, i == 0)
		x, y = y, x
	}
	return x, factor
}

// turn sets y so that y times the factor that it returns is what a chain of polynomials
// makes of factor·x; with bounds of that divided by a bound on its singular values.
func (t *turner) turn(y, x compute.Buffer, rows, columns int, chain []polynomial, factor float64, bounds bool) float64 {
	d := t.device
	side, tall := min(rows, columns), rows > columns
	buffer := func(i int) compute.Buffer { return t.squares[i].Slice(0, side*side) }
	gram, q, w, spare := buffer(0), buffer(1), buffer(2), buffer(3)
	form, depth := compute.NT, columns
	if tall {
		form, depth = compute.TN, rows
	}
	d.MatMul(compute.MatMul{Form: form, M: side, N: side, K: depth, A: x, B: x, C: gram, Symmetric: true})
	d.Scale(gram, float32(factor*factor))

	// Polynomials are divided by a, which makes them 1 + w: what is multiplied by them
	// is added to itself times w. Scale times gram is the Gram matrix of the iteration,
	// factor times 1 + q the product of all z.
	scale := 1.0
	for i, p := range chain {
		z := w
		if i == 0 {
			z = q
		}
		d.MatMul(symmetric(side, gram, gram, z))
		if i == 0 && bounds {
			// The norm of the singular values' eighth powers bounds the largest at most
			// 1.9 times too high where 128 are equal; the norm of x is then 11 times too
			// high, which would take an iteration more.
			scale = 1 / math.Sqrt(math.Sqrt(d.SumSquares(z)))
			factor *= math.Sqrt(scale)
		}
		d.Combine(z, float32(p.b/p.a*scale), gram, float32(p.c/p.a*scale*scale), z)
		if i > 0 {
			d.Combine(spare, 1, q, 1, z)
			op := symmetric(side, q, z, spare)
			op.Accumulate = true
			d.MatMul(op)
			q, spare = spare, q
		}
		factor *= p.a
		scale *= p.a * p.a
		if i < len(chain)-1 {
			t.timesOnePlus(side, z, gram, spare)
			t.timesOnePlus(side, z, spare, gram)
		}
	}
	op := compute.MatMul{Form: compute.NN, M: rows, N: columns, K: side, A: q, B: x, C: y}
	if tall {
		op.A, op.B = x, q
	}
	op.Epilogue.Residual = x
	d.MatMul(op)
	return factor
}

// timesOnePlus sets y to x·(1 + z).
func (t *turner) timesOnePlus(side int, z, x, y compute.Buffer) {
	op := symmetric(side, x, z, y)
	op.Epilogue.Residual = x
	t.device.MatMul(op)
}

// symmetric is the product of two polynomials of one symmetric matrix.
func symmetric(side int, a, b, c compute.Buffer) compute.MatMul {
	return compute.MatMul{Form: compute.NN, M: side, N: side, K: side, A: a, B: b, C: c, Symmetric: true}
}
