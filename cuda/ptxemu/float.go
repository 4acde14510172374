package ptxemu

import (
	"fmt"
	"math"
)

// float compiles arithmetic of floating point numbers.
func (c *compiler) float(t Type) error {
	i := c.at
	if len(i.Operands) < 2 {
		return fmt.Errorf("%d operands, want two or more", len(i.Operands))
	}
	d, s := i.Operands[0], i.Operands[1:]
	c.op.flops = map[string]int64{"fma": 2, "mad": 2, "add": 1, "sub": 1, "mul": 1, "div": 1}[i.Op[0]]
	switch t {
	case F64:
		return c.double(d, s)
	case F32, TF32:
		return c.single(d, s)
	default:
		if t == F16X2 || t == BF16X2 {
			c.op.flops *= 2
		}
		return c.halves(t, d, s)
	}
}

// single compiles float32.
func (c *compiler) single(d Operand, s []Operand) error {
	at, err := c.sources32(F32, s[:min(len(s), 4)]...)
	if err != nil {
		return err
	}
	i := c.at
	mode, ftz, sat := roundingOf(i), i.has("ftz"), i.has("sat")
	if mode == nearest && !ftz && !sat {
		if f := fastSingle(i.Op[0], len(s), at); f != nil {
			return c.set32(d, f)
		}
	}
	f, n := c.singleOperation(mode)
	if f == nil || n != len(s) {
		return errUnknown
	}
	return c.set32(d, func(w *warp, z *lanes32) {
		x, y, v := &w.r[at[0]], &w.r[at[1]], &w.r[at[2]]
		for i := range z {
			a, b, e := x[i], y[i], v[i]
			if ftz {
				a, b, e = flush32(a), flush32(b), flush32(e)
			}
			r := f(math.Float32frombits(a), math.Float32frombits(b), math.Float32frombits(e))
			if sat {
				if r = max(0, min(1, r)); r != r {
					r = 0
				}
			}
			if z[i] = bits32(r); ftz {
				z[i] = flush32(z[i])
			}
		}
	})
}

// bits32 returns a result's bits; every NaN is the same.
func bits32(r float32) uint32 {
	if r != r {
		return 0x7fffffff
	}
	return math.Float32bits(r)
}

// fastSingle returns the operations of inner loops, rounded to nearest.
func fastSingle(op string, n int, at [4]int) func(w *warp, z *lanes32) {
	switch {
	case op == "add" && n == 2:
		return func(w *warp, z *lanes32) {
			x, y := &w.r[at[0]], &w.r[at[1]]
			for i := range z {
				z[i] = bits32(math.Float32frombits(x[i]) + math.Float32frombits(y[i]))
			}
		}
	case op == "sub" && n == 2:
		return func(w *warp, z *lanes32) {
			x, y := &w.r[at[0]], &w.r[at[1]]
			for i := range z {
				z[i] = bits32(math.Float32frombits(x[i]) - math.Float32frombits(y[i]))
			}
		}
	case op == "mul" && n == 2:
		return func(w *warp, z *lanes32) {
			x, y := &w.r[at[0]], &w.r[at[1]]
			for i := range z {
				z[i] = bits32(math.Float32frombits(x[i]) * math.Float32frombits(y[i]))
			}
		}
	case op == "fma" && n == 3:
		return func(w *warp, z *lanes32) {
			x, y, v := &w.r[at[0]], &w.r[at[1]], &w.r[at[2]]
			for i := range z {
				a, b, e := math.Float32frombits(x[i]), math.Float32frombits(y[i]), math.Float32frombits(v[i])
				// The product is exact. The sum is rounded twice, which goes wrong only where the first
				// rounding may have made a tie or the result is neither zero nor a normal number of float32.
				r := float64(a)*float64(b) + float64(e)
				bits := math.Float64bits(r)
				if bits&0x1fffffff == 0x10000000 || (bits>>52&0x7ff)-897 >= 2047-897 && bits<<1 != 0 {
					z[i] = bits32(fused(a, b, e, nearest))
					continue
				}
				z[i] = math.Float32bits(float32(r))
			}
		}
	}
	return nil
}

// singleOperation returns the operation at hand and how many values it takes; nil when there is none.
func (c *compiler) singleOperation(mode rounding) (f func(a, b, e float32) float32, n int) {
	i := c.at
	approx := i.has("approx") || i.has("full")
	e := c.k.config.errorSource()
	switch i.Op[0] {
	case "add":
		return func(a, b, _ float32) float32 { return fused(a, 1, b, mode) }, 2
	case "sub":
		return func(a, b, _ float32) float32 { return fused(a, 1, -b, mode) }, 2
	case "mul":
		return func(a, b, _ float32) float32 { return round32(float64(a)*float64(b), mode) }, 2
	case "fma", "mad":
		return func(a, b, e float32) float32 { return fused(a, b, e, mode) }, 3
	case "neg":
		return func(a, _, _ float32) float32 { return -a }, 1
	case "abs":
		return func(a, _, _ float32) float32 { return math.Float32frombits(math.Float32bits(a) &^ (1 << 31)) }, 1
	case "copysign":
		return func(a, b, _ float32) float32 {
			return math.Float32frombits(math.Float32bits(a)&(1<<31) | math.Float32bits(b)&^(1<<31))
		}, 2
	case "min":
		return func(a, b, _ float32) float32 { return float32(least(float64(a), float64(b), i.has("NaN"))) }, 2
	case "max":
		return func(a, b, _ float32) float32 { return float32(-least(-float64(a), -float64(b), i.has("NaN"))) }, 2
	case "div":
		if approx { // 2 units in the last place
			return func(a, b, _ float32) float32 {
				if m := math.Abs(float64(b)); i.has("approx") && m > 0x1p126 && m < 0x1p128 && !math.IsInf(float64(a), 0) {
					return float32(math.Copysign(0, float64(a)*float64(b))) // as documented
				}
				return e.relative(float64(a)/float64(b), 0x1p-23, a+b)
			}, 2
		}
		return func(a, b, _ float32) float32 { return quotient(a, b, mode) }, 2
	case "rcp":
		if approx {
			return func(a, _, _ float32) float32 { return e.relative(1/float64(a), 0x1p-23, a) }, 1
		}
		return func(a, _, _ float32) float32 { return quotient(1, a, mode) }, 1
	case "sqrt":
		if approx {
			return func(a, _, _ float32) float32 { return e.relative(math.Sqrt(float64(a)), 0x1p-23, a) }, 1
		}
		return func(a, _, _ float32) float32 { return root(a, mode) }, 1
	case "rsqrt":
		return func(a, _, _ float32) float32 { return e.relative(1/math.Sqrt(float64(a)), 0x1p-22*0.536, a) }, 1 // 2^-22.9
	case "ex2":
		return func(a, _, _ float32) float32 { return e.relative(math.Exp2(float64(a)), 0x1p-22*0.707, a) }, 1 // 2^-22.5
	case "lg2":
		return func(a, _, _ float32) float32 {
			v := math.Log2(float64(a))
			if a > 0.5 && a < 2 {
				return e.absolute(v, 0x1p-22*0.6598, a) // 2^-22.6
			}
			return e.relative(v, 0x1p-22*0.6598, a)
		}, 1
	case "sin":
		return func(a, _, _ float32) float32 { return e.absolute(math.Sin(float64(a)), 0x1p-20*0.536, a) }, 1 // 2^-20.9
	case "cos":
		return func(a, _, _ float32) float32 { return e.absolute(math.Cos(float64(a)), 0x1p-20*0.536, a) }, 1
	case "tanh":
		return func(a, _, _ float32) float32 { return e.relative(math.Tanh(float64(a)), 0x1p-11, a) }, 1
	}
	return nil, 0
}

// least returns the smaller value: of a number and a NaN the number unless asked otherwise, of zeros the negative one.
func least(a, b float64, strict bool) float64 {
	switch {
	case a != a && (strict || b != b):
		return a
	case b != b && strict:
		return b
	case a != a:
		return b
	case b != b:
		return a
	}
	return math.Min(a, b)
}

// quotient returns a/b rounded once.
func quotient(a, b float32, mode rounding) float32 {
	q := float64(a) / float64(b)
	if mode == nearest && !tiny(q) {
		return float32(q) // 53 bits are more than twice 24 and 2, so that rounding twice does no harm
	}
	if q == 0 || math.IsInf(q, 0) || q != q {
		return float32(q)
	}
	rest := math.FMA(-q, float64(b), float64(a))
	return round32(odd(q, rest*math.Copysign(1, float64(b))), mode)
}

// root returns √a rounded once.
func root(a float32, mode rounding) float32 {
	r := math.Sqrt(float64(a))
	if mode == nearest || r == 0 || math.IsInf(r, 0) || r != r {
		return float32(r)
	}
	return round32(odd(r, math.FMA(-r, r, float64(a))), mode)
}

// tiny reports whether a value is a denormal of float32, which has fewer bits.
func tiny(v float64) bool { return math.Abs(v) < 0x1p-126 && v != 0 }

// double compiles float64.
func (c *compiler) double(d Operand, s []Operand) error {
	at, err := c.sources64(s[:min(len(s), 4)]...)
	if err != nil {
		return err
	}
	i := c.at
	if roundingOf(i) != nearest {
		return errUnknown
	}
	var f func(a, b, e float64) float64
	n := 2
	switch i.Op[0] {
	case "add":
		f = func(a, b, _ float64) float64 { return a + b }
	case "sub":
		f = func(a, b, _ float64) float64 { return a - b }
	case "mul":
		f = func(a, b, _ float64) float64 { return a * b }
	case "div":
		f = func(a, b, _ float64) float64 { return a / b }
	case "min":
		f = func(a, b, _ float64) float64 { return least(a, b, false) }
	case "max":
		f = func(a, b, _ float64) float64 { return -least(-a, -b, false) }
	case "fma":
		f, n = func(a, b, e float64) float64 { return math.FMA(a, b, e) }, 3
	case "neg":
		f, n = func(a, _, _ float64) float64 { return -a }, 1
	case "abs":
		f, n = func(a, _, _ float64) float64 { return math.Abs(a) }, 1
	case "sqrt":
		f, n = func(a, _, _ float64) float64 { return math.Sqrt(a) }, 1
	case "rcp":
		f, n = func(a, _, _ float64) float64 { return 1 / a }, 1
	}
	if f == nil || n != len(s) {
		return errUnknown
	}
	return c.set64(d, func(w *warp, z *lanes64) {
		x, y, v := &w.q[at[0]], &w.q[at[1]], &w.q[at[2]]
		for i := range z {
			z[i] = math.Float64bits(f(math.Float64frombits(x[i]), math.Float64frombits(y[i]), math.Float64frombits(v[i])))
		}
	})
}

// halves compiles f16 and bf16, alone and in pairs.
func (c *compiler) halves(t Type, d Operand, s []Operand) error {
	at, err := c.sources32(t, s[:min(len(s), 4)]...)
	if err != nil {
		return err
	}
	i := c.at
	h, ftz, sat, relu := halfOf(t), i.has("ftz"), i.has("sat"), i.has("relu")
	// Products of two and sums of their products fit float64 before the last rounding, to odd.
	var f func(a, b, e float64) float64
	n := 2
	switch i.Op[0] {
	case "add":
		f = func(a, b, _ float64) float64 { return sum(a, b) }
	case "sub":
		f = func(a, b, _ float64) float64 { return sum(a, -b) }
	case "mul":
		f = func(a, b, _ float64) float64 { return a * b }
	case "fma":
		f, n = func(a, b, e float64) float64 { return sum(a*b, e) }, 3
	case "min":
		f = func(a, b, _ float64) float64 { return least(a, b, i.has("NaN")) }
	case "max":
		f = func(a, b, _ float64) float64 { return -least(-a, -b, i.has("NaN")) }
	case "neg":
		f, n = func(a, _, _ float64) float64 { return -a }, 1
	case "abs":
		f, n = func(a, _, _ float64) float64 { return math.Abs(a) }, 1
	case "tanh", "ex2":
		return c.halfApproximation(t, d, at[0])
	}
	if f == nil || n != len(s) {
		return errUnknown
	}
	one := func(a, b, e uint32) uint32 {
		if ftz {
			a, b, e = h.flush(a), h.flush(b), h.flush(e)
		}
		r := f(h.decode(a), h.decode(b), h.decode(e))
		if sat {
			r = max(0, min(1, r))
		}
		if relu {
			r = max(0, r)
		}
		v := h.encode(r, nearest)
		if ftz {
			v = h.flush(v)
		}
		return v
	}
	pair := t == F16X2 || t == BF16X2
	return c.set32(d, func(w *warp, z *lanes32) {
		x, y, v := &w.r[at[0]], &w.r[at[1]], &w.r[at[2]]
		for i := range z {
			r := one(x[i]&0xffff, y[i]&0xffff, v[i]&0xffff)
			if pair {
				r |= one(x[i]>>16, y[i]>>16, v[i]>>16) << 16
			}
			z[i] = r
		}
	})
}

// halfApproximation compiles tanh and ex2 of 16 bits.
func (c *compiler) halfApproximation(t Type, d Operand, at int) error {
	h, e := halfOf(t), c.k.config.errorSource()
	f, bound := math.Tanh, 0x1p-11*0.9 // 2^-10.987 for f16
	if t == BF16 || t == BF16X2 {
		bound = 0x1p-8
	}
	if c.at.Op[0] == "ex2" {
		f = math.Exp2
		if bound != 0x1p-8 {
			bound = 0x1p-10 * 1.07 // 2^-9.9
		} else {
			bound = 0x1p-7
		}
	}
	one := func(v uint32) uint32 {
		a := h.decode(v)
		return h.encode(float64(e.relative(f(a), bound/2, float32(a))), nearest)
	}
	pair := t == F16X2 || t == BF16X2
	return c.set32(d, func(w *warp, z *lanes32) {
		for i, v := range w.r[at] {
			r := one(v & 0xffff)
			if pair {
				r |= one(v>>16) << 16
			}
			z[i] = r
		}
	})
}

// flush replaces a denormal by a zero of its sign.
func (h half) flush(v uint32) uint32 {
	if v&0x7fff < 1<<h.fraction {
		return v & 0x8000
	}
	return v
}
