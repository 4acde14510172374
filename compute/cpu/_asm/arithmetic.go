package main

import "fmt"

// The arithmetic of a kernel's body. Each writes one operation on all lanes in
// the instructions of the function's set: x86 here, NEON in neon.go. The
// destination comes first and may be any of the operands. A constant may be
// the last operand; in fma and fnma it may be b too.

// two writes an instruction with two sources, of x86 or NEON.
func (fn *function) two(x86 string, neon encoded, dst, a, b string) {
	if fn.neon() {
		fn.encode(neon, dst, a, b)
		return
	}
	fn.op(x86, b, a, dst)
}

// add sets dst = a + b.
func (fn *function) add(dst, a, b string) { fn.two("VADDPS", neonAdd, dst, a, b) }

// sub sets dst = a - b.
func (fn *function) sub(dst, a, b string) { fn.two("VSUBPS", neonSub, dst, a, b) }

// mul sets dst = a·b.
func (fn *function) mul(dst, a, b string) { fn.two("VMULPS", neonMul, dst, a, b) }

// div sets dst = a/b.
func (fn *function) div(dst, a, b string) { fn.two("VDIVPS", neonDiv, dst, a, b) }

// sqrt sets dst = √a.
func (fn *function) sqrt(dst, a string) {
	if fn.neon() {
		fn.encode(neonSqrt, dst, a)
		return
	}
	fn.op("VSQRTPS", a, dst)
}

// move copies a register or constant.
func (fn *function) move(dst, src string) {
	if fn.neon() {
		fn.op("VMOV", src+".B16", dst+".B16")
		return
	}
	fn.op("VMOVUPS", src, dst)
}

// zero clears register r.
func (fn *function) zero(r string) {
	switch fn.lanes {
	case 16:
		fn.op("VPXORD", r, r, r)
	case 8:
		fn.op("VXORPS", r, r, r)
	default:
		fn.op("VEOR", r+".B16", r+".B16", r+".B16")
	}
}

// fma sets dst = a·b + c, rounded once.
func (fn *function) fma(dst, a, b, c string) {
	if fn.neon() {
		fn.fused("VFMLA", dst, a, b, c, false)
		return
	}
	fn.fused86("VFMADD", dst, a, b, c)
}

// fnma sets dst = c - a·b, rounded once.
func (fn *function) fnma(dst, a, b, c string) {
	if fn.neon() {
		fn.fused("VFMLS", dst, a, b, c, false)
		return
	}
	fn.fused86("VFNMADD", dst, a, b, c)
}

// fms sets dst = a·b - c, rounded once.
func (fn *function) fms(dst, a, b, c string) {
	if fn.neon() {
		fn.fused("VFMLA", dst, a, b, c, true)
		return
	}
	fn.fused86("VFMSUB", dst, a, b, c)
}

// fused86 chooses the form by the operand that is overwritten.
func (fn *function) fused86(mnemonic, dst, a, b, c string) {
	switch dst {
	case c:
		fn.op(mnemonic+"231PS", b, a, dst)
	case a:
		fn.op(mnemonic+"213PS", c, b, dst)
	case b:
		fn.op(mnemonic+"213PS", c, a, dst)
	default:
		panic(fn.name + ": a fused operation overwrites an operand")
	}
}

// horner sets p to the polynomial of r with coefficients c, the highest first.
func (fn *function) horner(p, r string, c []string) {
	if !fn.neon() {
		fn.move(p, c[0])
		for _, next := range c[1:] {
			fn.fma(p, p, r, next)
		}
		return
	}
	// A sum overwrites the addend: take turns, so that p comes last.
	t := fn.reserved()
	if len(c)%2 == 0 {
		p, t = t, p
	}
	fn.move(p, c[0])
	for _, next := range c[1:] {
		fn.move(t, next)
		fn.fma(t, p, r, t)
		p, t = t, p
	}
}

// limit sets r to the nearest value of least..most, which are constants; NaN
// stays NaN and t is overwritten.
func (fn *function) limit(r, least, most, t string) {
	if fn.neon() {
		fn.encode(neonMin, r, r, most)
		fn.encode(neonMax, r, r, least)
		return
	}
	// The second source is what a comparison with NaN returns: keep r there.
	fn.move(t, most)
	fn.op("VMINPS", r, t, r)
	fn.move(t, least)
	fn.op("VMAXPS", r, t, r)
}

// round sets dst to the whole number nearest to a, ties to even.
func (fn *function) round(dst, a string) {
	switch fn.lanes {
	case 16:
		fn.op("VRNDSCALEPS", "$8", a, dst)
	case 8:
		fn.op("VROUNDPS", "$8", a, dst)
	default:
		fn.encode(neonRound, dst, a)
	}
}

// power multiplies p by 2**n for whole n of -151..129; n and t are overwritten.
// But with AVX-512 there are two factors, so that results near the limits stay
// exact.
func (fn *function) power(p, n, t string) {
	if fn.lanes == 16 {
		fn.op("VSCALEFPS", n, p, p)
		return
	}
	bias := fn.constant(127)
	if fn.neon() {
		fn.neonPower(p, n, t, bias)
		return
	}
	fn.op("VCVTPS2DQ", n, n)
	fn.op("VPSRAD", "$1", n, t)
	fn.op("VPSUBD", t, n, n)
	fn.op("VPADDD", bias, t, t)
	fn.op("VPSLLD", "$23", t, t)
	fn.op("VMULPS", t, p, p)
	fn.op("VPADDD", bias, n, n)
	fn.op("VPSLLD", "$23", n, n)
	fn.op("VMULPS", n, p, p)
}

// sum adds the lanes of register r into its lane 0, always in the same order;
// t is overwritten.
func (fn *function) sum(r, t int) {
	if fn.neon() {
		fn.encode(neonAddPairs, fn.v(r), fn.v(r), fn.v(r))
		fn.encode(neonAddPairs, fn.v(r), fn.v(r), fn.v(r))
		return
	}
	fn.fold("VADDPS", r, t)
}

// fold combines the lanes of x86 register r into its lane 0 with an instruction.
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

// timesArg multiplies lane 0 of register r by a parameter; t is overwritten.
func (fn *function) timesArg(r, t int, name string) {
	if fn.neon() {
		fn.op("FMOVS", fn.arg(name), s(t))
		fn.op("FMULS", s(t), s(r), s(r))
		return
	}
	fn.op("VMULSS", fn.arg(name), x(r), x(r))
}

// inverseRoot sets lane 0 of register r to 1/√(inv·r + eps), inv and eps
// parameters; t is overwritten.
func (fn *function) inverseRoot(r, t int) {
	fn.timesArg(r, t, "inv")
	if fn.neon() {
		fn.op("FMOVS", fn.arg("eps"), s(t))
		fn.op("FADDS", s(t), s(r), s(r))
		fn.op("FSQRTS", s(r), s(r))
		fn.op("FMOVS", "$1.0", s(t))
		fn.op("FDIVS", s(r), s(t), s(r))
		return
	}
	fn.op("VADDSS", fn.arg("eps"), x(r), x(r))
	fn.op("VSQRTSS", x(r), x(r), x(r))
	fn.op("VMOVSS", fn.word(word(1))+"(SB)", x(t))
	fn.op("VDIVSS", x(r), x(t), x(r))
}

// give stores lane 0 of register r as a result.
func (fn *function) give(r int, name string) {
	if fn.neon() {
		fn.op("FMOVS", s(r), fn.arg(name))
		return
	}
	fn.op("VMOVSS", x(r), fn.arg(name))
}

// spread copies lane 0 of register r to every lane of dst.
func (fn *function) spread(dst string, r int) {
	if fn.neon() {
		fn.op("VDUP", fn.v(r)+".S[0]", dst+".S4")
		return
	}
	fn.op("VBROADCASTSS", x(r), dst)
}
