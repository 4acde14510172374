package main

import (
	"fmt"
	"strconv"
	"strings"
)

// NEON instructions on four float32 lanes that Go's assembler does not know,
// with all registers 0 (Arm Architecture Reference Manual, C7.2).
const (
	neonMin      = 0x4ea0f400 // FMIN, NaN when a source is NaN
	neonMax      = 0x4e20f400 // FMAX, likewise
	neonMaxLanes = 0x6e30f800 // FMAXV to lane 0
	neonAddPairs = 0x6e20d400 // FADDP
	neonSqrt     = 0x6ea1f800 // FSQRT
	neonNegate   = 0x6ea0f800 // FNEG
	neonRound    = 0x4e218800 // FRINTN
	neonToInt    = 0x4e21a800 // FCVTNS
	neonHalve    = 0x4f3f0400 // SSHR #1
	neonFMLALane = 0x4f801000 // FMLA by lane 0
	neonLoad     = 0x3ce06800 // LDR of 128 bits from base and offset registers
	neonStore    = 0x3ca06800 // STR likewise

	// On two float64 lanes.
	neonWidenLow  = 0x0e617800 // FCVTL
	neonWidenHigh = 0x4e617800 // FCVTL2
	neonAdd64     = 0x4e60d400 // FADD
	neonAddPair64 = 0x7e70d800 // FADDP to lane 0
)

func (i isa) neon() bool { return i.lanes == 4 }

// s names lane 0 of vector register i.
func s(i int) string { return fmt.Sprintf("F%d", i) }

// lane names lane 0 of a vector register.
func lane(register string) string { return s(int(number(register))) }

// number is the number in a register's name.
func number(register string) uint32 {
	n, err := strconv.Atoi(register[1:])
	if err != nil || !strings.Contains("VFR", register[:1]) {
		panic("no register: " + register)
	}
	return uint32(n)
}

// encode writes an instruction with destination and up to two sources.
func (fn *function) encode(instruction uint32, registers ...string) {
	for i, r := range registers {
		instruction |= number(r) << []int{0, 5, 16}[i]
	}
	fn.op("WORD", fmt.Sprintf("$0x%08x", instruction))
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
		fn.encode(neonNegate, to, c)
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
