package main

import "fmt"

// General registers of the NEON micro-kernels.
const (
	tileR                     = "R0" // the tile
	aR, cR, initR             = "R1", "R2", "R3"
	ldaR, ldbR, ldcR, ldinitR = "R4", "R5", "R6", "R7"
	blocksR, depthR, tailR    = "R8", "R11", "R21"
	spareR                    = "R22"
)

const (
	quad = 4  // rows of A that registers hold at once, and k of a step
	wide = 16 // bytes of a vector
)

var (
	panelR = []string{"R9", "R10"} // where B is read for each quad of rows
	rowR   = []string{"R12", "R13", "R14", "R15", "R16", "R17", "R19", "R20"}
)

// genGEMMNEON writes a micro-kernel like genGEMM. Multiply-adds take their
// factor of A from a lane. A row-major A gives four k of a row in one load; with
// 24 sums and a row of B no more than four rows of A fit, so a taller tile goes
// over the four rows of B twice. A k-major A gives four rows in one load.
func genGEMMNEON(f *file, rows, vectors int, kMajor bool) {
	layout := "R"
	if kMajor {
		layout = "K"
	}
	fn := f.begin(neon, fmt.Sprintf("gemm%s%dx%d", layout, rows, vectors),
		fmt.Sprintf("computes blocks of %d rows and %d vectors, see tile.", rows, vectors),
		param{"t", "*tile"})
	g := gemmNEON{function: fn, height: rows, vectors: vectors}
	fn.op("MOVD", fn.arg("t"), tileR)
	for _, l := range []struct {
		field    int
		register string
	}{
		{tileA, aR}, {tileC, cR}, {tileInit, initR}, {tileLDA, ldaR}, {tileLDB, ldbR},
		{tileLDC, ldcR}, {tileLDInit, ldinitR}, {tileBlocks, blocksR}, {tileTail, tailR},
	} {
		fn.op("MOVD", at(l.field, tileR), l.register)
	}
	block, stored := fn.label("block"), fn.label("noInit")
	fn.place(block)
	g.start()
	fn.op("MOVD", at(tileB, tileR), panelR[0])
	fn.op("MOVD", at(tileK, tileR), depthR)
	if kMajor {
		fn.op("MOVD", aR, rowR[0])
		g.deep(g.stepK)
	} else {
		g.reach(aR, ldaR)
		fn.op("MOVD", panelR[0], panelR[1])
		g.deep(g.stepR)
	}
	g.store()

	// The next block of rows.
	shifted := func(ld string) string { return fmt.Sprintf("%s<<%d", ld, map[int]int{1: 0, 2: 1, 4: 2, 8: 3}[rows]) }
	if kMajor {
		fn.increase(aR, 4*rows)
	} else {
		fn.increase(aR, shifted(ldaR))
	}
	fn.increase(cR, shifted(ldcR))
	fn.op("CBZ", initR, stored)
	fn.increase(initR, shifted(ldinitR))
	fn.place(stored)
	fn.decrease(blocksR, 1)
	fn.jump("≠", block)
	fn.end()
}

// gemmNEON is one micro-kernel being written.
type gemmNEON struct {
	*function
	height, vectors int
}

func (g gemmNEON) acc(i, j int) string { return g.v(i*g.vectors + j) }
func (g gemmNEON) b(j int) string      { return g.v(g.height*g.vectors + j) }
func (g gemmNEON) a(i int) string      { return g.v(g.height*g.vectors + g.vectors + i) }

// list is a list of vector registers with an arrangement.
func list(arrangement string, registers ...string) string {
	out := "["
	for i, r := range registers {
		if i > 0 {
			out += ", "
		}
		out += r + "." + arrangement
	}
	return out + "]"
}

// reach points the row registers at the rows of a matrix.
func (g gemmNEON) reach(from, ld string) {
	g.op("MOVD", from, rowR[0])
	for i := 1; i < g.height; i++ {
		g.op("ADD", ld, rowR[i-1], rowR[i])
	}
}

// start sets the sums to what they start from.
func (g gemmNEON) start() {
	zero, bias, ready := g.label("zero"), g.label("bias"), g.label("ready")
	last := g.vectors - 1
	g.op("CBZ", initR, zero)
	g.reach(initR, ldinitR)
	for i := range g.height {
		for j := range last {
			g.op("FMOVQ", at(j*wide, rowR[i]), lane(g.acc(i, j)))
		}
	}
	g.tails(func(lanes int) {
		for i := range g.height {
			g.loadLanes(lanes, last*wide, rowR[i], g.acc(i, last))
		}
	})
	g.op("JMP", bias)
	g.place(zero)
	for i := range g.height {
		for j := range g.vectors {
			g.zero(g.acc(i, j))
		}
	}
	g.place(bias)
	g.op("MOVD", at(tileBias, tileR), rowR[0])
	g.op("CBZ", rowR[0], ready)
	for j := range last {
		g.op("FMOVQ", at(j*wide, rowR[0]), lane(g.b(j)))
	}
	g.tails(func(lanes int) { g.loadLanes(lanes, last*wide, rowR[0], g.b(last)) })
	for i := range g.height {
		for j := range g.vectors {
			g.add(g.acc(i, j), g.acc(i, j), g.b(j))
		}
	}
	g.place(ready)
}

// store writes the sums to C.
func (g gemmNEON) store() {
	last := g.vectors - 1
	g.reach(cR, ldcR)
	for i := range g.height {
		for j := range last {
			g.op("FMOVQ", lane(g.acc(i, j)), at(j*wide, rowR[i]))
		}
	}
	g.tails(func(lanes int) {
		for i := range g.height {
			g.storeLanes(lanes, g.acc(i, last), last*wide, rowR[i])
		}
	})
}

// tails writes body for each number of lanes that the last vector may have.
func (fn *function) tails(body func(lanes int)) {
	four, two, three, done := fn.label("four"), fn.label("two"), fn.label("three"), fn.label("tailDone")
	fn.op("TBNZ", "$2", tailR, four)
	fn.op("TBNZ", "$1", tailR, two)
	body(1)
	fn.op("JMP", done)
	fn.place(two)
	fn.op("TBNZ", "$0", tailR, three)
	body(2)
	fn.op("JMP", done)
	fn.place(three)
	body(3)
	fn.op("JMP", done)
	fn.place(four)
	body(4)
	fn.place(done)
}

// loadLanes loads the first lanes of r and clears the others.
func (fn *function) loadLanes(lanes, disp int, base, r string) {
	fn.op(moveLanes[lanes], at(disp, base), lane(r))
	if lanes == 3 {
		fn.op("ADD", fmt.Sprintf("$%d", disp+8), base, spareR)
		fn.op("VLD1", at(0, spareR), r+".S[2]")
	}
}

// storeLanes stores the first lanes of r.
func (fn *function) storeLanes(lanes int, r string, disp int, base string) {
	fn.op(moveLanes[lanes], lane(r), at(disp, base))
	if lanes == 3 {
		fn.op("ADD", fmt.Sprintf("$%d", disp+8), base, spareR)
		fn.op("VST1", r+".S[2]", at(0, spareR))
	}
}

// moveLanes move 1, 2, the first 2 of 3, and 4 lanes.
var moveLanes = [...]string{1: "FMOVS", 2: "FMOVD", 3: "FMOVD", 4: "FMOVQ"}

// deep writes the loop over k: step(quad), then step(1) for what is left.
func (g gemmNEON) deep(step func(depth int)) {
	again, rest, one, done := g.label("deep"), g.label("rest"), g.label("one"), g.label("summed")
	g.decrease(depthR, quad)
	g.jump("<", rest)
	g.op("PCALIGN", "$16")
	g.place(again)
	step(quad)
	g.decrease(depthR, quad)
	g.jump("≥", again)
	g.place(rest)
	g.increase(depthR, quad)
	g.jump("=", done)
	g.place(one)
	step(1)
	g.decrease(depthR, 1)
	g.jump("≠", one)
	g.place(done)
}

// row loads the next row of the panel.
func (g gemmNEON) row(panel string) {
	var registers []string
	for j := range g.vectors {
		registers = append(registers, g.b(j))
	}
	g.op("VLD1.P", at(0, panel)+"("+ldbR+")", list("S4", registers...))
}

// multiply adds the row of B times a lane of a to the sums of row i.
func (g gemmNEON) multiply(i int, a string, index int) {
	for j := range g.vectors {
		g.encode(neonFMALane(index), g.acc(i, j), g.b(j), a)
	}
}

// stepR adds the next quad of k of row-major A, or the next k.
func (g gemmNEON) stepR(depth int) {
	if depth == 1 {
		g.row(panelR[0])
		for i := range g.height {
			g.op("FMOVS.P", at(4, rowR[i]), lane(g.a(i%quad)))
			g.multiply(i, g.a(i%quad), 0)
		}
		return
	}
	for first := 0; first < g.height; first += quad {
		count := min(quad, g.height-first)
		for i := range count {
			g.op("FMOVQ.P", at(wide, rowR[first+i]), lane(g.a(i)))
		}
		for k := range depth {
			g.row(panelR[first/quad])
			for i := range count {
				g.multiply(first+i, g.a(i), k)
			}
		}
	}
}

// stepK adds the next depth of k-major A.
func (g gemmNEON) stepK(depth int) {
	next := at(0, rowR[0]) + "(" + ldaR + ")"
	for range depth {
		switch g.height {
		case 1:
			g.op("FMOVS", at(0, rowR[0]), lane(g.a(0)))
			g.increase(rowR[0], ldaR)
		case 2:
			g.op("VLD1.P", next, list("S2", g.a(0)))
		case 4:
			g.op("VLD1.P", next, list("S4", g.a(0)))
		default:
			g.op("VLD1.P", next, list("S4", g.a(0), g.a(1)))
		}
		g.row(panelR[0])
		for i := range g.height {
			g.multiply(i, g.a(i/quad), i%quad)
		}
	}
}

// genCopyPanelNEON is genCopyPanel.
func genCopyPanelNEON(f *file, vectors int) {
	fn := f.begin(neon, fmt.Sprintf("copyPanel%d", vectors), copyPanelDoc(vectors),
		param{"dst", "*float32"}, param{"src", "*float32"}, param{"ldsrc", "int"}, param{"k", "int"}, param{"tail", "int"})
	p := fn.take("dst", "src", "ldsrc")
	fn.op("MOVD", fn.arg("k"), depthR)
	fn.op("MOVD", fn.arg("tail"), tailR)
	var registers []string
	for j := range vectors {
		registers = append(registers, fn.v(j))
	}
	fn.tails(func(lanes int) {
		again := fn.label("row")
		fn.place(again)
		for j := range vectors - 1 {
			fn.op("FMOVQ", at(j*wide, p["src"]), lane(fn.v(j)))
		}
		fn.loadLanes(lanes, (vectors-1)*wide, p["src"], fn.v(vectors-1))
		fn.op("VST1.P", list("S4", registers...), at(vectors*wide, p["dst"]))
		fn.increase(p["src"], p["ldsrc"])
		fn.decrease(depthR, 1)
		fn.jump("≠", again)
	})
	fn.end()
}

// genTransposeNEON writes the packing of a transposed B, 4 × 4 values at a time.
func genTransposeNEON(f *file) {
	fn := f.begin(neon, "transpose4", transposeDoc(4),
		param{"dst", "*float32"}, param{"lddst", "int"}, param{"src", "*float32"}, param{"ldsrc", "int"}, param{"blocks", "int"})
	p := fn.take("dst", "lddst", "src", "ldsrc")
	fn.op("MOVD", fn.arg("blocks"), depthR)
	g := gemmNEON{function: fn, height: 4}
	g.reach(p["src"], p["ldsrc"])
	s4 := func(i int) string { return fn.v(i) + ".S4" }
	again := fn.label("block")
	fn.place(again)
	for i := range 4 {
		fn.op("FMOVQ.P", at(wide, rowR[i]), lane(fn.v(i)))
	}
	for i := range 2 { // rows i and i+2 in turns, then those
		fn.op("VZIP1", s4(i+2), s4(i), s4(4+2*i))
		fn.op("VZIP2", s4(i+2), s4(i), s4(5+2*i))
	}
	for i := range 2 {
		fn.op("VZIP1", s4(6+i), s4(4+i), s4(2*i))
		fn.op("VZIP2", s4(6+i), s4(4+i), s4(2*i+1))
	}
	for i := range 4 {
		fn.op("VST1.P", list("S4", fn.v(i)), at(0, p["dst"])+"("+p["lddst"]+")")
	}
	fn.decrease(depthR, 1)
	fn.jump("≠", again)
	fn.end()
}
