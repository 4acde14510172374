package main

import (
	"fmt"
	"strconv"
	"strings"
)

// encoded is an instruction that Go's assembler does not know: its bits with all
// registers 0 and how it is written (Arm Architecture Reference Manual, C7.2).
type encoded struct {
	bits    uint32
	written string
}

var (
	neonAdd   = encoded{0x4e20d400, "fadd v%d.4s, v%d.4s, v%d.4s"}
	neonSub   = encoded{0x4ea0d400, "fsub v%d.4s, v%d.4s, v%d.4s"}
	neonMul   = encoded{0x6e20dc00, "fmul v%d.4s, v%d.4s, v%d.4s"}
	neonDiv   = encoded{0x6e20fc00, "fdiv v%d.4s, v%d.4s, v%d.4s"}
	neonMin   = encoded{0x4ea0f400, "fmin v%d.4s, v%d.4s, v%d.4s"} // NaN when a source is NaN
	neonMax   = encoded{0x4e20f400, "fmax v%d.4s, v%d.4s, v%d.4s"} // likewise
	neonSqrt  = encoded{0x6ea1f800, "fsqrt v%d.4s, v%d.4s"}
	neonMinus = encoded{0x6ea0f800, "fneg v%d.4s, v%d.4s"}
	neonRound = encoded{0x4e218800, "frintn v%d.4s, v%d.4s"}
	neonToInt = encoded{0x4e21a800, "fcvtns v%d.4s, v%d.4s"}
	neonHalve = encoded{0x4f3f0400, "sshr v%d.4s, v%d.4s, #1"}

	neonAddPairs = encoded{0x6e20d400, "faddp v%d.4s, v%d.4s, v%d.4s"}
	neonMaxLanes = encoded{0x6e30f800, "fmaxv s%d, v%d.4s"}
	neonLoad     = encoded{0x3ce06800, "ldr q%d, [x%d, x%d]"}
	neonStore    = encoded{0x3ca06800, "str q%d, [x%d, x%d]"}

	neonWidenLow  = encoded{0x0e617800, "fcvtl v%d.2d, v%d.2s"}
	neonWidenHigh = encoded{0x4e617800, "fcvtl2 v%d.2d, v%d.4s"}
	neonAdd64     = encoded{0x4e60d400, "fadd v%d.2d, v%d.2d, v%d.2d"}
	neonAddPair64 = encoded{0x7e70d800, "faddp d%d, v%d.2d"}
)

// neonFMALane multiplies by lane i of its last register.
func neonFMALane(i int) encoded {
	return encoded{0x4f801000 | uint32(i&1)<<21 | uint32(i>>1)<<11, fmt.Sprintf("fmla v%%d.4s, v%%d.4s, v%%d.s[%d]", i)}
}

func (i isa) neon() bool { return i.lanes == 4 }

// s names lane 0 of vector register i.
func s(i int) string { return fmt.Sprintf("F%d", i) }

// lane names lane 0 of a vector register.
func lane(register string) string { return s(int(number(register))) }

// number is the number in a register's name.
func number(register string) uint32 {
	n, err := strconv.Atoi(register[1:])
	if err != nil || !strings.Contains("VFRZ", register[:1]) {
		panic("no register: " + register)
	}
	return uint32(n)
}

// encode writes an instruction with destination and up to two sources.
func (fn *function) encode(e encoded, registers ...string) {
	bits, numbers := e.bits, []any{}
	for i, r := range registers {
		bits |= number(r) << []int{0, 5, 16}[i]
		numbers = append(numbers, number(r))
	}
	fn.op("WORD", fmt.Sprintf("$0x%08x // %s", bits, fmt.Sprintf(e.written, numbers...)))
}

// fused writes dst = c ± a·b, or -c ± a·b, by an instruction that overwrites
// the addend.
func (fn *function) fused(mnemonic, dst, a, b, c string, negate bool) {
	to := dst
	if dst != c && (dst == a || dst == b) {
		to = fn.reserved()
	}
	switch {
	case negate:
		fn.encode(neonMinus, to, c)
	case to != c:
		fn.move(to, c)
	}
	fn.op(mnemonic, b+".S4", a+".S4", to+".S4")
	if to != dst {
		fn.move(dst, to)
	}
}

// neonPower is power, with 127 in every lane of bias.
func (fn *function) neonPower(p, n, t, bias string) {
	s4 := func(r string) string { return r + ".S4" }
	fn.encode(neonToInt, n, n)
	fn.encode(neonHalve, t, n)
	fn.op("VSUB", s4(t), s4(n), s4(n))
	for _, r := range []string{t, n} {
		fn.op("VADD", s4(bias), s4(r), s4(r))
		fn.op("VSHL", "$23", s4(r), s4(r))
		fn.mul(p, p, r)
	}
}
