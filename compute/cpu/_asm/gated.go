package main

func genRMSNorm(f *file, set isa) {
	fn := f.begin(set, "rmsNorm", "scales one row of n values, inv = 1/n, and returns 1/root of the mean square.",
		ptr("y"), ptr("x"), ptr("gain"), n, num("inv"), num("eps"), num("retRStd"))
	p := fn.take("y", "x", "gain")
	fn.total(func(l loop, sum string) {
		l.load(p["x"], fn.v(2))
		fn.fma(sum, fn.v(2), fn.v(2), sum)
	})
	fn.inverseRoot(0, 1)
	fn.give(0, "retRStd")
	rstd := fn.v(4)
	fn.spread(rstd, 0)
	fn.each(func(l loop) {
		l.load(p["x"], fn.v(2))
		l.load(p["gain"], fn.v(0))
		fn.mul(fn.v(2), fn.v(2), rstd)
		fn.mul(fn.v(2), fn.v(2), fn.v(0))
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
		rstd := fn.broadcast("rstd")
		// v2: x̂, v3: dy·gain.
		parts := func(l loop) {
			l.load(p["x"], fn.v(2))
			l.load(p["dy"], fn.v(3))
			l.load(p["gain"], fn.v(4))
			fn.mul(fn.v(2), fn.v(2), rstd)
			fn.mul(fn.v(3), fn.v(3), fn.v(4))
		}
		fn.total(func(l loop, sum string) {
			parts(l)
			fn.fma(sum, fn.v(2), fn.v(3), sum)
		})
		fn.timesArg(0, 1, "inv")
		fn.spread(fn.v(1), 0)
		fn.each(func(l loop) {
			parts(l)
			fn.fnma(fn.v(3), fn.v(2), fn.v(1), fn.v(3))
			if accumulate {
				l.load(p["dx"], fn.v(4))
				fn.fma(fn.v(4), fn.v(3), rstd, fn.v(4))
			} else {
				fn.mul(fn.v(4), fn.v(3), rstd)
			}
			l.save(fn.v(4), p["dx"])
		})
		fn.end()
	}

	fn = f.begin(set, "rmsNormGain", "adds to dgain over rows ≥ 1 rows of dy and x, ld bytes apart.",
		ptr("dgain"), ptr("dy"), ptr("x"), ptr("rstd"), n, param{"rows", "int"}, param{"ld", "int"})
	p = fn.take("dgain", "dy", "x", "rstd", "ld")
	fn.each(func(l loop) {
		l.load(p["dgain"], fn.v(0))
		c := columns{loop: l, sources: []string{p["x"], p["dy"]}, scalars: []string{p["rstd"]}, ld: p["ld"]}
		c.over(1, func(int) {
			c.read(0, fn.v(2))
			c.scalar(0, fn.v(3))
			fn.mul(fn.v(2), fn.v(2), fn.v(3))
			c.read(1, fn.v(3))
			fn.fma(fn.v(0), fn.v(2), fn.v(3), fn.v(0))
		})
		l.save(fn.v(0), p["dgain"])
	})
	fn.end()
}

// logistic leaves 1/(1+exp(-g)) in s; t and n are overwritten.
func (fn *function) logistic(g, t, n, s string) {
	fn.mul(t, g, fn.constant(word(-1)))
	fn.exp(t, n, s)
	fn.inverseOfNext(s, n)
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
		fn.mul(g, g, s)
		fn.mul(g, g, t)
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
		fn.mul(gs, g, s)
		fn.move(g, gs)
		fn.fnma(g, gs, s, g)
		fn.add(g, g, s) // the slope
		l.load(p["dy"], t)
		l.load(p["up"], s)
		fn.mul(g, g, s)
		fn.mul(g, g, t)
		fn.mul(gs, gs, t)
		l.save(g, p["dgate"])
		l.save(gs, p["dup"])
	})
	fn.end()
}

func genRotate(f *file, set isa) {
	fn := f.begin(set, "rotate", "turns rows ≥ 1 heads, ld bytes apart, whose n values and the n values half bytes on are points, by angles given as cosines and sines; sign is 1 or -1.",
		ptr("x"), ptr("cos"), ptr("sin"), n, param{"rows", "int"}, param{"ld", "int"}, param{"half", "int"}, num("sign"))
	p := fn.take("x", "cos", "sin", "ld", "half")
	fn.increase(p["half"], p["x"]) // the second value of the first point
	sign := fn.broadcast("sign")
	fn.each(func(l loop) {
		cos, sin, low, high := fn.v(0), fn.v(1), fn.v(2), fn.v(3)
		l.load(p["cos"], cos)
		l.load(p["sin"], sin)
		fn.mul(sin, sin, sign)
		c := columns{loop: l, sources: []string{p["x"], p["half"]}, ld: p["ld"]}
		c.over(1, func(int) {
			c.read(0, low)
			c.read(1, high)
			fn.mul(fn.v(4), high, sin)
			fn.mul(fn.v(5), low, sin)
			fn.fms(fn.v(4), low, cos, fn.v(4))
			fn.fma(fn.v(5), high, cos, fn.v(5))
			c.write(fn.v(4), 0)
			c.write(fn.v(5), 1)
		})
	})
	fn.end()
}
