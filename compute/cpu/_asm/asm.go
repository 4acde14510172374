package main

import (
	"fmt"
	"strings"
)

// isa is one vector instruction set: AVX-512F with 16 lanes, the same with
// products of bf16, AVX2 with FMA and 8 lanes, or NEON (arm64's Advanced SIMD)
// with 4 lanes.
type isa struct {
	suffix string // of function names
	lanes  int
	reg    string // prefix of vector registers
	regs   int    // vector registers
	pairs  bool   // a lane of a product's operands holds two bf16 values
}

var (
	avx512 = isa{suffix: "AVX512", lanes: 16, reg: "Z", regs: 32}
	bf16   = isa{suffix: "BF16", lanes: 16, reg: "Z", regs: 32, pairs: true}
	avx2   = isa{suffix: "AVX2", lanes: 8, reg: "Y", regs: 16}
	neon   = isa{suffix: "NEON", lanes: 4, reg: "V", regs: 32}
)

// param is one argument of an assembly function; all take 8 bytes but those of 32 bits.
type param struct{ name, typ string }

// file collects the functions and constants of one generated pair: assembly
// and Go declarations.
type file struct {
	text      strings.Builder
	decl      strings.Builder
	constants map[string]bool
	data      strings.Builder
}

// function writes one assembly function. Instructions are in the operand order
// of Go's assembler: sources first, destination last.
type function struct {
	*file
	isa
	name   string
	labels int
	next   int               // constant registers are given from the top down to next
	args   map[string]string // memory operands of the parameters
	held   map[string]string // registers of the constants
}

// begin starts a function with doc (one sentence) and parameters; results come
// last and their names begin with ret.
func (f *file) begin(set isa, name, doc string, params ...param) *function {
	fn := &function{file: f, isa: set, name: name + set.suffix, next: set.regs - 2, args: map[string]string{}, held: map[string]string{}}
	if set.lanes == 16 {
		fn.next++ // nothing is reserved
	}
	offset, in, out := 0, []string{}, []string{}
	offsets := map[string]int{}
	for _, p := range params {
		size := 8
		if strings.HasSuffix(p.typ, "32") && p.typ[0] != '*' {
			size = 4
		}
		if strings.HasPrefix(p.name, "ret") {
			if len(out) == 0 {
				offset = (offset + 7) &^ 7
			}
			out = append(out, p.name+" "+p.typ)
		} else {
			in = append(in, p.name+" "+p.typ)
		}
		offset = (offset + size - 1) &^ (size - 1)
		offsets[p.name] = offset
		offset += size
	}
	fmt.Fprintf(&f.decl, "\n// %s %s\n//\n//go:noescape\nfunc %s(%s)", fn.name, doc, fn.name, strings.Join(in, ", "))
	if len(out) > 0 {
		fmt.Fprintf(&f.decl, " (%s)", strings.Join(out, ", "))
	}
	f.decl.WriteString("\n")
	fmt.Fprintf(&f.text, "\n// func %s(%s) (%s)\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", fn.name, strings.Join(in, ", "), strings.Join(out, ", "), fn.name, offset)
	for name, at := range offsets {
		fn.args[name] = fmt.Sprintf("%s+%d(FP)", name, at)
	}
	return fn
}

// op writes one instruction, "MNEMONIC" and operands.
func (fn *function) op(mnemonic string, operands ...any) {
	fmt.Fprintf(&fn.text, "\t%s", mnemonic)
	for i, o := range operands {
		if i > 0 {
			fn.text.WriteString(",")
		}
		fmt.Fprintf(&fn.text, " %v", o)
	}
	fn.text.WriteString("\n")
}

// comment writes a line comment.
func (fn *function) comment(format string, args ...any) {
	fmt.Fprintf(&fn.text, "\t// "+format+"\n", args...)
}

// arg is the memory operand of a parameter.
func (fn *function) arg(name string) string {
	operand, ok := fn.args[name]
	if !ok {
		panic(fn.name + ": no parameter " + name)
	}
	return operand
}

// label returns a fresh label name.
func (fn *function) label(word string) string {
	fn.labels++
	return fmt.Sprintf("%s%d", word, fn.labels)
}

// place writes the label here.
func (fn *function) place(label string) { fmt.Fprintf(&fn.text, "%s:\n", label) }

// end leaves the function.
func (fn *function) end() {
	if !fn.neon() {
		fn.op("VZEROUPPER")
	}
	fn.op("RET")
}

// v names vector register i.
func (fn *function) v(i int) string {
	if i >= fn.regs {
		panic(fn.name + ": out of vector registers")
	}
	return fmt.Sprintf("%s%d", fn.reg, i)
}

// x names the low 128 bits of vector register i.
func x(i int) string { return fmt.Sprintf("X%d", i) }

// word declares a read-only table of one 32-bit word repeated 16 times and
// returns its symbol.
func (f *file) word(bits uint32) string {
	symbol := fmt.Sprintf("w%08x<>", bits)
	if !f.constants[symbol] {
		f.constants[symbol] = true
		pair := uint64(bits)<<32 | uint64(bits)
		for i := range 8 {
			fmt.Fprintf(&f.data, "DATA %s+%d(SB)/8, $0x%016x\n", symbol, 8*i, pair)
		}
		fmt.Fprintf(&f.data, "GLOBL %s(SB), RODATA|NOPTR, $64\n", symbol)
	}
	return symbol
}

// constant returns an operand for the word in every lane: with AVX2 memory,
// else a register loaded once (call it before the loop).
func (fn *function) constant(bits uint32) string {
	if fn.lanes == 8 {
		return fn.word(bits) + "(SB)"
	}
	key := fmt.Sprint(bits)
	if r, ok := fn.held[key]; ok {
		return r
	}
	r := fn.v(fn.next)
	fn.next--
	if fn.neon() {
		fn.op("MOVW", fmt.Sprintf("$0x%08x", bits), "R14")
		fn.op("VDUP", "R14", r+".S4")
	} else {
		fn.op("VMOVUPS", fn.word(bits)+"(SB)", r)
	}
	fn.held[key] = r
	return r
}

// broadcast loads a float32 parameter into every lane of a register kept for
// the whole function.
func (fn *function) broadcast(name string) string {
	r := fn.v(fn.next)
	if fn.neon() {
		fn.op("FMOVS", fn.arg(name), s(fn.next))
		fn.spread(r, fn.next)
	} else {
		fn.op("VBROADCASTSS", fn.arg(name), r)
	}
	fn.next--
	return r
}

// at formats a memory operand.
func at(disp int, base string, index ...any) string {
	d := ""
	if disp != 0 {
		d = fmt.Sprint(disp)
	}
	if len(index) == 2 {
		return fmt.Sprintf("%s(%s)(%v*%v)", d, base, index[0], index[1])
	}
	return fmt.Sprintf("%s(%s)", d, base)
}
