package main

import (
	"fmt"
	"math"
)

// loop is the inside of an elementwise function: the same body is written for
// whole vectors and for what is left: a shorter vector on x86, one value after
// the other, in lane 0, with NEON.
type loop struct {
	fn     *function
	masked bool
	turn   int // see total
}

// machine is what control flow needs to know of one architecture.
type machine struct {
	move     string            // the instruction that loads general registers
	jumps    map[string]string // by the comparison of a result with 0
	pointers []string          // registers of parameters, in their order
	index    string            // elements done; with NEON bytes
	count    string            // elements in all, less one vector; with NEON to do, less one vector
	rows     []string          // where columns.over reads, one a source
	scalars  []string          // where it reads one value a row; on x86 the number of the row
	left     string            // rows to do
}

var (
	x86 = machine{
		move: "MOVQ", jumps: map[string]string{"<": "JLT", "≥": "JGE", "=": "JEQ", "≠": "JNE"},
		pointers: []string{"SI", "DI", "DX", "BX", "R8", "R9", "R10"},
		index:    "AX", count: "CX", rows: []string{"R12", "R15"}, scalars: []string{"R11"}, left: "R13",
	}
	arm64 = machine{
		move: "MOVD", jumps: map[string]string{"<": "BLT", "≥": "BGE", "=": "BEQ", "≠": "BNE"},
		pointers: []string{"R0", "R1", "R2", "R3", "R4", "R5", "R6"},
		index:    "R7", count: "R8", rows: []string{"R9", "R10"}, scalars: []string{"R11", "R12"}, left: "R13",
	}
)

func (i isa) machine() *machine {
	if i.neon() {
		return &arm64
	}
	return &x86
}

// increase adds a register or number to a general register; a jump may follow.
func (fn *function) increase(register string, by any) { fn.integer("ADD", register, by) }

// decrease is increase by the negative.
func (fn *function) decrease(register string, by any) { fn.integer("SUB", register, by) }

func (fn *function) integer(mnemonic, register string, by any) {
	if n, ok := by.(int); ok {
		by = fmt.Sprintf("$%d", n)
	}
	if fn.neon() {
		fn.op(mnemonic+"S", by, register, register)
	} else {
		fn.op(mnemonic+"Q", by, register)
	}
}

// jump goes to label if the last increase or decrease left < 0, ≥ 0, = 0, ≠ 0.
func (fn *function) jump(when, label string) { fn.op(fn.machine().jumps[when], label) }

// take loads pointer parameters into registers and returns them by name.
func (fn *function) take(names ...string) map[string]string {
	regs := map[string]string{}
	for i, name := range names {
		regs[name] = fn.machine().pointers[i]
		fn.op(fn.machine().move, fn.arg(name), regs[name])
	}
	return regs
}

// reserved is the register that no constant takes: with AVX2 it holds the lanes
// of the last vector, with NEON it serves fused.
func (fn *function) reserved() string { return fn.v(fn.regs - 1) }

// load reads the vector at pointer, zeros in the lanes past the end.
func (l loop) load(pointer, r string) {
	index := l.fn.machine().index
	switch {
	case !l.fn.neon():
		l.loadFrom(at(0, pointer, index, 4), r)
	case l.masked:
		l.fn.op("FMOVS", at(0, pointer)+"("+index+")", lane(r))
	default:
		l.fn.encode(neonLoad, r, pointer, index)
	}
}

// loadFrom is load from any memory operand.
func (l loop) loadFrom(mem, r string) {
	switch {
	case l.fn.neon() && l.masked:
		l.fn.op("FMOVS", mem, lane(r))
	case l.fn.neon():
		l.fn.op("FMOVQ", mem, lane(r))
	case !l.masked:
		l.fn.op("VMOVUPS", mem, r)
	case l.fn.lanes == 16:
		l.fn.op("VMOVUPS.Z", mem, "K1", r)
	default:
		l.fn.op("VMASKMOVPS", mem, l.fn.reserved(), r)
	}
}

// save writes the lanes of r that are inside.
func (l loop) save(r, pointer string) {
	index := l.fn.machine().index
	switch {
	case !l.fn.neon():
		l.saveTo(r, at(0, pointer, index, 4))
	case l.masked:
		l.fn.op("FMOVS", lane(r), at(0, pointer)+"("+index+")")
	default:
		l.fn.encode(neonStore, r, pointer, index)
	}
}

// saveTo is save to any memory operand.
func (l loop) saveTo(r, mem string) {
	switch {
	case l.fn.neon() && l.masked:
		l.fn.op("FMOVS", lane(r), mem)
	case l.fn.neon():
		l.fn.op("FMOVQ", lane(r), mem)
	case !l.masked:
		l.fn.op("VMOVUPS", r, mem)
	case l.fn.lanes == 16:
		l.fn.op("VMOVUPS", r, "K1", mem)
	default:
		l.fn.op("VMASKMOVPS", r, l.fn.reserved(), mem)
	}
}

// clip zeroes the lanes of r past the end.
func (l loop) clip(r string) {
	switch {
	case !l.masked:
	case l.fn.neon():
		l.fn.op("FMOVS", lane(r), lane(r))
	case l.fn.lanes == 16:
		l.fn.op("VMOVAPS.Z", r, "K1", r)
	default:
		l.fn.op("VANDPS", l.fn.reserved(), r, r)
	}
}

// each writes the loop over the n elements.
func (fn *function) each(body func(l loop)) {
	if fn.neon() {
		fn.eachNEON(1, body)
		return
	}
	index, count := fn.machine().index, fn.machine().count
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
		fn.loadMask(count, "R11", fn.reserved())
	}
	body(loop{fn: fn, masked: true})
	fn.place(done)
}

// eachNEON takes some vectors in turns, then one, then single values.
func (fn *function) eachNEON(turns int, body func(l loop)) {
	index, count := fn.machine().index, fn.machine().count
	fn.op("MOVD", "ZR", index)
	fn.op("MOVD", fn.arg("n"), count)
	fn.steps(4*turns, func() {
		for i := range turns {
			body(loop{fn: fn, turn: i})
			fn.increase(index, 16)
		}
	})
	if turns > 1 {
		fn.steps(4, func() {
			body(loop{fn: fn})
			fn.increase(index, 16)
		})
	}
	fn.steps(1, func() {
		body(loop{fn: fn, masked: true})
		fn.increase(index, 4)
	})
}

// steps repeats body, which takes size of the count's elements, while there are
// so many.
func (fn *function) steps(size int, body func()) {
	again, rest := fn.label("again"), fn.label("rest")
	count := fn.machine().count
	fn.decrease(count, size)
	fn.jump("<", rest)
	fn.op("PCALIGN", "$16")
	fn.place(again)
	body()
	fn.decrease(count, size)
	fn.jump("≥", again)
	fn.place(rest)
	fn.increase(count, size)
}

// total leaves in lane 0 of register 0 the sum over the n elements of what body
// adds to the register sum. NEON's short vectors are added to four sums in
// turns, so that an addition need not wait for the one before.
func (fn *function) total(body func(l loop, sum string)) {
	if !fn.neon() {
		fn.zero(fn.v(0))
		fn.each(func(l loop) { body(l, fn.v(0)) })
		fn.sum(0, 1)
		return
	}
	const turns, first = 4, 16 // below all constants of functions that use total
	for i := range turns {
		fn.zero(fn.v(first + i))
	}
	fn.eachNEON(turns, func(l loop) { body(l, fn.v(first+l.turn)) })
	fn.add(fn.v(first), fn.v(first), fn.v(first+2))
	fn.add(fn.v(first+1), fn.v(first+1), fn.v(first+3))
	fn.add(fn.v(0), fn.v(first), fn.v(first+1))
	fn.sum(0, 1)
}

func word(f float32) uint32 { return math.Float32bits(f) }

var (
	ptr = func(name string) param { return param{name, "*float32"} }
	num = func(name string) param { return param{name, "float32"} }
	n   = param{"n", "int"}
	ret = param{"ret", "float32"}
)

// columns is a column of vectors, one in each row of some matrices, and values
// of which there is one a row. A part of its registers is overwritten.
type columns struct {
	loop
	sources, scalars []string // pointers
	ld               string   // bytes from row to row of all sources
}

// over writes a loop over the rows: body(i) for row i of each group and for the
// single rows that are left.
func (c columns) over(group int, body func(i int)) {
	fn, m := c.fn, c.fn.machine()
	again, rest, single, done := fn.label("rows"), fn.label("rest"), fn.label("row"), fn.label("rowsDone")
	c.begin()
	step := func(i int) {
		body(i)
		for j := range c.sources {
			fn.increase(m.rows[j], c.ld)
		}
		if len(c.scalars) > 0 && !fn.neon() {
			fn.increase(m.scalars[0], 1)
		}
	}
	fn.op(m.move, fn.arg("rows"), m.left)
	fn.decrease(m.left, group)
	fn.jump("<", rest)
	fn.place(again)
	for i := range group {
		step(i)
	}
	fn.decrease(m.left, group)
	fn.jump("≥", again)
	fn.place(rest)
	fn.increase(m.left, group)
	fn.jump("=", done)
	fn.place(single)
	step(0)
	fn.decrease(m.left, 1)
	fn.jump("≠", single)
	fn.place(done)
}

// begin sets the registers to the first row.
func (c columns) begin() {
	fn, m := c.fn, c.fn.machine()
	if !fn.neon() {
		for i, source := range c.sources {
			fn.op("LEAQ", at(0, source, m.index, 4), m.rows[i])
		}
		if len(c.scalars) > 0 {
			fn.op("XORQ", m.scalars[0], m.scalars[0])
		}
		return
	}
	for i, source := range c.sources {
		fn.op("ADD", m.index, source, m.rows[i])
	}
	for i, scalar := range c.scalars {
		fn.op("MOVD", scalar, m.scalars[i])
	}
}

// read loads the row's vector of a source.
func (c columns) read(source int, r string) { c.loadFrom(at(0, c.fn.machine().rows[source]), r) }

// write stores the row's vector of a source.
func (c columns) write(r string, source int) { c.saveTo(r, at(0, c.fn.machine().rows[source])) }

// scalar loads the row's value of scalar i into every lane, once a row.
func (c columns) scalar(i int, r string) {
	if c.fn.neon() {
		c.fn.op("VLD1R.P", at(4, c.fn.machine().scalars[i]), "["+r+".S4]")
		return
	}
	c.fn.op("VBROADCASTSS", at(0, c.scalars[i], c.fn.machine().scalars[0], 4), r)
}
