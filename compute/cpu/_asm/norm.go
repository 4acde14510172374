package main

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
