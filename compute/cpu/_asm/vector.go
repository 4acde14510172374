package main

import "fmt"

func genElementwise(f *file, set isa) {
	fn := f.begin(set, "add", "sets dst = a + b.", ptr("dst"), ptr("a"), ptr("b"), n)
	p := fn.take("dst", "a", "b")
	fn.each(func(l loop) {
		l.load(p["a"], fn.v(0))
		l.load(p["b"], fn.v(1))
		fn.add(fn.v(0), fn.v(0), fn.v(1))
		l.save(fn.v(0), p["dst"])
	})
	fn.end()

	fn = f.begin(set, "addRows", "adds to dst the sum of rows ≥ 1 rows of src, ld bytes apart.",
		ptr("dst"), ptr("src"), n, param{"rows", "int"}, param{"ld", "int"})
	p = fn.take("dst", "src", "ld")
	fn.each(func(l loop) {
		l.load(p["dst"], fn.v(0))
		fn.zero(fn.v(1))
		c := columns{loop: l, sources: []string{p["src"]}, ld: p["ld"]}
		c.over(2, func(i int) {
			c.read(0, fn.v(2+i))
			fn.add(fn.v(i), fn.v(i), fn.v(2+i))
		})
		fn.add(fn.v(0), fn.v(0), fn.v(1))
		l.save(fn.v(0), p["dst"])
	})
	fn.end()

	fn = f.begin(set, "scale", "sets dst = s·src; dst may be src.", ptr("dst"), ptr("src"), n, num("s"))
	p = fn.take("dst", "src")
	s := fn.broadcast("s")
	fn.each(func(l loop) {
		l.load(p["src"], fn.v(0))
		fn.mul(fn.v(0), fn.v(0), s)
		l.save(fn.v(0), p["dst"])
	})
	fn.end()

	fn = f.begin(set, "combine", "sets dst = s·a + t·b; dst may be a or b.", ptr("dst"), ptr("a"), ptr("b"), n, num("s"), num("t"))
	p = fn.take("dst", "a", "b")
	s = fn.broadcast("s")
	t := fn.broadcast("t")
	fn.each(func(l loop) {
		l.load(p["a"], fn.v(0))
		l.load(p["b"], fn.v(1))
		fn.mul(fn.v(0), fn.v(0), s)
		fn.fma(fn.v(0), fn.v(1), t, fn.v(0))
		l.save(fn.v(0), p["dst"])
	})
	fn.end()

	fn = f.begin(set, "scoreGrad", "sets dp = p·(dp - d)·s, the gradient of a row of attention scores.",
		ptr("dp"), ptr("p"), n, num("d"), num("s"))
	p = fn.take("dp", "p")
	d := fn.broadcast("d")
	s = fn.broadcast("s")
	fn.each(func(l loop) {
		l.load(p["dp"], fn.v(0))
		l.load(p["p"], fn.v(1))
		fn.sub(fn.v(0), fn.v(0), d)
		fn.mul(fn.v(1), fn.v(1), s)
		fn.mul(fn.v(0), fn.v(0), fn.v(1))
		l.save(fn.v(0), p["dp"])
	})
	fn.end()
}

func genReductions(f *file, set isa) {
	fn := f.begin(set, "dot", "returns the sum of a·b.", ptr("a"), ptr("b"), n, ret)
	p := fn.take("a", "b")
	fn.total(func(l loop, sum string) {
		l.load(p["a"], fn.v(1))
		l.load(p["b"], fn.v(2))
		fn.fma(sum, fn.v(2), fn.v(1), sum)
	})
	fn.give(0, "ret")
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
		scale := fn.broadcast("scale")
		shift := fn.broadcast("shift")
		fn.warm()
		fn.zero(fn.v(0))
		fn.each(func(l loop) {
			l.load(p["src"], fn.v(1))
			fn.fms(fn.v(1), fn.v(1), scale, shift)
			fn.exp(fn.v(1), fn.v(2), fn.v(3))
			l.clip(fn.v(3))
			fn.add(fn.v(0), fn.v(0), fn.v(3))
			if keep {
				l.save(fn.v(3), p["dst"])
			}
		})
		fn.sum(0, 1)
		fn.give(0, "ret")
		fn.end()
	}
	genRowMax(f, set)
	genSumSquares(f, set)
}

// genRowMax takes the values past the last vector one by one: a zero could be
// the maximum.
func genRowMax(f *file, set isa) {
	fn := f.begin(set, "rowMax", "returns the largest of n ≥ 1 values; NaN may be passed over.", ptr("src"), n, ret)
	p := fn.take("src")
	src, count := p["src"], fn.machine().count
	vector, scalar := func() { fn.op("VMAXPS", at(0, src), fn.v(0), fn.v(0)) }, func() { fn.op("VMAXSS", at(0, src), x(0), x(0)) }
	if fn.neon() {
		fn.op("VLD1R", at(0, src), "["+fn.v(0)+".S4]")
		vector = func() {
			fn.op("FMOVQ", at(0, src), s(1))
			fn.encode(neonMax, fn.v(0), fn.v(0), fn.v(1))
		}
		scalar = func() {
			fn.op("FMOVS", at(0, src), s(1))
			fn.op("FMAXS", s(1), s(0), s(0))
		}
	} else {
		fn.op("VBROADCASTSS", at(0, src), fn.v(0))
	}
	again, single, done, fold := fn.label("vector"), fn.label("single"), fn.label("done"), fn.label("fold")
	fn.op(fn.machine().move, fn.arg("n"), count)
	fn.decrease(count, fn.lanes)
	fn.jump("<", fold)
	fn.place(again)
	vector()
	fn.increase(src, 4*fn.lanes)
	fn.decrease(count, fn.lanes)
	fn.jump("≥", again)
	fn.place(fold)
	if fn.neon() {
		fn.encode(neonMaxLanes, fn.v(0), fn.v(0))
	} else {
		fn.fold("VMAXPS", 0, 1)
	}
	fn.increase(count, fn.lanes)
	fn.jump("=", done)
	fn.place(single)
	scalar()
	fn.increase(src, 4)
	fn.decrease(count, 1)
	fn.jump("≠", single)
	fn.place(done)
	fn.give(0, "ret")
	fn.end()
}

// genSumSquares sums in float64.
func genSumSquares(f *file, set isa) {
	fn := f.begin(set, "sumSquares", fmt.Sprintf("returns the float64 sum of squares of n ≥ 1 values, n a multiple of %d.", set.lanes),
		ptr("src"), n, param{"ret", "float64"})
	p := fn.take("src")
	src, count := p["src"], fn.machine().count
	for i := range 2 {
		fn.zero(fn.v(i))
	}
	again := fn.label("vector")
	fn.op(fn.machine().move, fn.arg("n"), count)
	fn.place(again)
	if fn.neon() {
		fn.op("FMOVQ", at(0, src), s(6))
		fn.encode(neonWidenLow, fn.v(4), fn.v(6))
		fn.encode(neonWidenHigh, fn.v(5), fn.v(6))
	}
	for i := range 2 {
		if fn.neon() {
			fn.op("VFMLA", fn.v(4+i)+".D2", fn.v(4+i)+".D2", fn.v(i)+".D2")
		} else {
			fn.op("VCVTPS2PD", at(2*fn.lanes*i, src), fn.v(4+i))
			fn.op("VFMADD231PD", fn.v(4+i), fn.v(4+i), fn.v(i))
		}
	}
	fn.increase(src, 4*fn.lanes)
	fn.decrease(count, fn.lanes)
	fn.jump("≠", again)
	fn.sum64()
	fn.end()
}

// sum64 returns the sum of all float64 lanes of registers 0 and 1.
func (fn *function) sum64() {
	if fn.neon() {
		fn.encode(neonAdd64, fn.v(0), fn.v(0), fn.v(1))
		fn.encode(neonAddPair64, fn.v(0), fn.v(0))
		fn.op("FMOVD", s(0), fn.arg("ret"))
		return
	}
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
}
