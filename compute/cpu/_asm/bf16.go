package main

import "fmt"

// The instructions of AVX512_BF16 are written as bytes, since Go's assembler
// does not know them (Intel's manual, volume 2: VDPBF16PS, VCVTNE2PS2BF16).

// evex writes an instruction on whole 512-bit registers of the map 0F38 with
// W = 0 and operands in the order of Go's assembler: second source (rm), first
// source (vvvv), destination. Prefix is 2 for F3 and 3 for F2.
func (fn *function) evex(mnemonic string, prefix, opcode uint32, second, first, dst string) {
	rm, v, reg := number(second), number(first), number(dst)
	bit := func(register uint32, i int) uint32 { return ^register >> i & 1 } // registers are stored inverted
	p0 := bit(reg, 3)<<7 | bit(rm, 4)<<6 | bit(rm, 3)<<5 | bit(reg, 4)<<4 | 2
	p1 := ^v&15<<3 | 1<<2 | prefix
	p2 := 2<<5 | bit(v, 4)<<3
	modrm := 0xc0 | reg&7<<3 | rm&7
	fmt.Fprintf(&fn.text, "\tLONG $0x%02x%02x%02x62; WORD $0x%02x%02x // %s %s, %s, %s\n", p2, p1, p0, modrm, opcode, mnemonic, second, first, dst)
}

// dotPairs adds to each lane of dst the two products of the pairs in the lanes
// of a and b.
func (fn *function) dotPairs(b, a, dst string) { fn.evex("VDPBF16PS", 2, 0x52, b, a, dst) }

// pairUp rounds the 16 values of low and then the 16 of high to bf16 in dst.
func (fn *function) pairUp(low, high, dst string) { fn.evex("VCVTNE2PS2BF16", 3, 0x72, low, high, dst) }

// genNarrowRows writes the rounding of rows as they lie: two neighbours are a pair.
func genNarrowRows(f *file) {
	fn := f.begin(bf16, "narrowRows", "rounds rows ≥ 1 rows of n values to bf16 and fills each up with zeros to a multiple of 32; ld are in bytes.",
		param{"dst", "*float32"}, param{"lddst", "int"}, param{"src", "*float32"}, param{"ldsrc", "int"}, param{"n", "int"}, param{"rows", "int"})
	fn.op("MOVQ", fn.arg("dst"), "DI")
	fn.op("MOVQ", fn.arg("lddst"), "R9")
	fn.op("MOVQ", fn.arg("src"), "SI")
	fn.op("MOVQ", fn.arg("ldsrc"), "R8")
	fn.op("MOVQ", fn.arg("rows"), "DX")
	// The lanes of the last 32 values.
	fn.op("MOVQ", fn.arg("n"), "CX")
	fn.op("ANDQ", "$31", "CX")
	fn.op("MOVQ", "$1", "BX")
	fn.op("SHLQ", "CX", "BX")
	fn.op("DECQ", "BX")
	fn.op("KMOVW", "BX", "K1")
	fn.op("SHRQ", "$16", "BX")
	fn.op("KMOVW", "BX", "K2")
	row, again, tail, next := fn.label("row"), fn.label("vectors"), fn.label("tail"), fn.label("next")
	fn.place(row)
	fn.op("LEAQ", at(0, "SI", "R8", 1), "R10") // the next row comes nearer meanwhile
	fn.op("XORQ", "AX", "AX")
	fn.op("MOVQ", fn.arg("n"), "CX")
	fn.op("SUBQ", "$32", "CX")
	fn.op("JLT", tail)
	fn.place(again)
	fn.op("PREFETCHT0", at(0, "R10", "AX", 4))
	fn.op("PREFETCHT0", at(64, "R10", "AX", 4))
	fn.op("VMOVUPS", at(0, "SI", "AX", 4), "Z0")
	fn.op("VMOVUPS", at(64, "SI", "AX", 4), "Z1")
	fn.pairUp("Z0", "Z1", "Z0")
	fn.op("VMOVUPS", "Z0", at(0, "DI", "AX", 2))
	fn.op("ADDQ", "$32", "AX")
	fn.op("SUBQ", "$32", "CX")
	fn.op("JGE", again)
	fn.place(tail)
	fn.op("ADDQ", "$32", "CX")
	fn.op("JEQ", next)
	fn.op("VMOVUPS.Z", at(0, "SI", "AX", 4), "K1", "Z0")
	fn.op("VMOVUPS.Z", at(64, "SI", "AX", 4), "K2", "Z1")
	fn.pairUp("Z0", "Z1", "Z0")
	fn.op("VMOVUPS", "Z0", at(0, "DI", "AX", 2))
	fn.place(next)
	fn.op("ADDQ", "R8", "SI")
	fn.op("ADDQ", "R9", "DI")
	fn.op("DECQ", "DX")
	fn.op("JNE", row)
	fn.end()
}

// genPairRows writes the rounding of rows whose pairs are above each other.
func genPairRows(f *file) {
	fn := f.begin(bf16, "pairRows", "rounds n columns of rows ≥ 1 rows to bf16, two rows to one of pairs, fills an odd row up with zeros, and each row to a multiple of 16 pairs; ld are in bytes.",
		param{"dst", "*float32"}, param{"lddst", "int"}, param{"src", "*float32"}, param{"ldsrc", "int"}, param{"n", "int"}, param{"rows", "int"})
	const order = "pairs<>"
	f.table(order, func(i int) uint16 { return uint16(i&1<<4 | i>>1) })
	fn.op("VMOVUPS", order+"(SB)", "Z31")
	fn.op("MOVQ", fn.arg("dst"), "DI")
	fn.op("MOVQ", fn.arg("lddst"), "R9")
	fn.op("MOVQ", fn.arg("src"), "SI")
	fn.op("MOVQ", fn.arg("ldsrc"), "R8")
	fn.op("MOVQ", fn.arg("rows"), "DX")
	fn.op("MOVQ", fn.arg("n"), "CX")
	fn.op("ANDQ", "$15", "CX")
	fn.op("MOVL", "$1", "BX")
	fn.op("SHLL", "CX", "BX")
	fn.op("DECL", "BX")
	fn.op("KMOVW", "BX", "K1")
	// The second row of a pair, and none after an odd last one.
	fn.op("LEAQ", at(0, "SI", "R8", 1), "R10")
	fn.op("MOVL", "$0xffff", "R11")
	fn.op("KMOVW", "R11", "K2")
	fn.op("KMOVW", "K1", "K3")
	row, again, tail, next, odd := fn.label("row"), fn.label("vectors"), fn.label("tail"), fn.label("next"), fn.label("pair")
	fn.place(row)
	fn.op("CMPQ", "DX", "$1")
	fn.op("JNE", odd)
	fn.op("KXORW", "K2", "K2", "K2")
	fn.op("KXORW", "K3", "K3", "K3")
	fn.place(odd)
	// Rows further down come nearer meanwhile.
	fn.op("LEAQ", at(0, "SI", "R8", 8), "R12")
	fn.op("LEAQ", at(0, "R10", "R8", 8), "R13")
	fn.op("XORQ", "AX", "AX")
	fn.op("MOVQ", fn.arg("n"), "CX")
	fn.op("SUBQ", "$16", "CX")
	fn.op("JLT", tail)
	fn.place(again)
	fn.op("PREFETCHT0", at(0, "R12", "AX", 4))
	fn.op("PREFETCHT0", at(0, "R13", "AX", 4))
	fn.op("VMOVUPS", at(0, "SI", "AX", 4), "Z0")
	fn.op("VMOVUPS.Z", at(0, "R10", "AX", 4), "K2", "Z1")
	fn.pairUp("Z0", "Z1", "Z0")
	fn.op("VPERMW", "Z0", "Z31", "Z0")
	fn.op("VMOVUPS", "Z0", at(0, "DI", "AX", 4))
	fn.op("ADDQ", "$16", "AX")
	fn.op("SUBQ", "$16", "CX")
	fn.op("JGE", again)
	fn.place(tail)
	fn.op("ADDQ", "$16", "CX")
	fn.op("JEQ", next)
	fn.op("VMOVUPS.Z", at(0, "SI", "AX", 4), "K1", "Z0")
	fn.op("VMOVUPS.Z", at(0, "R10", "AX", 4), "K3", "Z1")
	fn.pairUp("Z0", "Z1", "Z0")
	fn.op("VPERMW", "Z0", "Z31", "Z0")
	fn.op("VMOVUPS", "Z0", at(0, "DI", "AX", 4))
	fn.place(next)
	fn.op("LEAQ", at(0, "SI", "R8", 2), "SI")
	fn.op("LEAQ", at(0, "R10", "R8", 2), "R10")
	fn.op("ADDQ", "R9", "DI")
	fn.op("SUBQ", "$2", "DX")
	fn.op("JGT", row)
	fn.end()
}

// table declares 32 read-only 16-bit words.
func (f *file) table(symbol string, word func(i int) uint16) {
	for i := 0; i < 32; i += 4 {
		var four uint64
		for j := range 4 {
			four |= uint64(word(i+j)) << (16 * j)
		}
		fmt.Fprintf(&f.data, "DATA %s+%d(SB)/8, $0x%016x\n", symbol, 2*i, four)
	}
	fmt.Fprintf(&f.data, "GLOBL %s(SB), RODATA|NOPTR, $64\n", symbol)
}
