package main

import "fmt"

// Offsets of type tile in ../gemm.go; a test compares them.
const (
	tileA      = 8 * iota // first row (or first k of the first row) of A
	tileB                 // panel of B
	tileC                 // first row of C
	tileInit              // nil, or what the sums start from
	tileBias              // nil, or a row that is added to the start
	tileLDA               // bytes from row to row of A (from k to k when k-major)
	tileLDB               // bytes from k to k of the panel
	tileLDC               // bytes from row to row of C
	tileLDInit            // bytes from row to row of init
	tileK                 // products summed
	tileBlocks            // blocks of rows computed, one below the other
	tileTail              // lanes of the last vector of a row, 1..lanes
)

// genGEMM writes the micro-kernels: rows × vectors tiles of C whose sums stay
// in registers. A is read in place by broadcasts, row-major ("R") or k-major
// ("K", for the product with a transposed A); B is a panel of whole vectors.
// Each sum is one chain of fused multiply-adds in the order of k, so a value
// does not depend on the tile it was computed in. With pairs, k counts pairs of
// bf16 values, which lie in the place of one float32.
func genGEMM(f *file, set isa, rows, vectors int, kMajor bool) {
	layout := "R"
	if kMajor {
		layout = "K"
	}
	fn := f.begin(set, fmt.Sprintf("gemm%s%dx%d", layout, rows, vectors),
		fmt.Sprintf("computes blocks of %d rows and %d vectors, see tile.", rows, vectors),
		param{"t", "*tile"})
	acc := func(i, j int) string { return fn.v(i*vectors + j) }
	b := func(j int) string { return fn.v(rows*vectors + j) }
	spare := fn.regs - rows*vectors - vectors
	if spare > 6 {
		spare = 6
	}
	broadcast := func(i int) string { return fn.v(rows*vectors + vectors + i%spare) }
	wide := 4 * fn.lanes
	// Rows are reached from three base registers by scaled indexing.
	bases := []string{"R13", "R14", "R15"}
	row := func(i, disp int, stride string) string {
		switch i % 3 {
		case 0:
			return at(disp, bases[i/3])
		case 1:
			return at(disp, bases[i/3], stride, 1)
		default:
			return at(disp, bases[i/3], stride, 2)
		}
	}
	setBases := func(from, stride string) {
		fn.op("MOVQ", from, bases[0])
		for i := 1; i < (rows+2)/3; i++ {
			fn.op("LEAQ", at(0, bases[i-1], stride, 2), bases[i])
			fn.op("ADDQ", stride, bases[i])
		}
	}

	fn.op("MOVQ", fn.arg("t"), "DI")
	fn.op("MOVQ", at(tileA, "DI"), "AX")
	fn.op("MOVQ", at(tileC, "DI"), "DX")
	fn.op("MOVQ", at(tileInit, "DI"), "SI")
	fn.op("MOVQ", at(tileLDA, "DI"), "R8")
	fn.op("MOVQ", at(tileLDB, "DI"), "R9")
	fn.op("MOVQ", at(tileLDC, "DI"), "R10")
	fn.op("MOVQ", at(tileLDInit, "DI"), "R11")
	fn.op("MOVQ", at(tileBlocks, "DI"), "R12")
	if fn.lanes == 16 {
		fn.op("MOVQ", at(tileTail, "DI"), "CX")
		fn.op("MOVL", "$1", "BX")
		fn.op("SHLL", "CX", "BX")
		fn.op("DECL", "BX")
		fn.op("KMOVW", "BX", "K1")
	}
	block := fn.label("block")
	fn.place(block)

	// What the sums start from.
	zero := fn.label("zero")
	bias, ready := fn.label("bias"), fn.label("ready")
	maskReg := fn.v(fn.regs - 1) // AVX2 only; free outside of the loop over k
	fn.op("TESTQ", "SI", "SI")
	fn.op("JEQ", zero)
	setBases("SI", "R11")
	fn.tailed(func(load func(mem, r string), _ func(r, mem string)) {
		for i := range rows {
			for j := range vectors {
				mem := row(i, j*wide, "R11")
				if j == vectors-1 {
					load(mem, acc(i, j))
				} else {
					fn.op("VMOVUPS", mem, acc(i, j))
				}
			}
		}
	}, maskReg)
	fn.op("JMP", bias)
	fn.place(zero)
	for i := range rows {
		for j := range vectors {
			fn.zero(acc(i, j))
		}
	}
	fn.place(bias)
	fn.op("MOVQ", at(tileBias, "DI"), "R13")
	fn.op("TESTQ", "R13", "R13")
	fn.op("JEQ", ready)
	fn.tailed(func(load func(mem, r string), _ func(r, mem string)) {
		for j := range vectors {
			if j == vectors-1 {
				load(at(j*wide, "R13"), b(j))
			} else {
				fn.op("VMOVUPS", at(j*wide, "R13"), b(j))
			}
			for i := range rows {
				fn.op("VADDPS", b(j), acc(i, j), acc(i, j))
			}
		}
	}, maskReg)
	fn.place(ready)
	// What is stored after the loop, and what the next block starts from, come
	// nearer meanwhile.
	setBases("DX", "R10")
	for i := range rows {
		for j := range vectors {
			fn.op("PREFETCHT0", row(i, j*wide, "R10"))
		}
	}
	far := fn.label("far")
	fn.op("TESTQ", "SI", "SI")
	fn.op("JEQ", far)
	fn.op("IMUL3Q", fmt.Sprintf("$%d", rows), "R11", "BX")
	fn.op("ADDQ", "SI", "BX")
	setBases("BX", "R11")
	for i := range rows {
		for j := range vectors {
			fn.op("PREFETCHT0", row(i, j*wide, "R11"))
		}
	}
	fn.place(far)

	// The sums.
	fn.op("MOVQ", at(tileB, "DI"), "BX")
	fn.op("MOVQ", at(tileK, "DI"), "CX")
	if kMajor {
		fn.op("MOVQ", "AX", "R13")
	} else {
		setBases("AX", "R8")
	}
	step := func(u int) {
		for j := range vectors {
			fn.op("VMOVUPS", at(j*wide, "BX"), b(j))
		}
		for i := range rows {
			if kMajor {
				fn.op("VBROADCASTSS", at(4*i, "R13"), broadcast(i))
			} else {
				fn.op("VBROADCASTSS", row(i, 4*u, "R8"), broadcast(i))
			}
			for j := range vectors {
				if fn.pairs {
					fn.dotPairs(b(j), broadcast(i), acc(i, j))
				} else {
					fn.op("VFMADD231PS", b(j), broadcast(i), acc(i, j))
				}
			}
		}
		fn.op("ADDQ", "R9", "BX")
		if kMajor {
			fn.op("ADDQ", "R8", "R13")
		}
	}
	advance := func(u int) {
		if kMajor {
			return
		}
		for i := range (rows + 2) / 3 {
			fn.op("ADDQ", fmt.Sprintf("$%d", 4*u), bases[i])
		}
	}
	const unroll = 4
	four, one, single, store := fn.label("four"), fn.label("one"), fn.label("single"), fn.label("store")
	fn.op("SUBQ", fmt.Sprintf("$%d", unroll), "CX")
	fn.op("JLT", one)
	fn.op("PCALIGN", "$32")
	fn.place(four)
	for u := range unroll {
		step(u)
	}
	advance(unroll)
	fn.op("SUBQ", fmt.Sprintf("$%d", unroll), "CX")
	fn.op("JGE", four)
	fn.place(one)
	fn.op("ADDQ", fmt.Sprintf("$%d", unroll), "CX")
	fn.op("JEQ", store)
	fn.place(single)
	step(0)
	advance(1)
	fn.op("DECQ", "CX")
	fn.op("JNE", single)

	fn.place(store)
	setBases("DX", "R10")
	fn.tailed(func(_ func(mem, r string), save func(r, mem string)) {
		for i := range rows {
			for j := range vectors {
				mem := row(i, j*wide, "R10")
				if j == vectors-1 {
					save(acc(i, j), mem)
				} else {
					fn.op("VMOVUPS", acc(i, j), mem)
				}
			}
		}
	}, maskReg)

	// The next block of rows.
	if kMajor {
		fn.op("ADDQ", fmt.Sprintf("$%d", 4*rows), "AX")
	} else {
		fn.op("IMUL3Q", fmt.Sprintf("$%d", rows), "R8", "BX")
		fn.op("ADDQ", "BX", "AX")
	}
	fn.op("IMUL3Q", fmt.Sprintf("$%d", rows), "R10", "BX")
	fn.op("ADDQ", "BX", "DX")
	noInit := fn.label("noInit")
	fn.op("TESTQ", "SI", "SI")
	fn.op("JEQ", noInit)
	fn.op("IMUL3Q", fmt.Sprintf("$%d", rows), "R11", "BX")
	fn.op("ADDQ", "BX", "SI")
	fn.place(noInit)
	fn.op("DECQ", "R12")
	fn.op("JNE", block)
	fn.end()
}

// tailed writes body with the loads and stores of the last vector of a row
// masked. AVX-512 masks with K1 at no cost; AVX2's masked moves are slow, so
// body is written twice and whole vectors take the plain copy.
func (fn *function) tailed(body func(load func(mem, r string), save func(r, mem string)), mask string) {
	if fn.lanes == 16 {
		body(func(mem, r string) { fn.op("VMOVUPS.Z", mem, "K1", r) },
			func(r, mem string) { fn.op("VMOVUPS", r, "K1", mem) })
		return
	}
	part, done := fn.label("part"), fn.label("done")
	fn.op("MOVQ", at(tileTail, "DI"), "CX")
	fn.op("CMPQ", "CX", "$8")
	fn.op("JNE", part)
	body(func(mem, r string) { fn.op("VMOVUPS", mem, r) }, func(r, mem string) { fn.op("VMOVUPS", r, mem) })
	fn.op("JMP", done)
	fn.place(part)
	fn.loadMask("CX", "BX", mask)
	body(func(mem, r string) { fn.op("VMASKMOVPS", mem, mask, r) },
		func(r, mem string) { fn.op("VMASKMOVPS", r, mask, mem) })
	fn.place(done)
}

// loadMask loads an AVX2 mask with the first count lanes set; both registers
// are overwritten.
func (fn *function) loadMask(count, scratch, mask string) {
	symbol := fn.maskTable()
	fn.op("LEAQ", symbol+"+32(SB)", scratch)
	fn.op("SHLQ", "$2", count)
	fn.op("SUBQ", count, scratch)
	fn.op("VMOVUPS", at(0, scratch), mask)
}

// maskTable declares eight words of ones and eight of zeros.
func (f *file) maskTable() string {
	const symbol = "lanes<>"
	if !f.constants[symbol] {
		f.constants[symbol] = true
		for i := range 8 {
			word := "0xffffffffffffffff"
			if i >= 4 {
				word = "0"
			}
			fmt.Fprintf(&f.data, "DATA %s+%d(SB)/8, $%s\n", symbol, 8*i, word)
		}
		fmt.Fprintf(&f.data, "GLOBL %s(SB), RODATA|NOPTR, $64\n", symbol)
	}
	return symbol
}

func copyPanelDoc(vectors int) string {
	return fmt.Sprintf("packs k rows of %d vectors, the last with tail lanes and then zeros; ldsrc is in bytes.", vectors)
}

// genCopyPanel writes the packing of B as it lies: k rows of vectors.
func genCopyPanel(f *file, set isa, vectors int) {
	fn := f.begin(set, fmt.Sprintf("copyPanel%d", vectors),
		copyPanelDoc(vectors),
		param{"dst", "*float32"}, param{"src", "*float32"}, param{"ldsrc", "int"}, param{"k", "int"}, param{"tail", "int"})
	wide := 4 * fn.lanes
	fn.op("MOVQ", fn.arg("dst"), "DX")
	fn.op("MOVQ", fn.arg("src"), "SI")
	fn.op("MOVQ", fn.arg("ldsrc"), "R8")
	fn.op("MOVQ", fn.arg("k"), "R9")
	fn.op("MOVQ", fn.arg("tail"), "CX")
	mask := fn.v(fn.regs - 1)
	loop := func(last func(mem, r string)) {
		again := fn.label("row")
		fn.place(again)
		for j := range vectors {
			if j == vectors-1 {
				last(at(j*wide, "SI"), fn.v(j))
			} else {
				fn.op("VMOVUPS", at(j*wide, "SI"), fn.v(j))
			}
		}
		for j := range vectors {
			fn.op("VMOVUPS", fn.v(j), at(j*wide, "DX"))
		}
		fn.op("ADDQ", "R8", "SI")
		fn.op("ADDQ", fmt.Sprintf("$%d", vectors*wide), "DX")
		fn.op("DECQ", "R9")
		fn.op("JNE", again)
	}
	if fn.lanes == 16 {
		fn.op("MOVL", "$1", "BX")
		fn.op("SHLL", "CX", "BX")
		fn.op("DECL", "BX")
		fn.op("KMOVW", "BX", "K1")
		loop(func(mem, r string) { fn.op("VMOVUPS.Z", mem, "K1", r) })
		fn.end()
		return
	}
	part, done := fn.label("part"), fn.label("done")
	fn.op("CMPQ", "CX", "$8")
	fn.op("JNE", part)
	loop(func(mem, r string) { fn.op("VMOVUPS", mem, r) })
	fn.op("JMP", done)
	fn.place(part)
	fn.loadMask("CX", "BX", mask)
	loop(func(mem, r string) { fn.op("VMASKMOVPS", mem, mask, r) })
	fn.place(done)
	fn.end()
}

func transposeDoc(side int) string {
	return fmt.Sprintf("sets dst[i][j] = src[j][i] for %d rows of src and %d·blocks of its columns; ld are in bytes.", side, side)
}

// genTranspose writes the packing of a transposed B, 8 × 8 values at a time.
// It needs AVX only and serves both instruction sets.
func genTranspose(f *file) {
	fn := f.begin(avx2, "transpose8", transposeDoc(8),
		param{"dst", "*float32"}, param{"lddst", "int"}, param{"src", "*float32"}, param{"ldsrc", "int"}, param{"blocks", "int"})
	fn.op("MOVQ", fn.arg("dst"), "DX")
	fn.op("MOVQ", fn.arg("lddst"), "R8")
	fn.op("MOVQ", fn.arg("src"), "SI")
	fn.op("MOVQ", fn.arg("ldsrc"), "R9")
	fn.op("MOVQ", fn.arg("blocks"), "CX")
	fn.op("LEAQ", "(R9)(R9*2)", "R10") // 3 rows of src
	fn.op("LEAQ", "(R8)(R8*2)", "R11") // 3 rows of dst
	again := fn.label("block")
	fn.place(again)
	fn.op("LEAQ", "(SI)(R9*4)", "DI")
	fn.op("LEAQ", "(DX)(R8*4)", "BX")
	for half := range 2 {
		// Lane pairs: rows j and j+4 side by side.
		for j, index := range []string{"", "(R9*1)", "(R9*2)", "(R10*1)"} {
			disp := ""
			if half == 1 {
				disp = "16"
			}
			fn.op("VMOVUPS", fmt.Sprintf("%s(SI)%s", disp, index), x(8*half+j))
			fn.op("VINSERTF128", "$1", fmt.Sprintf("%s(DI)%s", disp, index), fmt.Sprintf("Y%d", 8*half+j), fmt.Sprintf("Y%d", 8*half+j))
		}
		y := func(i int) string { return fmt.Sprintf("Y%d", 8*half+i) }
		fn.op("VUNPCKLPS", y(1), y(0), y(4))
		fn.op("VUNPCKHPS", y(1), y(0), y(5))
		fn.op("VUNPCKLPS", y(3), y(2), y(6))
		fn.op("VUNPCKHPS", y(3), y(2), y(7))
		fn.op("VUNPCKLPD", y(6), y(4), y(0))
		fn.op("VUNPCKHPD", y(6), y(4), y(1))
		fn.op("VUNPCKLPD", y(7), y(5), y(2))
		fn.op("VUNPCKHPD", y(7), y(5), y(3))
		base := []string{"DX", "BX"}[half]
		for j, index := range []string{"", "(R8*1)", "(R8*2)", "(R11*1)"} {
			fn.op("VMOVUPS", y(j), fmt.Sprintf("(%s)%s", base, index))
		}
	}
	fn.op("ADDQ", "$32", "SI")
	fn.op("LEAQ", "(DX)(R8*8)", "DX")
	fn.op("DECQ", "CX")
	fn.op("JNE", again)
	fn.end()
}

// genPeak writes a loop of fused multiply-adds in registers.
func genPeak(f *file, set isa) {
	chains := 12
	if set.neon() { // some processors have four multiply-adders of four cycles
		chains = 24
	}
	fn := f.begin(set, "fmaLoop", fmt.Sprintf("runs n rounds of %d independent fused multiply-adds of %d lanes.", chains, set.lanes), param{"n", "int"})
	count := fn.machine().count
	fn.op(fn.machine().move, fn.arg("n"), count)
	for i := range chains + 2 {
		fn.zero(fn.v(i))
	}
	again := fn.label("again")
	fn.op("PCALIGN", "$32")
	fn.place(again)
	for i := range chains {
		fn.fma(fn.v(i), fn.v(chains+1), fn.v(chains), fn.v(i))
	}
	fn.decrease(count, 1)
	fn.jump("≠", again)
	fn.end()
}
