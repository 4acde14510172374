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
	// The second source is what a comparison with NaN returns: keep x there.
	fn.op("VMOVUPS", most, n)
	fn.op("VMINPS", r, n, r)
	fn.op("VMOVUPS", least, n)
	fn.op("VMAXPS", r, n, r)
	fn.op("VMULPS", log2e, r, n)
	if fn.lanes == 16 {
		fn.op("VRNDSCALEPS", "$8", n, n)
	} else {
		fn.op("VROUNDPS", "$8", n, n)
	}
	fn.op("VFNMADD231PS", high, n, r)
	fn.op("VFNMADD231PS", low, n, r)
	fn.op("VMOVUPS", c[0], p)
	for _, next := range c[1:] {
		fn.op("VFMADD213PS", next, r, p)
	}
	if fn.lanes == 16 {
		fn.op("VSCALEFPS", n, p, p)
		return
	}
	// 2**n in two factors, so that results near the limits stay exact.
	bias := fn.constant(127)
	fn.op("VCVTPS2DQ", n, n)
	fn.op("VPSRAD", "$1", n, r)
	fn.op("VPSUBD", r, n, n)
	fn.op("VPADDD", bias, r, r)
	fn.op("VPSLLD", "$23", r, r)
	fn.op("VMULPS", r, p, p)
	fn.op("VPADDD", bias, n, n)
	fn.op("VPSLLD", "$23", n, n)
	fn.op("VMULPS", n, p, p)
}

// warm loads the constants of exp, so that no load stands inside of a loop.
func (fn *function) warm() {
	if fn.lanes == 16 {
		for _, v := range []float32{math.Log2E, 0.693359375, -2.12194440e-4, 89, -104, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1} {
			fn.constant(word(v))
		}
	}
}

const (
	geluA = 0.7978845608028654 // √(2/π)
	geluB = 0.044715
)

// gelu's gate: leaves 1/(1+exp(-2u)) in p for x in a, with u = √(2/π)(x +
// 0.044715x³); 0.5(1 + tanh u) is that. t and n are overwritten.
func (fn *function) gate(a, t, n, p string) {
	fn.op("VMULPS", a, a, t)
	fn.op("VMOVUPS", fn.constant(word(-2*geluA)), n)
	fn.op("VFMADD132PS", fn.constant(word(-2*geluA*geluB)), n, t)
	fn.op("VMULPS", a, t, t)
	fn.exp(t, n, p)
	fn.op("VADDPS", fn.constant(word(1)), p, p)
	fn.op("VMOVUPS", fn.constant(word(1)), n)
	fn.op("VDIVPS", p, n, p)
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
		fn.op("VMULPS", fn.v(3), fn.v(0), fn.v(0))
		l.save(fn.v(0), p["dst"])
	})
	fn.end()

	// With σ the gate: gelu' = σ + x·σ·(1-σ)·2u', 2u' = 2√(2/π)(1 + 3·0.044715x²).
	fn = f.begin(set, "geluGrad", "sets dx = dy·gelu'(src); dx may be dy.", ptr("dx"), ptr("dy"), ptr("src"), n)
	p = fn.take("dx", "dy", "src")
	fn.warm()
	for _, v := range []float32{-2 * geluA, -2 * geluA * geluB, 2 * geluA, 6 * geluA * geluB, 12, -12} {
		fn.constant(word(v))
	}
	fn.each(func(l loop) {
		x, t, s := fn.v(0), fn.v(1), fn.v(3)
		l.load(p["src"], x)
		// Beyond ±12 the slope is 0 or 1; without the limit, x³ would overflow.
		fn.op("VMOVUPS", fn.constant(word(12)), t)
		fn.op("VMINPS", x, t, x)
		fn.op("VMOVUPS", fn.constant(word(-12)), t)
		fn.op("VMAXPS", x, t, x)
		fn.gate(x, t, fn.v(2), s)
		fn.op("VMULPS", x, x, t)
		fn.op("VMOVUPS", fn.constant(word(2*geluA)), fn.v(2))
		fn.op("VFMADD132PS", fn.constant(word(6*geluA*geluB)), fn.v(2), t) // 2u'
		fn.op("VMULPS", x, t, t)
		fn.op("VFNMADD213PS", t, s, t) // t - s·t
		fn.op("VFMADD213PS", s, s, t)  // s + s·t
		l.load(p["dy"], x)
		fn.op("VMULPS", x, t, t)
		l.save(t, p["dx"])
	})
	fn.end()
}
