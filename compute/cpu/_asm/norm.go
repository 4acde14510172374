package main

func genLayerNorm(f *file, set isa) {
	fn := f.begin(set, "layerNorm", "normalises one row of n values, inv = 1/n, and returns its mean and 1/deviation.",
		ptr("y"), ptr("x"), ptr("gain"), ptr("bias"), n, num("inv"), num("eps"), num("retMean"), num("retRStd"))
	p := fn.take("y", "x", "gain", "bias")
	fn.total(func(l loop, sum string) {
		l.load(p["x"], fn.v(2))
		fn.add(sum, sum, fn.v(2))
	})
	fn.timesArg(0, 1, "inv")
	fn.give(0, "retMean")
	mean := fn.v(4)
	fn.spread(mean, 0)
	fn.total(func(l loop, sum string) {
		l.load(p["x"], fn.v(2))
		fn.sub(fn.v(2), fn.v(2), mean)
		l.clip(fn.v(2))
		fn.fma(sum, fn.v(2), fn.v(2), sum)
	})
	fn.inverseRoot(0, 1)
	fn.give(0, "retRStd")
	rstd := fn.v(5)
	fn.spread(rstd, 0)
	fn.each(func(l loop) {
		l.load(p["x"], fn.v(2))
		l.load(p["gain"], fn.v(0))
		l.load(p["bias"], fn.v(1))
		fn.sub(fn.v(2), fn.v(2), mean)
		fn.mul(fn.v(2), fn.v(2), rstd)
		fn.fma(fn.v(1), fn.v(2), fn.v(0), fn.v(1))
		l.save(fn.v(1), p["y"])
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
		mean, rstd := fn.broadcast("mean"), fn.broadcast("rstd")
		hat := func(l loop, r string) {
			l.load(p["x"], r)
			fn.sub(r, r, mean)
			fn.mul(r, r, rstd)
		}
		// v0: sum of dy·gain, v1: sum of dy·gain·x̂.
		fn.zero(fn.v(0))
		fn.zero(fn.v(1))
		fn.each(func(l loop) {
			hat(l, fn.v(2))
			l.load(p["dy"], fn.v(3))
			l.load(p["gain"], fn.v(4))
			fn.mul(fn.v(3), fn.v(3), fn.v(4))
			fn.add(fn.v(0), fn.v(0), fn.v(3))
			fn.fma(fn.v(1), fn.v(2), fn.v(3), fn.v(1))
		})
		fn.sum(0, 2)
		fn.sum(1, 2)
		fn.timesArg(0, 2, "inv")
		fn.timesArg(1, 2, "inv")
		fn.spread(fn.v(0), 0)
		fn.spread(fn.v(1), 1)
		fn.each(func(l loop) {
			hat(l, fn.v(2))
			l.load(p["dy"], fn.v(3))
			l.load(p["gain"], fn.v(4))
			fn.fms(fn.v(3), fn.v(3), fn.v(4), fn.v(0))
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
}

func genLayerNormParams(f *file, set isa) {
	fn := f.begin(set, "layerNormParams", "adds to dgain and dbias over rows ≥ 1 rows of dy and x, ld bytes apart.",
		ptr("dgain"), ptr("dbias"), ptr("dy"), ptr("x"), ptr("mean"), ptr("rstd"), n, param{"rows", "int"}, param{"ld", "int"})
	p := fn.take("dgain", "dbias", "dy", "x", "mean", "rstd", "ld")
	fn.each(func(l loop) {
		l.load(p["dgain"], fn.v(0))
		l.load(p["dbias"], fn.v(1))
		c := columns{loop: l, sources: []string{p["x"], p["dy"]}, scalars: []string{p["mean"], p["rstd"]}, ld: p["ld"]}
		c.over(1, func(int) {
			c.read(0, fn.v(2))
			c.scalar(0, fn.v(3))
			fn.sub(fn.v(2), fn.v(2), fn.v(3))
			c.scalar(1, fn.v(3))
			fn.mul(fn.v(2), fn.v(2), fn.v(3))
			c.read(1, fn.v(3))
			fn.fma(fn.v(0), fn.v(2), fn.v(3), fn.v(0))
			fn.add(fn.v(1), fn.v(1), fn.v(3))
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
		r[name] = fn.broadcast(name)
	}
	fn.each(func(l loop) {
		g, m, v, w := fn.v(0), fn.v(1), fn.v(2), fn.v(3)
		l.load(p["grads"], g)
		l.load(p["first"], m)
		l.load(p["second"], v)
		l.load(p["params"], w)
		fn.mul(g, g, r["gradScale"])
		fn.mul(m, m, r["beta1"])
		fn.fma(m, g, r["oneMinusBeta1"], m)
		l.save(m, p["first"])
		fn.mul(g, g, g)
		fn.mul(v, v, r["beta2"])
		fn.fma(v, g, r["oneMinusBeta2"], v)
		l.save(v, p["second"])
		fn.sqrt(v, v)
		fn.fma(v, v, r["invRoot2"], r["eps"])
		fn.mul(m, m, r["stepSize"])
		fn.div(m, m, v)
		fn.mul(w, w, r["keep"])
		fn.sub(w, w, m)
		l.save(w, p["params"])
	})
	fn.end()
}
