package main

import "math"

// exp leaves e**x in p for x in r; r and n are overwritten. The argument is
// split as n·ln 2 + r with |r| ≤ ln 2/2 and a polynomial of degree 7 taken of
// r (coefficients of the Cephes library, S. Moshier): error below 2 units in
// the last place. Above 88.73 the result is +Inf, below -103.98 zero, NaN
// stays NaN.
func (fn *function) exp(r, n, p string) {
	log2e := fn.constant(word(math.Log2E))
	high, low := fn.constant(word(0.693359375)), fn.constant(word(-2.12194440e-4))
	most, least := fn.constant(word(89)), fn.constant(word(-104))
	coefficients := []float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1, 1}
	c := make([]string, len(coefficients))
	for i, v := range coefficients {
		c[i] = fn.constant(word(v))
	}
	fn.limit(r, least, most, n)
	fn.mul(n, r, log2e)
	fn.round(n, n)
	fn.fnma(r, n, high, r)
	fn.fnma(r, n, low, r)
	fn.horner(p, r, c)
	fn.power(p, n, r)
}

// warm loads the constants of exp, so that no load stands inside of a loop.
func (fn *function) warm() {
	if fn.lanes != 8 {
		for _, v := range []float32{math.Log2E, 0.693359375, -2.12194440e-4, 89, -104, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1} {
			fn.constant(word(v))
		}
	}
	if fn.neon() {
		fn.constant(127)
	}
}

const (
	geluA = 0.7978845608028654 // √(2/π)
	geluB = 0.044715
)

// gelu's gate: leaves 1/(1+exp(-2u)) in p for x in a, with u = √(2/π)(x +
// 0.044715x³); 0.5(1 + tanh u) is that. t and n are overwritten.
func (fn *function) gate(a, t, n, p string) {
	fn.mul(t, a, a)
	fn.move(n, fn.constant(word(-2*geluA)))
	fn.fma(n, t, fn.constant(word(-2*geluA*geluB)), n)
	fn.mul(t, a, n)
	fn.exp(t, n, p)
	fn.inverseOfNext(p, n)
}

// inverseOfNext sets p to 1/(1+p); t is overwritten.
func (fn *function) inverseOfNext(p, t string) {
	fn.add(p, p, fn.constant(word(1)))
	fn.move(t, fn.constant(word(1)))
	fn.div(p, t, p)
}

func genActivations(f *file, set isa) {
	fn := f.begin(set, "gelu", "sets dst = gelu(src) in the tanh form; dst may be src.", ptr("dst"), ptr("src"), n)
	p := fn.take("dst", "src")
	fn.warm()
	fn.constant(word(-2 * geluA))
	fn.constant(word(-2 * geluA * geluB))
	fn.each(func(l loop) {
		l.load(p["src"], fn.v(0))
		fn.gate(fn.v(0), fn.v(1), fn.v(2), fn.v(3))
		fn.mul(fn.v(0), fn.v(0), fn.v(3))
		l.save(fn.v(0), p["dst"])
	})
	fn.end()

	// With σ the gate: gelu' = σ + x·σ·(1-σ)·2u', 2u' = 2√(2/π)(1 + 3·0.044715x²).
	fn = f.begin(set, "geluGrad", "sets dx = dy·gelu'(src) and y = gelu(src); dx may be dy, y may be src.", ptr("dx"), ptr("y"), ptr("dy"), ptr("src"), n)
	p = fn.take("dx", "y", "dy", "src")
	fn.warm()
	for _, v := range []float32{-2 * geluA, -2 * geluA * geluB, 2 * geluA, 6 * geluA * geluB, 12, -12} {
		fn.constant(word(v))
	}
	fn.each(func(l loop) {
		x, t, u, s := fn.v(0), fn.v(1), fn.v(2), fn.v(3)
		l.load(p["src"], x)
		// Beyond ±12 the slope is 0 or 1; without the limit, x³ would overflow.
		fn.limit(x, fn.constant(word(-12)), fn.constant(word(12)), t)
		fn.gate(x, t, u, s)
		l.load(p["src"], t)
		fn.mul(t, t, s)
		l.save(t, p["y"])
		fn.mul(t, x, x)
		fn.move(u, fn.constant(word(2*geluA)))
		fn.fma(u, t, fn.constant(word(6*geluA*geluB)), u) // 2u'
		fn.mul(t, x, u)
		fn.fnma(t, s, t, t) // t - s·t
		fn.fma(s, s, t, s)
		l.load(p["dy"], x)
		fn.mul(s, s, x)
		l.save(s, p["dx"])
	})
	fn.end()
}
