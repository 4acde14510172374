package ptxemu

import "fmt"

// Kind says what a kernel did wrong.
type Kind uint8

// The kinds of findings.
const (
	Outside       Kind = iota // an access to memory that is not the program's
	Freed                     // an access to memory that was given back
	Misaligned                // an address that is no multiple of the access's size
	Uninitialised             // a read of memory that nothing wrote
	Race                      // two threads use the same memory, one writes, and nothing orders them
	Unwaited                  // memory is used before an asynchronous copy into it was waited for
	Divergence                // threads that must come together do not
	Endless                   // more instructions than a launch may run
	Trap                      // the kernel stopped itself
)

// String returns the kind in words.
func (k Kind) String() string {
	return [...]string{
		"access out of bounds", "use after free", "misaligned access", "read of uninitialised memory", "race",
		"use before an asynchronous copy was waited for", "divergence", "endless kernel", "trap",
	}[k]
}

// Finding is the first thing that the sanitizers found in a launch. It is an
// error of the stream and, as on a card, the end of the context.
type Finding struct {
	Kind        Kind
	Kernel      string
	Line        int    // of the PTX
	Instruction string // the text of that line
	Block       [3]uint32
	Thread      int // in the block, x fastest
	Detail      string
}

// Error says everything about the finding.
func (f *Finding) Error() string {
	return fmt.Sprintf("%s in kernel %s, PTX line %d (%s), block %d,%d,%d, thread %d: %s",
		f.Kind, f.Kernel, f.Line, f.Instruction, f.Block[0], f.Block[1], f.Block[2], f.Thread, f.Detail)
}

// fault notes a finding at the instruction that runs.
func (w *warp) fault(kind Kind, lane int, format string, args ...any) {
	w.faultAt(w.pc, kind, lane, format, args...)
}

// faultAt notes a finding at another instruction. Only a block's first counts.
func (w *warp) faultAt(pc int32, kind Kind, lane int, format string, args ...any) {
	worker := w.block.worker
	if worker.finding != nil {
		return
	}
	k := worker.kernel
	f := &Finding{Kind: kind, Kernel: k.name, Block: w.block.place, Thread: 32*w.index + lane, Detail: fmt.Sprintf(format, args...)}
	f.Line, f.Instruction = k.place(pc)
	worker.finding = f
}

// place returns the line and text of an instruction.
func (k *kernel) place(pc int32) (int, string) {
	if int(pc) >= len(k.entry.Body) {
		return 0, "end of the kernel"
	}
	i := &k.entry.Body[pc]
	return i.Line, i.text(k.source)
}
