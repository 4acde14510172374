package main

import "fmt"

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

	fn = f.begin(set, "combine", "sets dst = s·a + t·b; dst may be a or b.", ptr("dst"), ptr("a"), ptr("b"), n, num("s"), num("t"))
	p = fn.take("dst", "a", "b")
	s = fn.broadcastBelowMask("s")
	t := fn.broadcastBelowMask("t")
	fn.each(func(l loop) {
		l.load(p["a"], fn.v(0))
		l.load(p["b"], fn.v(1))
		fn.op("VMULPS", s, fn.v(0), fn.v(0))
		fn.op("VFMADD231PS", t, fn.v(1), fn.v(0))
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
