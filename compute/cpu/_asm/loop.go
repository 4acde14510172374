package main

import (
	"fmt"
	"math"
)

// loop is the inside of an elementwise function: the same body is written for
// whole vectors and for the last, shorter one.
type loop struct {
	fn     *function
	masked bool
}

const (
	index = "AX" // elements done
	count = "CX" // elements in all, less one vector
)

// pointers are the registers that hold pointer parameters, in their order.
var pointers = []string{"SI", "DI", "DX", "BX", "R8", "R9", "R10"}

// take loads pointer parameters into registers and returns them by name.
func (fn *function) take(names ...string) map[string]string {
	regs := map[string]string{}
	for i, name := range names {
		regs[name] = pointers[i]
		fn.op("MOVQ", fn.arg(name), pointers[i])
	}
	return regs
}

// mask is the AVX2 register that holds the lanes of the last vector.
func (fn *function) mask() string { return fn.v(fn.regs - 1) }

// load reads the vector at pointer, zeros in the lanes past the end.
func (l loop) load(pointer, r string) { l.loadFrom(at(0, pointer, index, 4), r) }

// loadFrom is load from any memory operand.
func (l loop) loadFrom(mem, r string) {
	switch {
	case !l.masked:
		l.fn.op("VMOVUPS", mem, r)
	case l.fn.lanes == 16:
		l.fn.op("VMOVUPS.Z", mem, "K1", r)
	default:
		l.fn.op("VMASKMOVPS", mem, l.fn.mask(), r)
	}
}

// save writes the lanes of r that are inside.
func (l loop) save(r, pointer string) { l.saveTo(r, at(0, pointer, index, 4)) }

// saveTo is save to any memory operand.
func (l loop) saveTo(r, mem string) {
	switch {
	case !l.masked:
		l.fn.op("VMOVUPS", r, mem)
	case l.fn.lanes == 16:
		l.fn.op("VMOVUPS", r, "K1", mem)
	default:
		l.fn.op("VMASKMOVPS", r, l.fn.mask(), mem)
	}
}

// clip zeroes the lanes of r past the end.
func (l loop) clip(r string) {
	switch {
	case !l.masked:
	case l.fn.lanes == 16:
		l.fn.op("VMOVAPS.Z", r, "K1", r)
	default:
		l.fn.op("VANDPS", l.fn.mask(), r, r)
	}
}

// each writes the loop over the n elements.
func (fn *function) each(body func(l loop)) {
	again, tail, done := fn.label("vector"), fn.label("tail"), fn.label("done")
	fn.op("XORQ", index, index)
	fn.op("MOVQ", fn.arg("n"), count)
	fn.op("SUBQ", fmt.Sprintf("$%d", fn.lanes), count)
	fn.op("JLT", tail)
	fn.op("PCALIGN", "$32")
	fn.place(again)
	body(loop{fn: fn})
	fn.op("ADDQ", fmt.Sprintf("$%d", fn.lanes), index)
	fn.op("CMPQ", index, count)
	fn.op("JLE", again)
	fn.place(tail)
	fn.op("ADDQ", fmt.Sprintf("$%d", fn.lanes), count)
	fn.op("SUBQ", index, count)
	fn.op("JEQ", done)
	if fn.lanes == 16 {
		fn.op("MOVL", "$1", "R11")
		fn.op("SHLL", count, "R11")
		fn.op("DECL", "R11")
		fn.op("KMOVW", "R11", "K1")
	} else {
		fn.loadMask(count, "R11", fn.mask())
	}
	body(loop{fn: fn, masked: true})
	fn.place(done)
}

// sum adds the lanes of register r into its lane 0, always in the same order;
// t is overwritten.
func (fn *function) sum(r, t int) { fn.fold("VADDPS", r, t) }

// fold combines the lanes of register r into its lane 0 with an instruction.
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

func word(f float32) uint32 { return math.Float32bits(f) }

var (
	ptr = func(name string) param { return param{name, "*float32"} }
	num = func(name string) param { return param{name, "float32"} }
	n   = param{"n", "int"}
	ret = param{"ret", "float32"}
)

// overRows writes a loop over the rows of a column of vectors: body(i, memory)
// for row i of each group and for the single rows that are left. R12 and R13
// are overwritten.
func (fn *function) overRows(src, ld string, group int, body func(i int, row string)) {
	again, rest, single, done := fn.label("rows"), fn.label("rest"), fn.label("row"), fn.label("rowsDone")
	fn.op("LEAQ", at(0, src, index, 4), "R12")
	fn.op("MOVQ", fn.arg("rows"), "R13")
	fn.op("SUBQ", fmt.Sprintf("$%d", group), "R13")
	fn.op("JLT", rest)
	fn.place(again)
	for i := range group {
		body(i, "(R12)")
		fn.op("ADDQ", ld, "R12")
	}
	fn.op("SUBQ", fmt.Sprintf("$%d", group), "R13")
	fn.op("JGE", again)
	fn.place(rest)
	fn.op("ADDQ", fmt.Sprintf("$%d", group), "R13")
	fn.op("JEQ", done)
	fn.place(single)
	body(0, "(R12)")
	fn.op("ADDQ", ld, "R12")
	fn.op("DECQ", "R13")
	fn.op("JNE", single)
	fn.place(done)
}

// broadcastBelowMask is broadcast, keeping AVX2's mask register free.
func (fn *function) broadcastBelowMask(name string) string {
	if fn.lanes == 8 && fn.next == fn.regs-1 {
		fn.next--
	}
	return fn.broadcast(name)
}
