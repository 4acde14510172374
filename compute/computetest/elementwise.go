package computetest

import (
	"math"
	"slices"

	"dunlin/compute"
)

// sizes are lengths around vector widths, and one longer than a part of work.
var sizes = [...]int{1, 3, 7, 8, 15, 16, 17, 33, 63, 64, 100, 1023, 20001}

func memoryScenarios() []scenario {
	return []scenario{{"memory", func(r *rig) {
		fresh, err := r.dev.Alloc(37)
		if err != nil {
			r.t.Fatalf("alloc: %v", err)
		}
		r.check("fresh memory", fresh, make([]float64, 37), tolerance{})
		r.dev.Free(fresh)
		if _, err := r.dev.Alloc(-1); err == nil {
			r.t.Error("alloc of -1 values succeeded")
		}
		if _, err := r.dev.AllocInts(-1); err == nil {
			r.t.Error("alloc of -1 token numbers succeeded")
		}
		values := r.normal(50, 1)
		b := r.buffer(values)
		r.dev.Upload(b.Slice(10, 20), make([]float32, 10))
		clear(values[10:20])
		r.check("upload to a slice", b, widen(values), tolerance{})
		r.dev.Zero(b.Slice(0, 50))
		r.check("zero", b, make([]float64, 50), tolerance{})
		ints, err := r.dev.AllocInts(4)
		if err != nil {
			r.t.Fatalf("alloc ints: %v", err)
		}
		if ints.Len() != 4 || ints.Slice(1, 3).Len() != 2 {
			r.t.Errorf("ints have length %d, their slice %d", ints.Len(), ints.Slice(1, 3).Len())
		}
		r.dev.FreeInts(ints)
	}}}
}

func elementwiseScenarios() []scenario {
	var all []scenario
	for _, n := range sizes {
		all = append(all, scenario{named("elementwise/%d", n), func(r *rig) { elementwise(r, n) }})
	}
	return append(all, scenario{"elementwise/extremes", extremes}, scenario{"elementwise/squares", squares})
}

func elementwise(r *rig, n int) {
	x, y := r.normal(n, 3), r.normal(n, 1)
	wantSum, wantScaled, wantGELU, wantGrad := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	wantMix, mixSize := make([]float64, n), make([]float64, n) // mixSize is the size of what is added, for cancellation
	var squares float64
	for i := range x {
		a, b := float64(x[i]), float64(y[i])
		wantSum[i], wantScaled[i] = a+b, a*float64(float32(0.3))
		wantMix[i] = float64(float32(0.3))*a - float64(float32(1.7))*b
		mixSize[i] = math.Abs(float64(float32(0.3))*a) + math.Abs(float64(float32(1.7))*b)
		wantGELU[i], wantGrad[i] = gelu(a), b*geluSlope(a)
		squares += a * a
	}
	exact, curve := tolerance{rel: 1e-7}, tolerance{abs: 2e-6, rel: 1e-6}

	bx, by := r.in(x), r.in(y)
	dst := r.out(n)
	r.dev.Add(dst, bx, by)
	r.check("add", dst, wantSum, exact)
	alias := r.buffer(x)
	r.dev.Add(alias, alias, by)
	r.check("add onto a", alias, wantSum, exact)
	alias = r.buffer(y)
	r.dev.Add(alias, bx, alias)
	r.check("add onto b", alias, wantSum, exact)

	dst = r.out(n)
	r.dev.Copy(dst, bx)
	r.check("copy", dst, widen(x), tolerance{})
	r.dev.Scale(dst, 0.3)
	r.check("scale", dst, wantScaled, exact)

	mixed := tolerance{rel: 2e-7, scale: mixSize}
	dst = r.out(n)
	r.dev.Combine(dst, 0.3, bx, -1.7, by)
	r.check("combine", dst, wantMix, mixed)
	alias = r.buffer(x)
	r.dev.Combine(alias, 0.3, alias, -1.7, by)
	r.check("combine onto a", alias, wantMix, mixed)
	alias = r.buffer(y)
	r.dev.Combine(alias, 0.3, bx, -1.7, alias)
	r.check("combine onto b", alias, wantMix, mixed)

	if got := r.dev.SumSquares(bx); math.Abs(got-squares) > 5e-6*squares {
		r.t.Errorf("sum of squares of %d values: %v, want %v", n, got, squares)
	}

	dst = r.out(n)
	r.dev.GELU(dst, bx)
	r.check("gelu", dst, wantGELU, curve)
	alias = r.buffer(x)
	r.dev.GELU(alias, alias)
	r.check("gelu in place", alias, wantGELU, curve)
	dst, again := r.out(n), r.out(n)
	r.dev.GELUGrad(dst, again, by, bx)
	r.check("gelu gradient", dst, wantGrad, curve)
	r.check("gelu beside its gradient", again, wantGELU, curve)
	alias, again = r.buffer(y), r.buffer(x)
	r.dev.GELUGrad(alias, again, alias, again)
	r.check("gelu gradient in place", alias, wantGrad, curve)
	r.check("gelu beside its gradient in place", again, wantGELU, curve)
}

// squares sums few values among zeros, so that none may be left out or taken for one beside it, and so many that a sum in
// parts has parts of parts.
func squares(r *rig) {
	few, many := make([]float32, 1<<14), make([]float32, 300<<14)
	for i := 0; i < len(few); i += 256 {
		few[i] = float32(8 + i/256*29%64)
		few[i+255] = few[i]
	}
	for i := range many {
		many[i] = float32(i%1021) - 500
	}
	for _, x := range [][]float32{few, many} {
		want := 0.0
		for _, v := range x {
			want += float64(v) * float64(v)
		}
		if got := r.dev.SumSquares(r.in(x)); math.Abs(got-want) > 5e-6*want {
			r.t.Errorf("sum of squares of %d values: %v, want %v", len(x), got, want)
		}
	}
}

// extremes checks that huge, tiny and subnormal values neither crash nor turn
// into NaN where the true result is finite.
func extremes(r *rig) {
	x := []float32{
		0, float32(math.Copysign(0, -1)), 1e-45, -1e-45, 1e-38, -1e-38, 1e-20, 80, -80, 100, -100,
		1e4, -1e4, 1e13, -1e13, 1e30, -1e30, math.MaxFloat32, -math.MaxFloat32,
	}
	want, slope, ones := make([]float64, len(x)), make([]float64, len(x)), make([]float32, len(x))
	for i, v := range x {
		want[i], slope[i], ones[i] = gelu(float64(v)), geluSlope(float64(v)), 1
	}
	bx := r.in(x)
	dst := r.out(len(x))
	r.dev.GELU(dst, bx)
	r.check("gelu", dst, want, tolerance{abs: 1e-6, rel: 1e-6})
	dst, again := r.out(len(x)), r.out(len(x))
	r.dev.GELUGrad(dst, again, r.in(ones), bx)
	r.check("gelu gradient", dst, slope, tolerance{abs: 1e-6, rel: 1e-6})
	r.check("gelu beside its gradient", again, want, tolerance{abs: 1e-6, rel: 1e-6})
}

func gelu(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

func geluSlope(x float64) float64 {
	root := math.Sqrt(2 / math.Pi)
	tanh := math.Tanh(root * (x + 0.044715*x*x*x))
	slope := (1 - tanh*tanh) * root
	if slope > 0 {
		slope *= 1 + 3*0.044715*x*x
	}
	return (1+tanh)/2 + x/2*slope
}

func adamWScenarios() []scenario {
	var all []scenario
	for _, n := range sizes {
		all = append(all, scenario{named("adamw/%d", n), func(r *rig) { adamW(r, n) }})
	}
	return all
}

func adamW(r *rig, n int) {
	p, m, v := r.normal(n, 1), make([]float32, n), make([]float32, n)
	op := compute.AdamW{
		Params: r.buffer(p), M: r.buffer(m), V: r.buffer(v),
		LR: 2e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, GradScale: 0.7,
	}
	for i := range 12 {
		op.Decay = append(op.Decay, compute.Range{From: n * i / 120, To: n*i/120 + n/240})
	}
	op.Decay = append(op.Decay, []compute.Range{{From: n / 9, To: n / 8}, {From: n / 7, To: n / 6}, {From: n / 5, To: n / 3}, {From: n / 2, To: n}}...)
	wp, wm, wv := widen(p), widen(m), widen(v)
	for step := 1; step <= 3; step++ {
		g := r.normal(n, 1)
		if step == 2 { // gradients of zero and beyond what squares can hold
			g[0], g[n-1] = 0, 1e-30
		}
		op.Step, op.Grads = step, r.in(g)
		r.dev.AdamW(op)
		for i := range wp {
			gi := float64(g[i]) * 0.7
			wm[i] = 0.9*wm[i] + 0.1*gi
			wv[i] = 0.95*wv[i] + 0.05*gi*gi
			inside := func(d compute.Range) bool { return d.From <= i && i < d.To }
			if slices.ContainsFunc(op.Decay, inside) {
				wp[i] *= 1 - op.LR*op.WeightDecay
			}
			first, second := wm[i]/(1-math.Pow(0.9, float64(step))), wv[i]/(1-math.Pow(0.95, float64(step)))
			wp[i] -= op.LR * first / (math.Sqrt(second) + op.Eps)
		}
	}
	r.check("parameters", op.Params, wp, tolerance{abs: 1e-7, rel: 5e-7})
	r.check("first moments", op.M, wm, tolerance{abs: 2e-7, rel: 1e-6})
	r.check("second moments", op.V, wv, tolerance{abs: 1e-7, rel: 2e-6})
}
