package main

import (
	"fmt"
	"math"
)

// loop is the inside of an elementwise function: the same body is written for
// whole vectors and for the last, shorter one.
type loop struct {
	fn     *function
	masked bool
}

const (
	index = "AX" // elements done
	count = "CX" // elements in all, less one vector
)

// pointers are the registers that hold pointer parameters, in their order.
var pointers = []string{"SI", "DI", "DX", "BX", "R8", "R9", "R10"}

// take loads pointer parameters into registers and returns them by name.
func (fn *function) take(names ...string) map[string]string {
	regs := map[string]string{}
	for i, name := range names {
		regs[name] = pointers[i]
		fn.op("MOVQ", fn.arg(name), pointers[i])
	}
	return regs
}

// mask is the AVX2 register that holds the lanes of the last vector.
func (fn *function) mask() string { return fn.v(fn.regs - 1) }

// load reads the vector at pointer, zeros in the lanes past the end.
func (l loop) load(pointer, r string) { l.loadFrom(at(0, pointer, index, 4), r) }

// loadFrom is load from any memory operand.
func (l loop) loadFrom(mem, r string) {
	switch {
	case !l.masked:
		l.fn.op("VMOVUPS", mem, r)
	case l.fn.lanes == 16:
		l.fn.op("VMOVUPS.Z", mem, "K1", r)
	default:
		l.fn.op("VMASKMOVPS", mem, l.fn.mask(), r)
	}
}

// save writes the lanes of r that are inside.
func (l loop) save(r, pointer string) {
	mem := at(0, pointer, index, 4)
	switch {
	case !l.masked:
		l.fn.op("VMOVUPS", r, mem)
	case l.fn.lanes == 16:
		l.fn.op("VMOVUPS", r, "K1", mem)
	default:
		l.fn.op("VMASKMOVPS", r, l.fn.mask(), mem)
	}
}

// clip zeroes the lanes of r past the end.
func (l loop) clip(r string) {
	switch {
	case !l.masked:
	case l.fn.lanes == 16:
		l.fn.op("VMOVAPS.Z", r, "K1", r)
	default:
		l.fn.op("VANDPS", l.fn.mask(), r, r)
	}
}

// each writes the loop over the n elements.
func (fn *function) each(body func(l loop)) {
	again, tail, done := fn.label("vector"), fn.label("tail"), fn.label("done")
	fn.op("XORQ", index, index)
	fn.op("MOVQ", fn.arg("n"), count)
	fn.op("SUBQ", fmt.Sprintf("$%d", fn.lanes), count)
	fn.op("JLT", tail)
	fn.op("PCALIGN", "$32")
	fn.place(again)
	body(loop{fn: fn})
	fn.op("ADDQ", fmt.Sprintf("$%d", fn.lanes), index)
	fn.op("CMPQ", index, count)
	fn.op("JLE", again)
	fn.place(tail)
	fn.op("ADDQ", fmt.Sprintf("$%d", fn.lanes), count)
	fn.op("SUBQ", index, count)
	fn.op("JEQ", done)
	if fn.lanes == 16 {
		fn.op("MOVL", "$1", "R11")
		fn.op("SHLL", count, "R11")
		fn.op("DECL", "R11")
		fn.op("KMOVW", "R11", "K1")
	} else {
		fn.loadMask(count, "R11", fn.mask())
	}
	body(loop{fn: fn, masked: true})
	fn.place(done)
}

// sum adds the lanes of register r into its lane 0, always in the same order;
// t is overwritten.
func (fn *function) sum(r, t int) { fn.fold("VADDPS", r, t) }

// fold combines the lanes of register r into its lane 0 with an instruction.
func (fn *function) fold(mnemonic string, r, t int) {
	y := func(i int) string { return fmt.Sprintf("Y%d", i) }
	if fn.lanes == 16 {
		fn.op("VEXTRACTF64X4", "$1", fn.v(r), y(t))
		fn.op(mnemonic, y(t), y(r), y(r))
	}
	fn.op("VEXTRACTF128", "$1", y(r), x(t))
	fn.op(mnemonic, x(t), x(r), x(r))
	fn.op("VPERMILPS", "$0x4e", x(r), x(t))
	fn.op(mnemonic, x(t), x(r), x(r))
	fn.op("VPERMILPS", "$0xb1", x(r), x(t))
	fn.op(mnemonic, x(t), x(r), x(r))
}

func word(f float32) uint32 { return math.Float32bits(f) }

// exp leaves e**x in p for x in r; r and n are overwritten. The argument is
// split as n·ln 2 + r with |r| ≤ ln 2/2 and a polynomial of degree 6 taken of
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

var (
	ptr = func(name string) param { return param{name, "*float32"} }
	num = func(name string) param { return param{name, "float32"} }
	n   = param{"n", "int"}
	ret = param{"ret", "float32"}
)

func genElementwise(f *file, set isa) {
	fn := f.begin(set, "add", "sets dst = a + b.", ptr("dst"), ptr("a"), ptr("b"), n)
	p := fn.take("dst", "a", "b")
	fn.each(func(l loop) {
		l.load(p["a"], fn.v(0))
		l.load(p["b"], fn.v(1))
		fn.op("VADDPS", fn.v(1), fn.v(0), fn.v(0))
		l.save(fn.v(0), p["dst"])
	})
	fn.end()

	fn = f.begin(set, "addRows", "adds to dst the sum of rows ≥ 1 rows of src, ld bytes apart.",
		ptr("dst"), ptr("src"), n, param{"rows", "int"}, param{"ld", "int"})
	p = fn.take("dst", "src", "ld")
	fn.each(func(l loop) {
		l.load(p["dst"], fn.v(0))
		fn.zero(fn.v(1))
		fn.overRows(p["src"], p["ld"], 2, func(i int, row string) {
			l.loadFrom(row, fn.v(2+i))
			fn.op("VADDPS", fn.v(2+i), fn.v(i), fn.v(i))
		})
		fn.op("VADDPS", fn.v(1), fn.v(0), fn.v(0))
		l.save(fn.v(0), p["dst"])
	})
	fn.end()

	fn = f.begin(set, "scale", "sets dst = s·src; dst may be src.", ptr("dst"), ptr("src"), n, num("s"))
	p = fn.take("dst", "src")
	s := fn.broadcastBelowMask("s")
	fn.each(func(l loop) {
		l.load(p["src"], fn.v(0))
		fn.op("VMULPS", s, fn.v(0), fn.v(0))
		l.save(fn.v(0), p["dst"])
	})
	fn.end()

	fn = f.begin(set, "scoreGrad", "sets dp = p·(dp - d)·s, the gradient of a row of attention scores.",
		ptr("dp"), ptr("p"), n, num("d"), num("s"))
	p = fn.take("dp", "p")
	d := fn.broadcastBelowMask("d")
	s = fn.broadcastBelowMask("s")
	fn.each(func(l loop) {
		l.load(p["dp"], fn.v(0))
		l.load(p["p"], fn.v(1))
		fn.op("VSUBPS", d, fn.v(0), fn.v(0))
		fn.op("VMULPS", s, fn.v(1), fn.v(1))
		fn.op("VMULPS", fn.v(1), fn.v(0), fn.v(0))
		l.save(fn.v(0), p["dp"])
	})
	fn.end()
}

// overRows writes a loop over the rows of a column of vectors: body(i, memory)
// for row i of each group and for the single rows that are left. R12 and R13
// are overwritten.
func (fn *function) overRows(src, ld string, group int, body func(i int, row string)) {
	again, rest, single, done := fn.label("rows"), fn.label("rest"), fn.label("row"), fn.label("rowsDone")
	fn.op("LEAQ", at(0, src, index, 4), "R12")
	fn.op("MOVQ", fn.arg("rows"), "R13")
	fn.op("SUBQ", fmt.Sprintf("$%d", group), "R13")
	fn.op("JLT", rest)
	fn.place(again)
	for i := range group {
		body(i, "(R12)")
		fn.op("ADDQ", ld, "R12")
	}
	fn.op("SUBQ", fmt.Sprintf("$%d", group), "R13")
	fn.op("JGE", again)
	fn.place(rest)
	fn.op("ADDQ", fmt.Sprintf("$%d", group), "R13")
	fn.op("JEQ", done)
	fn.place(single)
	body(0, "(R12)")
	fn.op("ADDQ", ld, "R12")
	fn.op("DECQ", "R13")
	fn.op("JNE", single)
	fn.place(done)
}

// broadcastBelowMask is broadcast, keeping AVX2's mask register free.
func (fn *function) broadcastBelowMask(name string) string {
	if fn.lanes == 8 && fn.next == fn.regs-1 {
		fn.next--
	}
	return fn.broadcast(name)
}

func genReductions(f *file, set isa) {
	fn := f.begin(set, "dot", "returns the sum of a·b.", ptr("a"), ptr("b"), n, ret)
	p := fn.take("a", "b")
	fn.zero(fn.v(0))
	fn.each(func(l loop) {
		l.load(p["a"], fn.v(1))
		l.load(p["b"], fn.v(2))
		fn.op("VFMADD231PS", fn.v(1), fn.v(2), fn.v(0))
	})
	fn.sum(0, 1)
	fn.op("VMOVSS", x(0), fn.arg("ret"))
	fn.end()

	// The lanes past the end are taken one by one: a zero could be the maximum.
	fn = f.begin(set, "rowMax", "returns the largest of n ≥ 1 values; NaN may be passed over.", ptr("src"), n, ret)
	p = fn.take("src")
	fn.op("VBROADCASTSS", at(0, p["src"]), fn.v(0))
	fn.op("MOVQ", fn.arg("n"), count)
	again, single, done, fold := fn.label("vector"), fn.label("single"), fn.label("done"), fn.label("fold")
	fn.op("SUBQ", fmt.Sprintf("$%d", fn.lanes), count)
	fn.op("JLT", fold)
	fn.place(again)
	fn.op("VMAXPS", at(0, p["src"]), fn.v(0), fn.v(0))
	fn.op("ADDQ", fmt.Sprintf("$%d", 4*fn.lanes), p["src"])
	fn.op("SUBQ", fmt.Sprintf("$%d", fn.lanes), count)
	fn.op("JGE", again)
	fn.place(fold)
	fn.fold("VMAXPS", 0, 1)
	fn.op("ADDQ", fmt.Sprintf("$%d", fn.lanes), count)
	fn.op("JEQ", done)
	fn.place(single)
	fn.op("VMAXSS", at(0, p["src"]), x(0), x(0))
	fn.op("ADDQ", "$4", p["src"])
	fn.op("DECQ", count)
	fn.op("JNE", single)
	fn.place(done)
	fn.op("VMOVSS", x(0), fn.arg("ret"))
	fn.end()

	for _, keep := range []bool{true, false} {
		if keep {
			fn = f.begin(set, "expSum", "sets dst = exp(scale·src - shift) and returns the sum; dst may be src.",
				ptr("dst"), ptr("src"), n, num("scale"), num("shift"), ret)
			p = fn.take("dst", "src")
		} else {
			fn = f.begin(set, "expTotal", "returns the sum of exp(scale·src - shift).",
				ptr("src"), n, num("scale"), num("shift"), ret)
			p = fn.take("src")
		}
		scale := fn.broadcastBelowMask("scale")
		shift := fn.broadcastBelowMask("shift")
		fn.warm()
		fn.zero(fn.v(0))
		fn.each(func(l loop) {
			l.load(p["src"], fn.v(1))
			fn.op("VFMSUB213PS", shift, scale, fn.v(1))
			fn.exp(fn.v(1), fn.v(2), fn.v(3))
			l.clip(fn.v(3))
			fn.op("VADDPS", fn.v(3), fn.v(0), fn.v(0))
			if keep {
				l.save(fn.v(3), p["dst"])
			}
		})
		fn.sum(0, 1)
		fn.op("VMOVSS", x(0), fn.arg("ret"))
		fn.end()
	}

	// Sums of squares in float64, n a multiple of the lanes.
	fn = f.begin(set, "sumSquares", fmt.Sprintf("returns the float64 sum of squares of n values, n a multiple of %d.", set.lanes),
		ptr("src"), n, param{"ret", "float64"})
	p = fn.take("src")
	fn.op("MOVQ", fn.arg("n"), count)
	for i := range 4 {
		fn.zero(fn.v(i))
	}
	again, done = fn.label("vector"), fn.label("done")
	fn.op("TESTQ", count, count)
	fn.op("JEQ", done)
	fn.place(again)
	for i := range 2 {
		fn.op("VCVTPS2PD", at(2*fn.lanes*i, p["src"]), fn.v(4+i))
		fn.op("VFMADD231PD", fn.v(4+i), fn.v(4+i), fn.v(i))
	}
	fn.op("ADDQ", fmt.Sprintf("$%d", 4*fn.lanes), p["src"])
	fn.op("SUBQ", fmt.Sprintf("$%d", fn.lanes), count)
	fn.op("JNE", again)
	fn.place(done)
	fn.op("VADDPD", fn.v(1), fn.v(0), fn.v(0))
	if fn.lanes == 16 {
		fn.op("VEXTRACTF64X4", "$1", "Z0", "Y1")
		fn.op("VADDPD", "Y1", "Y0", "Y0")
	}
	fn.op("VEXTRACTF128", "$1", "Y0", "X1")
	fn.op("VADDPD", "X1", "X0", "X0")
	fn.op("VPERMILPD", "$1", "X0", "X1")
	fn.op("VADDSD", "X1", "X0", "X0")
	fn.op("VMOVSD", "X0", fn.arg("ret"))
	fn.end()
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

func genLayerNorm(f *file, set isa) {
	fn := f.begin(set, "layerNorm", "normalises one row of n values, inv = 1/n, and returns its mean and 1/deviation.",
		ptr("y"), ptr("x"), ptr("gain"), ptr("bias"), n, num("inv"), num("eps"), num("retMean"), num("retRStd"))
	p := fn.take("y", "x", "gain", "bias")
	fn.zero(fn.v(0))
	fn.each(func(l loop) {
		l.load(p["x"], fn.v(2))
		fn.op("VADDPS", fn.v(2), fn.v(0), fn.v(0))
	})
	fn.sum(0, 1)
	fn.op("VMULSS", fn.arg("inv"), x(0), x(0))
	fn.op("VMOVSS", x(0), fn.arg("retMean"))
	mean := fn.v(4)
	fn.op("VBROADCASTSS", x(0), mean)
	fn.zero(fn.v(0))
	fn.each(func(l loop) {
		l.load(p["x"], fn.v(2))
		fn.op("VSUBPS", mean, fn.v(2), fn.v(2))
		l.clip(fn.v(2))
		fn.op("VFMADD231PS", fn.v(2), fn.v(2), fn.v(0))
	})
	fn.sum(0, 1)
	fn.op("VMULSS", fn.arg("inv"), x(0), x(0))
	fn.op("VADDSS", fn.arg("eps"), x(0), x(0))
	fn.op("VSQRTSS", x(0), x(0), x(0))
	fn.op("VMOVSS", fn.word(word(1))+"(SB)", x(1))
	fn.op("VDIVSS", x(0), x(1), x(0))
	fn.op("VMOVSS", x(0), fn.arg("retRStd"))
	rstd := fn.v(5)
	fn.op("VBROADCASTSS", x(0), rstd)
	fn.each(func(l loop) {
		l.load(p["x"], fn.v(2))
		l.load(p["gain"], fn.v(0))
		l.load(p["bias"], fn.v(1))
		fn.op("VSUBPS", mean, fn.v(2), fn.v(2))
		fn.op("VMULPS", rstd, fn.v(2), fn.v(2))
		fn.op("VFMADD213PS", fn.v(1), fn.v(0), fn.v(2))
		l.save(fn.v(2), p["y"])
	})
	fn.end()

	for _, accumulate := range []bool{false, true} {
		name, doc := "layerNormGrad", "sets dx (which may be dy) to"
		if accumulate {
			name, doc = "layerNormGradAdd", "adds to dx"
		}
		fn = f.begin(set, name, doc+" the gradient of one row; inv = 1/n.",
			ptr("dx"), ptr("dy"), ptr("x"), ptr("gain"), n, num("mean"), num("rstd"), num("inv"))
		p = fn.take("dx", "dy", "x", "gain")
		mean, rstd := fn.broadcastBelowMask("mean"), fn.broadcastBelowMask("rstd")
		hat := func(l loop, r string) {
			l.load(p["x"], r)
			fn.op("VSUBPS", mean, r, r)
			fn.op("VMULPS", rstd, r, r)
		}
		// v0: sum of dy·gain, v1: sum of dy·gain·x̂.
		fn.zero(fn.v(0))
		fn.zero(fn.v(1))
		fn.each(func(l loop) {
			hat(l, fn.v(2))
			l.load(p["dy"], fn.v(3))
			l.load(p["gain"], fn.v(4))
			fn.op("VMULPS", fn.v(4), fn.v(3), fn.v(3))
			fn.op("VADDPS", fn.v(3), fn.v(0), fn.v(0))
			fn.op("VFMADD231PS", fn.v(3), fn.v(2), fn.v(1))
		})
		fn.sum(0, 2)
		fn.sum(1, 2)
		fn.op("VMULSS", fn.arg("inv"), x(0), x(0))
		fn.op("VMULSS", fn.arg("inv"), x(1), x(1))
		fn.op("VBROADCASTSS", x(0), fn.v(0))
		fn.op("VBROADCASTSS", x(1), fn.v(1))
		fn.each(func(l loop) {
			hat(l, fn.v(2))
			l.load(p["dy"], fn.v(3))
			l.load(p["gain"], fn.v(4))
			fn.op("VFMSUB213PS", fn.v(0), fn.v(4), fn.v(3))
			fn.op("VFNMADD231PS", fn.v(1), fn.v(2), fn.v(3))
			if accumulate {
				l.load(p["dx"], fn.v(4))
				fn.op("VFMADD213PS", fn.v(4), rstd, fn.v(3))
			} else {
				fn.op("VMULPS", rstd, fn.v(3), fn.v(3))
			}
			l.save(fn.v(3), p["dx"])
		})
		fn.end()
	}
}

func genLayerNormParams(f *file, set isa) {
	fn := f.begin(set, "layerNormParams", "adds to dgain and dbias over rows ≥ 1 rows of dy and x, ld bytes apart.",
		ptr("dgain"), ptr("dbias"), ptr("dy"), ptr("x"), ptr("mean"), ptr("rstd"), n, param{"rows", "int"}, param{"ld", "int"})
	p := fn.take("dgain", "dbias", "dy", "x", "mean", "rstd", "ld")
	fn.each(func(l loop) {
		l.load(p["dgain"], fn.v(0))
		l.load(p["dbias"], fn.v(1))
		fn.op("LEAQ", at(0, p["dy"], index, 4), "R15")
		fn.op("XORQ", "R11", "R11")
		fn.overRows(p["x"], p["ld"], 1, func(_ int, row string) {
			l.loadFrom(row, fn.v(2))
			fn.op("VBROADCASTSS", at(0, p["mean"], "R11", 4), fn.v(3))
			fn.op("VSUBPS", fn.v(3), fn.v(2), fn.v(2))
			fn.op("VBROADCASTSS", at(0, p["rstd"], "R11", 4), fn.v(3))
			fn.op("VMULPS", fn.v(3), fn.v(2), fn.v(2))
			l.loadFrom("(R15)", fn.v(3))
			fn.op("VFMADD231PS", fn.v(3), fn.v(2), fn.v(0))
			fn.op("VADDPS", fn.v(3), fn.v(1), fn.v(1))
			fn.op("ADDQ", p["ld"], "R15")
			fn.op("INCQ", "R11")
		})
		l.save(fn.v(0), p["dgain"])
		l.save(fn.v(1), p["dbias"])
	})
	fn.end()
}

func genAdamW(f *file, set isa) {
	fn := f.begin(set, "adamW", "is one step over n values, see compute.AdamW.",
		ptr("params"), ptr("grads"), ptr("first"), ptr("second"), n, num("beta1"), num("oneMinusBeta1"), num("beta2"), num("oneMinusBeta2"),
		num("eps"), num("gradScale"), num("stepSize"), num("invRoot2"), num("keep"))
	p := fn.take("params", "grads", "first", "second")
	r := map[string]string{}
	for _, name := range []string{"beta1", "oneMinusBeta1", "beta2", "oneMinusBeta2", "eps", "gradScale", "stepSize", "invRoot2", "keep"} {
		r[name] = fn.broadcastBelowMask(name)
	}
	fn.each(func(l loop) {
		g, m, v, w := fn.v(0), fn.v(1), fn.v(2), fn.v(3)
		l.load(p["grads"], g)
		l.load(p["first"], m)
		l.load(p["second"], v)
		l.load(p["params"], w)
		fn.op("VMULPS", r["gradScale"], g, g)
		fn.op("VMULPS", r["beta1"], m, m)
		fn.op("VFMADD231PS", r["oneMinusBeta1"], g, m)
		l.save(m, p["first"])
		fn.op("VMULPS", g, g, g)
		fn.op("VMULPS", r["beta2"], v, v)
		fn.op("VFMADD231PS", r["oneMinusBeta2"], g, v)
		l.save(v, p["second"])
		fn.op("VSQRTPS", v, v)
		fn.op("VFMADD213PS", r["eps"], r["invRoot2"], v)
		fn.op("VMULPS", r["stepSize"], m, m)
		fn.op("VDIVPS", v, m, m)
		fn.op("VMULPS", r["keep"], w, w)
		fn.op("VSUBPS", m, w, w)
		l.save(w, p["params"])
	})
	fn.end()
}
