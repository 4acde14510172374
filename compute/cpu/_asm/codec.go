package main

import "fmt"

// The functions of package compress make the same float32 operations on each value as
// its plain Go, so that all paths give the same bits. Numbers of values are whole vectors, mostly multiples
// of 64.

var (
	bytePtr = func(name string) param { return param{name, "*byte"} }
	flag    = param{"ret", "uint32"}
)

func codecs(sets ...isa) *file {
	f := newFile()
	for _, set := range sets {
		genCopyFinite(f, set, "bytesOfFinite", bytePtr("dst"), ptr("src"))
		genCopyFinite(f, set, "finiteOfBytes", ptr("dst"), bytePtr("src"))
		genMaxMagnitude(f, set)
		genInt8(f, set)
		genNibbleCodes(f, set, "int4Codes", "packs codes of Int4: n bytes, n a multiple of 16, from 2n values.",
			(*function).int4Code, roundBias, 15)
		genNibbleCodes(f, set, "e3m0Codes", "packs codes of E3M0: n bytes, n a multiple of 16, from 2n values.",
			(*function).e3m0Code, stretch, belowSmallest, magnitudeBits, 120, 1)
		genNibbleValues(f, set)
		genCountAtLeast(f, set)
		genSumDifference(f, set)
		genProduct(f, set)
	}
	return f
}

const (
	magnitudeBits = 0x7fffffff
	roundBias     = 0x4b400000 // 1.5·2^23
	stretch       = 0x3faaaaab // float32(4.0 / 3)
	belowSmallest = 0x3c2aaaaa // stretch · 2^-7, the number before it
)

// integer vector instructions have a D behind their name with AVX-512.
func (fn *function) and(src, r, dst string) { fn.op(fn.wide("VPAND"), src, r, dst) }
func (fn *function) or(src, r, dst string)  { fn.op(fn.wide("VPOR"), src, r, dst) }

func (fn *function) wide(mnemonic string) string {
	if fn.lanes == 16 {
		return mnemonic + "D"
	}
	return mnemonic
}

// countdown writes a loop over the argument n > 0, step elements at a time; AX counts those done.
func (fn *function) countdown(step int, body func()) {
	again := fn.label("again")
	fn.op("MOVQ", fn.arg("n"), "CX")
	fn.op("XORQ", "AX", "AX")
	fn.place(again)
	body()
	fn.op("ADDQ", fmt.Sprintf("$%d", step), "AX")
	fn.op("CMPQ", "AX", "CX")
	fn.op("JLT", again)
}

// foldInteger combines the lanes of register r by an integer instruction and leaves the function with the
// result; t is overwritten.
func (fn *function) foldInteger(mnemonic string, r, t int) {
	y := func(i int) string { return fmt.Sprintf("Y%d", i) }
	if fn.lanes == 16 {
		fn.op("VEXTRACTI64X4", "$1", fn.v(r), y(t))
		fn.op(mnemonic, y(t), y(r), y(r))
	}
	fn.op("VEXTRACTI128", "$1", y(r), x(t))
	fn.op(mnemonic, x(t), x(r), x(r))
	fn.op("VPSHUFD", "$0x4e", x(r), x(t))
	fn.op(mnemonic, x(t), x(r), x(r))
	fn.op("VPSHUFD", "$0xb1", x(r), x(t))
	fn.op(mnemonic, x(t), x(r), x(r))
	fn.op("VMOVD", x(r), "AX")
	fn.op("MOVL", "AX", fn.arg("ret"))
	fn.end()
}

func genCopyFinite(f *file, set isa, name string, dst, src param) {
	fn := f.begin(set, name, "copies n values, n a multiple of 32, and returns a number whose highest bit is set when one is not finite.",
		dst, src, n, flag)
	p := fn.take("dst", "src")
	mask, one := fn.constant(magnitudeBits), fn.constant(0x00800000)
	fn.zero(fn.v(0))
	fn.countdown(32, func() {
		for i := range 32 / fn.lanes {
			fn.op("VMOVUPS", at(4*i*fn.lanes, p["src"], "AX", 4), fn.v(1))
			fn.op("VMOVUPS", fn.v(1), at(4*i*fn.lanes, p["dst"], "AX", 4))
			fn.and(mask, fn.v(1), fn.v(1))
			fn.op("VPADDD", one, fn.v(1), fn.v(1))
			fn.or(fn.v(1), fn.v(0), fn.v(0))
		}
	})
	fn.foldInteger("VPOR", 0, 1)
}

func genMaxMagnitude(f *file, set isa) {
	fn := f.begin(set, "maxMagnitude", "returns the largest magnitude of n values, n a multiple of 64, as bits.", ptr("src"), n, flag)
	p := fn.take("src")
	mask := fn.constant(magnitudeBits)
	for i := range 4 {
		fn.zero(fn.v(i))
	}
	fn.countdown(64, func() {
		for i := range 64 / fn.lanes {
			fn.op("VMOVUPS", at(4*i*fn.lanes, p["src"], "AX", 4), fn.v(4+i%4))
			fn.and(mask, fn.v(4+i%4), fn.v(4+i%4))
			fn.op("VPMAXUD", fn.v(4+i%4), fn.v(i%4), fn.v(i%4))
		}
	})
	for i := range 3 {
		fn.op("VPMAXUD", fn.v(i+1), fn.v(0), fn.v(0))
	}
	fn.foldInteger("VPMAXUD", 0, 1)
}

func genCountAtLeast(f *file, set isa) {
	fn := f.begin(set, "countAtLeast", "counts the magnitudes of n values, n a multiple of 64, that are limit ≥ 1 or more, as bits.",
		ptr("src"), n, param{"limit", "uint32"}, flag)
	p := fn.take("src")
	mask := fn.constant(magnitudeBits)
	one := ""
	if fn.lanes == 16 {
		one = fn.constant(1)
	}
	below := fn.v(10)
	fn.op("MOVL", fn.arg("limit"), "DX")
	fn.op("DECL", "DX")
	fn.op("VMOVD", "DX", x(10))
	fn.op("VPBROADCASTD", x(10), below)
	fn.zero(fn.v(0))
	fn.zero(fn.v(1))
	fn.countdown(64, func() {
		for i := range 64 / fn.lanes {
			r, sum := fn.v(2+i%4), fn.v(i%2)
			fn.op("VMOVUPS", at(4*i*fn.lanes, p["src"], "AX", 4), r)
			fn.and(mask, r, r)
			if fn.lanes == 16 {
				fn.op("VPCMPGTD", below, r, "K1")
				fn.op("VPADDD", one, sum, "K1", sum)
			} else {
				fn.op("VPCMPGTD", below, r, r)
				fn.op("VPSUBD", r, sum, sum)
			}
		}
	})
	fn.op("VPADDD", fn.v(1), fn.v(0), fn.v(0))
	fn.foldInteger("VPADDD", 0, 1)
}

func genSumDifference(f *file, set isa) {
	fn := f.begin(set, "sumDifference", "sets sum = a + b and difference = a - b for n values, n a multiple of 64.",
		ptr("sum"), ptr("difference"), ptr("a"), ptr("b"), n)
	p := fn.take("sum", "difference", "a", "b")
	fn.countdown(64, func() {
		for i := range 64 / fn.lanes {
			mem := func(name string) string { return at(4*i*fn.lanes, p[name], "AX", 4) }
			fn.op("VMOVUPS", mem("a"), fn.v(0))
			fn.op("VMOVUPS", mem("b"), fn.v(1))
			fn.op("VADDPS", fn.v(1), fn.v(0), fn.v(2))
			fn.op("VSUBPS", fn.v(1), fn.v(0), fn.v(3))
			fn.op("VMOVUPS", fn.v(2), mem("sum"))
			fn.op("VMOVUPS", fn.v(3), mem("difference"))
		}
	})
	fn.end()
}

// narrow stores the lowest bytes of the lanes of r, whose other bits are 0 with AVX2; t is overwritten.
func (fn *function) narrow(r, t int, mem string) {
	if fn.lanes == 16 {
		fn.op("VPMOVDB", fn.v(r), mem)
		return
	}
	fn.op("VEXTRACTI128", "$1", fn.v(r), x(t))
	fn.op("VPACKUSDW", x(t), x(r), x(r))
	fn.op("VPACKUSWB", x(r), x(r), x(r))
	fn.op("VMOVQ", x(r), mem)
}

func genInt8(f *file, set isa) {
	fn := f.begin(set, "int8Codes", "sets n codes, n a multiple of 64.", bytePtr("dst"), ptr("src"), n, num("inverse"))
	p := fn.take("dst", "src")
	inverse, bias, low := fn.broadcast("inverse"), fn.constant(roundBias), ""
	if fn.lanes == 8 {
		low = fn.constant(0xff)
	}
	fn.countdown(32, func() {
		for i := range 32 / fn.lanes {
			r := 2 * i
			fn.op("VMULPS", at(4*i*fn.lanes, p["src"], "AX", 4), inverse, fn.v(r))
			fn.op("VADDPS", bias, fn.v(r), fn.v(r))
			if fn.lanes == 8 {
				fn.and(low, fn.v(r), fn.v(r))
			}
			fn.narrow(r, r+1, at(i*fn.lanes, p["dst"], "AX", 1))
		}
	})
	fn.end()

	fn = f.begin(set, "int8Values", "sets n values, n a multiple of 64, and returns the lowest code.",
		ptr("dst"), bytePtr("src"), n, num("scale"), param{"ret", "int32"})
	p = fn.take("dst", "src")
	scale := fn.broadcast("scale")
	fn.zero(fn.v(0))
	fn.countdown(32, func() {
		for i := range 32 / fn.lanes {
			r := fn.v(1 + i)
			fn.op("VPMOVSXBD", at(i*fn.lanes, p["src"], "AX", 1), r)
			fn.op("VPMINSD", r, fn.v(0), fn.v(0))
			fn.op("VCVTDQ2PS", r, r)
			fn.op("VMULPS", scale, r, r)
			fn.op("VMOVUPS", r, at(4*i*fn.lanes, p["dst"], "AX", 4))
		}
	})
	fn.foldInteger("VPMINSD", 0, 1)
}

// int4Code turns the products in register r into codes.
func (fn *function) int4Code(r, _ int) {
	fn.op("VADDPS", fn.constant(roundBias), fn.v(r), fn.v(r))
	fn.and(fn.constant(15), fn.v(r), fn.v(r))
}

// e3m0Code turns the products in register r into codes; t is overwritten.
func (fn *function) e3m0Code(r, t int) {
	smallest := fn.constant(belowSmallest)
	fn.op("VMULPS", fn.constant(stretch), fn.v(r), fn.v(r))
	fn.and(fn.constant(magnitudeBits), fn.v(r), fn.v(t))
	if fn.lanes == 16 {
		fn.op("VPCMPUD", "$6", smallest, fn.v(t), "K1") // above
	} else {
		fn.op("VPCMPGTD", smallest, fn.v(t), fn.v(5)) // no magnitude is negative
	}
	fn.op("VPSRLD", "$23", fn.v(t), fn.v(t))
	fn.op("VPSUBD", fn.constant(120), fn.v(t), fn.v(t))
	fn.op("VPMAXSD", fn.constant(1), fn.v(t), fn.v(t))
	fn.op("VPSRLD", "$31", fn.v(r), fn.v(r))
	fn.op("VPSLLD", "$3", fn.v(r), fn.v(r))
	if fn.lanes == 16 {
		fn.op("VPORD.Z", fn.v(t), fn.v(r), "K1", fn.v(r))
	} else {
		fn.or(fn.v(t), fn.v(r), fn.v(r))
		fn.and(fn.v(5), fn.v(r), fn.v(r))
	}
}

func genNibbleCodes(f *file, set isa, name, doc string, code func(fn *function, r, t int), constants ...uint32) {
	fn := f.begin(set, name, doc, bytePtr("dst"), ptr("src"), n, num("inverse"))
	p := fn.take("dst", "src")
	fn.op("MOVQ", fn.arg("n"), "CX")
	fn.op("LEAQ", at(0, p["src"], "CX", 4), "R8")
	inverse := fn.broadcast("inverse")
	for _, bits := range constants {
		fn.constant(bits)
	}
	fn.countdown(16, func() {
		for i := range 16 / fn.lanes {
			fn.op("VMULPS", at(4*i*fn.lanes, p["src"], "AX", 4), inverse, fn.v(0))
			code(fn, 0, 1)
			fn.op("VMULPS", at(4*i*fn.lanes, "R8", "AX", 4), inverse, fn.v(2))
			code(fn, 2, 3)
			fn.op("VPSLLD", "$4", fn.v(2), fn.v(2))
			fn.or(fn.v(2), fn.v(0), fn.v(0))
			fn.narrow(0, 1, at(i*fn.lanes, p["dst"], "AX", 1))
		}
	})
	fn.end()
}

func genNibbleValues(f *file, set isa) {
	fn := f.begin(set, "nibbleValues", "sets 2n values, the table's times scale, from n bytes, n a multiple of 16, and returns whether a code is 8.",
		ptr("dst"), bytePtr("src"), n, ptr("table"), num("scale"), flag)
	p := fn.take("dst", "src", "table")
	fn.op("MOVQ", fn.arg("n"), "CX")
	fn.op("LEAQ", at(0, p["dst"], "CX", 4), "R8")
	eight, low := fn.constant(8), fn.constant(15)
	fn.zero(fn.v(0))
	scale := fn.broadcast("scale")
	fn.op("VMULPS", at(0, p["table"]), scale, fn.v(1))
	if fn.lanes == 8 {
		fn.op("VMULPS", at(32, p["table"]), scale, fn.v(2))
	}
	look := func(index, mem string) {
		if fn.lanes == 16 {
			fn.op("VPCMPEQD", eight, index, "K1")
			fn.op("VPORD", index, fn.v(0), "K1", fn.v(0)) // gathers what is 8
			fn.op("VPERMPS", fn.v(1), index, fn.v(4))
		} else {
			fn.op("VPCMPEQD", eight, index, fn.v(4))
			fn.op("VPOR", fn.v(4), fn.v(0), fn.v(0))
			fn.op("VPERMPS", fn.v(1), index, fn.v(4))
			fn.op("VPERMPS", fn.v(2), index, fn.v(5))
			fn.op("VPSLLD", "$28", index, index)
			fn.op("VBLENDVPS", index, fn.v(5), fn.v(4), fn.v(4))
		}
		fn.op("VMOVUPS", fn.v(4), mem)
	}
	fn.countdown(16, func() {
		for i := range 16 / fn.lanes {
			fn.op("VPMOVZXBD", at(i*fn.lanes, p["src"], "AX", 1), fn.v(3))
			fn.op("VPSRLD", "$4", fn.v(3), fn.v(6))
			fn.and(low, fn.v(3), fn.v(3))
			look(fn.v(3), at(4*i*fn.lanes, p["dst"], "AX", 4))
			look(fn.v(6), at(4*i*fn.lanes, "R8", "AX", 4))
		}
	})
	fn.foldInteger("VPOR", 0, 1)
}

// genProduct keeps the sums of one row, with AVX-512 of four, in registers.
func genProduct(f *file, set isa) {
	rows, vectors := 1, 64/set.lanes
	if set.lanes == 16 {
		rows = 4
	}
	fn := f.begin(set, "product", fmt.Sprintf("sets n rows of 64 values, n a multiple of %d, ld bytes apart, to the sums of rank ≥ 1 rows of src, each value times the row's factor; products are rounded, then added in order. Factors stand rowStep and rankStep bytes apart.", rows),
		ptr("dst"), ptr("factors"), ptr("src"), n, param{"rank", "int"}, param{"ld", "int"}, param{"rowStep", "int"}, param{"rankStep", "int"})
	p := fn.take("dst", "factors", "src")
	again, next := fn.label("rows"), fn.label("rank")
	fn.op("MOVQ", fn.arg("n"), "CX")
	fn.op("MOVQ", fn.arg("rowStep"), "R8")
	fn.op("LEAQ", at(0, "R8", "R8", 2), "BX")
	fn.op("MOVQ", fn.arg("ld"), "R9")
	fn.op("MOVQ", fn.arg("rankStep"), "R13")
	fn.place(again)
	for i := range rows * vectors {
		fn.zero(fn.v(i))
	}
	fn.op("MOVQ", p["src"], "R10")
	fn.op("MOVQ", p["factors"], "R12")
	fn.op("MOVQ", fn.arg("rank"), "R11")
	fn.place(next)
	factor := rows * vectors
	t := factor + rows
	for row, mem := range []string{at(0, "R12"), at(0, "R12", "R8", 1), at(0, "R12", "R8", 2), at(0, "R12", "BX", 1)}[:rows] {
		fn.op("VBROADCASTSS", mem, fn.v(factor+row))
	}
	for v := range vectors {
		source := at(4*v*fn.lanes, "R10")
		if rows > 1 {
			fn.op("VMOVUPS", source, fn.v(t+4+v%2))
			source = fn.v(t + 4 + v%2)
		}
		for row := range rows {
			r := t + (v*rows+row)%4
			fn.op("VMULPS", source, fn.v(factor+row), fn.v(r))
			fn.op("VADDPS", fn.v(r), fn.v(row*vectors+v), fn.v(row*vectors+v))
		}
	}
	fn.op("ADDQ", "R13", "R12")
	fn.op("ADDQ", "$256", "R10")
	fn.op("DECQ", "R11")
	fn.op("JNE", next)
	for row := range rows {
		for v := range vectors {
			fn.op("VMOVUPS", fn.v(row*vectors+v), at(4*v*fn.lanes, p["dst"]))
		}
		fn.op("ADDQ", "R9", p["dst"])
		fn.op("ADDQ", "R8", p["factors"])
	}
	fn.op("SUBQ", fmt.Sprintf("$%d", rows), "CX")
	fn.op("JNE", again)
	fn.end()
}
