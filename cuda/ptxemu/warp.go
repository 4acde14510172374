package ptxemu

import "math/bits"

// warp is 32 threads that run in step. Where they part, one side runs to the
// point where they meet and the other follows, as cards before Volta do.
type warp struct {
	r     []lanes32
	q     []lanes64
	p     []uint32
	block *block
	index int

	pc, meet int32
	active   uint32 // lanes that run now
	alive    uint32 // lanes that did not leave the kernel
	all      uint32 // lanes that exist
	stack    []frame
	done     bool
	waits    int32 // pc of the barrier where the warp waits, -1 for none

	syncs   uint16   // barriers of the warp so far
	copies  []copied // cp.async that may not have landed
	commits lanes32  // groups of them that each lane closed
	local   []byte   // of all lanes, one behind the other

	scratch32 lanes32
	scratch64 lanes64
	address   lanes64 // of the access that runs
}

// frame is what lanes do later.
type frame struct {
	pc, meet int32
	mask     uint32
}

// start puts a warp before the first instruction.
func (w *warp) start() {
	w.pc, w.meet, w.active, w.alive = 0, -1, w.all, w.all
	w.stack, w.copies = w.stack[:0], w.copies[:0]
	w.done, w.waits, w.syncs = false, -1, 0
	w.commits = lanes32{}
}

// resume runs the warp until it waits at a barrier of the block, leaves or finds a fault.
func (w *warp) resume() {
	worker := w.block.worker
	code, executed, lanes := worker.kernel.code, worker.executed, worker.lanes
	for budget := worker.budget; ; budget-- {
		for w.pc == w.meet {
			if !w.pop() {
				worker.budget = budget
				return
			}
		}
		if budget == 0 {
			worker.budget = 0
			if !worker.refill() {
				w.fault(Endless, 0, "the launch ran %d instructions without an end", worker.launch.limit)
				return
			}
			budget = worker.budget
		}
		op := &code[w.pc]
		m := w.active
		if op.guard >= 0 {
			if p := w.p[op.guard]; op.negate {
				m &^= p
			} else {
				m &= p
			}
		}
		executed[w.pc]++
		lanes[w.pc] += uint64(bits.OnesCount32(m))
		switch op.kind {
		case plain:
			if m != 0 {
				op.run(w, m)
				if worker.finding != nil {
					return
				}
			}
			w.pc++
		case branch:
			w.branch(op, m)
		case leave:
			w.alive &^= m
			w.active &^= m
			w.pc++
			if w.active == 0 && !w.pop() {
				worker.budget = budget
				return
			}
		case barrier:
			if m == 0 {
				w.pc++
				continue
			}
			if m != w.all {
				w.fault(Divergence, bits.TrailingZeros32(m), "threads %#x of the warp's %#x are at the barrier", m, w.all)
				return
			}
			worker.budget = budget
			w.waits = w.pc
			w.pc++
			return
		}
	}
}

// branch parts the lanes or not.
func (w *warp) branch(op *operation, taken uint32) {
	rest := w.active &^ taken
	switch {
	case taken == 0:
		w.pc++
	case rest == 0:
		w.pc = op.target
	default:
		if w.meet != op.meet {
			w.stack = append(w.stack, frame{op.meet, w.meet, w.active})
		}
		if w.pc+1 != op.meet {
			w.stack = append(w.stack, frame{w.pc + 1, op.meet, rest})
		}
		w.pc, w.meet, w.active = op.target, op.meet, taken
		if op.target == op.meet { // only the others have something to do
			w.pop()
		}
	}
}

// pop goes on with lanes that were put off. It reports whether there are any left.
func (w *warp) pop() bool {
	for n := len(w.stack) - 1; n >= 0; n-- {
		f := w.stack[n]
		w.stack = w.stack[:n]
		if w.active = f.mask & w.alive; w.active != 0 {
			w.pc, w.meet = f.pc, f.meet
			return true
		}
	}
	w.done, w.active = true, 0
	return false
}
