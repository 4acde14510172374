package ptxemu

import (
	"fmt"
	"math"
	"math/bits"
)

// combine returns what an atomic operation or reduction makes of the old value and the operand; nil when there is none.
func combine(op string, t Type) func(old, v uint64) uint64 {
	width := 8 * t.bytes()
	sign := func(v uint64) int64 { return int64(v<<(64-width)) >> (64 - width) }
	switch {
	case op == "add" && t == F32:
		return func(old, v uint64) uint64 {
			return uint64(math.Float32bits(math.Float32frombits(uint32(old)) + math.Float32frombits(uint32(v))))
		}
	case op == "add" && t == F64:
		return func(old, v uint64) uint64 {
			return math.Float64bits(math.Float64frombits(old) + math.Float64frombits(v))
		}
	case t.float():
		return nil
	}
	switch op {
	case "add":
		return func(old, v uint64) uint64 { return old + v }
	case "and":
		return func(old, v uint64) uint64 { return old & v }
	case "or":
		return func(old, v uint64) uint64 { return old | v }
	case "xor":
		return func(old, v uint64) uint64 { return old ^ v }
	case "exch":
		return func(_, v uint64) uint64 { return v }
	case "min":
		if t.signed() {
			return func(old, v uint64) uint64 { return uint64(min(sign(old), sign(v))) }
		}
		return func(old, v uint64) uint64 { return min(old, v) }
	case "max":
		if t.signed() {
			return func(old, v uint64) uint64 { return uint64(max(sign(old), sign(v))) }
		}
		return func(old, v uint64) uint64 { return max(old, v) }
	case "inc":
		return func(old, v uint64) uint64 {
			if old >= v {
				return 0
			}
			return old + 1
		}
	case "dec":
		return func(old, v uint64) uint64 {
			if old == 0 || old > v {
				return v
			}
			return old - 1
		}
	}
	return nil
}

// atomic compiles atom and red.
func (c *compiler) atomic(t Type) error {
	i := c.at
	operands := i.Operands
	to := slot{at: -1}
	var err error
	if i.Op[0] == "atom" {
		if len(operands) < 1 {
			return fmt.Errorf("no operands")
		}
		if operands[0].Kind != Sink {
			if to, err = c.destination(operands[0]); err != nil {
				return err
			}
			if to.kind.bytes() != t.bytes() {
				return fmt.Errorf("the destination has another width")
			}
		}
		operands = operands[1:]
	}
	swap := i.has("cas")
	want := 2
	if swap {
		want = 3
	}
	if len(operands) != want || t.bytes() < 4 || t == F16X2 || t == BF16X2 {
		return errUnknown
	}
	var reduce func(old, v uint64) uint64
	for _, m := range i.Op[1:] {
		if f := combine(m, t); f != nil {
			reduce = f
		}
	}
	if reduce == nil && !swap {
		return errUnknown
	}
	a, err := c.access(operands[0], i.spaceOf(), modify, t.bytes())
	if err != nil {
		return err
	}
	values := make([]slot, len(operands)-1)
	for k, o := range operands[1:] {
		if values[k], err = c.memoryOperand(o, t, store); err != nil {
			return err
		}
	}
	c.op.run = func(w *warp, m uint32) {
		w.locate(a)
		lock := &w.block.worker.launch.atomic
		for m != 0 {
			data, same := w.reach(a, m)
			if data == nil {
				return
			}
			m &^= same
			lock.Lock()
			for ; same != 0; same &= same - 1 {
				lane := bits.TrailingZeros32(same) & 31
				cell := data[w.address[lane]:]
				old, v := read(cell, a.bytes), w.get(values[0], lane)
				switch {
				case !swap:
					write(cell, a.bytes, reduce(old, v))
				case old == v:
					write(cell, a.bytes, w.get(values[1], lane))
				}
				if to.at >= 0 {
					w.put(to, 1<<lane, old)
				}
			}
			lock.Unlock()
		}
	}
	return nil
}
