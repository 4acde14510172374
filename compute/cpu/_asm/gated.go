package main

func genRMSNorm(f *file, set isa) {
	fn := f.begin(set, "rmsNorm", "scales one row of n values, inv = 1/n, and returns 1/root of the mean square.",
		ptr("y"), ptr("x"), ptr("gain"), n, num("inv"), num("eps"), num("retRStd"))
	p := fn.take("y", "x", "gain")
	fn.zero(fn.v(0))
	fn.each(func(l loop) {
		l.load(p["x"], fn.v(2))
		fn.op("VFMADD231PS", fn.v(2), fn.v(2), fn.v(0))
	})
	fn.sum(0, 1)
	fn.op("VMULSS", fn.arg("inv"), x(0), x(0))
	fn.op("VADDSS", fn.arg("eps"), x(0), x(0))
	fn.op("VSQRTSS", x(0), x(0), x(0))
	fn.op("VMOVSS", fn.word(word(1))+"(SB)", x(1))
	fn.op("VDIVSS", x(0), x(1), x(0))
	fn.op("VMOVSS", x(0), fn.arg("retRStd"))
	rstd := fn.v(4)
	fn.op("VBROADCASTSS", x(0), rstd)
	fn.each(func(l loop) {
		l.load(p["x"], fn.v(2))
		l.load(p["gain"], fn.v(0))
		fn.op("VMULPS", rstd, fn.v(2), fn.v(2))
		fn.op("VMULPS", fn.v(0), fn.v(2), fn.v(2))
		l.save(fn.v(2), p["y"])
	})
	fn.end()

	for _, accumulate := range []bool{false, true} {
		name, doc := "rmsNormGrad", "sets dx (which may be dy) to"
		if accumulate {
			name, doc = "rmsNormGradAdd", "adds to dx"
		}
		fn = f.begin(set, name, doc+" the gradient of one row; inv = 1/n.",
			ptr("dx"), ptr("dy"), ptr("x"), ptr("gain"), n, num("rstd"), num("inv"))
		p = fn.take("dx", "dy", "x", "gain")
		rstd := fn.broadcastBelowMask("rstd")
		// v2: x̂, v3: dy·gain.
		parts := func(l loop) {
			l.load(p["x"], fn.v(2))
			l.load(p["dy"], fn.v(3))
			l.load(p["gain"], fn.v(4))
			fn.op("VMULPS", rstd, fn.v(2), fn.v(2))
			fn.op("VMULPS", fn.v(4), fn.v(3), fn.v(3))
		}
		fn.zero(fn.v(0))
		fn.each(func(l loop) {
			parts(l)
			fn.op("VFMADD231PS", fn.v(3), fn.v(2), fn.v(0))
		})
		fn.sum(0, 1)
		fn.op("VMULSS", fn.arg("inv"), x(0), x(0))
		fn.op("VBROADCASTSS", x(0), fn.v(1))
		fn.each(func(l loop) {
			parts(l)
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

	fn = f.begin(set, "rmsNormGain", "adds to dgain over rows ≥ 1 rows of dy and x, ld bytes apart.",
		ptr("dgain"), ptr("dy"), ptr("x"), ptr("rstd"), n, param{"rows", "int"}, param{"ld", "int"})
	p = fn.take("dgain", "dy", "x", "rstd", "ld")
	fn.each(func(l loop) {
		l.load(p["dgain"], fn.v(0))
		fn.op("LEAQ", at(0, p["dy"], index, 4), "R15")
		fn.op("XORQ", "R11", "R11")
		fn.overRows(p["x"], p["ld"], 1, func(_ int, row string) {
			l.loadFrom(row, fn.v(2))
			fn.op("VBROADCASTSS", at(0, p["rstd"], "R11", 4), fn.v(3))
			fn.op("VMULPS", fn.v(3), fn.v(2), fn.v(2))
			l.loadFrom("(R15)", fn.v(3))
			fn.op("VFMADD231PS", fn.v(3), fn.v(2), fn.v(0))
			fn.op("ADDQ", p["ld"], "R15")
			fn.op("INCQ", "R11")
		})
		l.save(fn.v(0), p["dgain"])
	})
	fn.end()
}

// logistic leaves 1/(1+exp(-g)) in s; t and n are overwritten.
func (fn *function) logistic(g, t, n, s string) {
	fn.op("VMULPS", fn.constant(word(-1)), g, t)
	fn.exp(t, n, s)
	fn.op("VADDPS", fn.constant(word(1)), s, s)
	fn.op("VMOVUPS", fn.constant(word(1)), n)
	fn.op("VDIVPS", s, n, s)
}

func genSwiGLU(f *file, set isa) {
	fn := f.begin(set, "swiGLU", "sets dst = gate·up/(1 + exp(-gate)).", ptr("dst"), ptr("gate"), ptr("up"), n)
	p := fn.take("dst", "gate", "up")
	fn.warm()
	fn.constant(word(-1))
	fn.each(func(l loop) {
		g, t, s := fn.v(0), fn.v(1), fn.v(3)
		l.load(p["gate"], g)
		fn.logistic(g, t, fn.v(2), s)
		l.load(p["up"], t)
		fn.op("VMULPS", s, g, g)
		fn.op("VMULPS", t, g, g)
		l.save(g, p["dst"])
	})
	fn.end()

	// With s the logistic function of the gate g: the slope of g·s is s + g·s·(1-s).
	fn = f.begin(set, "swiGLUGrad", "sets the gradients of swiGLU; dgate may be gate and dup may be up.",
		ptr("dgate"), ptr("dup"), ptr("dy"), ptr("gate"), ptr("up"), n)
	p = fn.take("dgate", "dup", "dy", "gate", "up")
	fn.warm()
	fn.constant(word(-1))
	fn.each(func(l loop) {
		g, gs, t, s := fn.v(0), fn.v(1), fn.v(2), fn.v(3)
		l.load(p["gate"], g)
		fn.logistic(g, gs, t, s)
		fn.op("VMULPS", s, g, gs)
		fn.op("VMOVUPS", gs, g)
		fn.op("VFNMADD231PS", s, gs, g)
		fn.op("VADDPS", s, g, g) // the slope
		l.load(p["dy"], t)
		l.load(p["up"], s)
		fn.op("VMULPS", s, g, g)
		fn.op("VMULPS", t, g, g)
		fn.op("VMULPS", t, gs, gs)
		l.save(g, p["dgate"])
		l.save(gs, p["dup"])
	})
	fn.end()
}

func genRotate(f *file, set isa) {
	fn := f.begin(set, "rotate", "turns rows ≥ 1 heads, ld bytes apart, whose n values and the n values half bytes on are points, by angles given as cosines and sines; sign is 1 or -1.",
		ptr("x"), ptr("cos"), ptr("sin"), n, param{"rows", "int"}, param{"ld", "int"}, param{"half", "int"}, num("sign"))
	p := fn.take("x", "cos", "sin", "ld", "half")
	sign := fn.broadcastBelowMask("sign")
	fn.each(func(l loop) {
		cos, sin, low, high := fn.v(0), fn.v(1), fn.v(2), fn.v(3)
		l.load(p["cos"], cos)
		l.load(p["sin"], sin)
		fn.op("VMULPS", sign, sin, sin)
		fn.overRows(p["x"], p["ld"], 1, func(_ int, row string) {
			second := at(0, "R12", p["half"], 1)
			l.loadFrom(row, low)
			l.loadFrom(second, high)
			fn.op("VMULPS", sin, high, fn.v(4))
			fn.op("VMULPS", sin, low, fn.v(5))
			fn.op("VFMSUB213PS", fn.v(4), cos, low)
			fn.op("VFMADD213PS", fn.v(5), cos, high)
			l.saveTo(low, row)
			l.saveTo(high, second)
		})
	})
	fn.end()
}
