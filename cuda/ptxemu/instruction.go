package ptxemu

import (
	"fmt"
	"math/bits"
)

// instruction compiles the one at hand.
func (c *compiler) instruction() error {
	i := c.at
	t := Untyped
	for _, m := range i.Op[1:] {
		if parsed := parseType(m); parsed != Untyped {
			t = parsed
		}
	}
	switch i.Op[0] {
	case "ret", "exit":
		c.op.kind = leave
		return nil
	case "bra":
		operands, err := c.operands(1)
		if err != nil {
			return err
		}
		if operands[0].Kind != Label {
			return fmt.Errorf("a branch to no label")
		}
		c.op.kind, c.op.target = branch, int32(operands[0].Index)
		return nil
	case "bar", "barrier":
		return c.barrier()
	case "membar", "fence", "prefetch", "prefetchu", "griddepcontrol":
		c.op.run = func(*warp, uint32) {}
		return nil
	case "trap":
		c.op.run = func(w *warp, m uint32) { w.fault(Trap, bits.TrailingZeros32(m), "the kernel stopped itself") }
		return nil
	case "ld", "st", "ldu":
		return c.loadStore()
	case "mov":
		return c.mov(t)
	case "cvta":
		return c.cvta()
	case "cvt":
		return c.convert()
	case "setp":
		return c.setp(t)
	case "selp":
		return c.selp(t)
	case "atom", "red":
		return c.atomic(t)
	case "shfl":
		return c.shuffle()
	case "vote":
		return c.vote()
	case "redux":
		return c.redux(t)
	case "activemask":
		operands, err := c.operands(1)
		if err != nil {
			return err
		}
		d, err := c.destination(operands[0])
		if err != nil {
			return err
		}
		if d.kind.bytes() != 4 {
			return fmt.Errorf("the destination has not 32 bits")
		}
		c.op.run = func(w *warp, m uint32) { w.put(d, m, uint64(m)) }
		return nil
	case "cp":
		return c.asyncCopy()
	case "ldmatrix":
		return c.ldmatrix()
	case "mma":
		return c.matrixProduct()
	}
	if t == Pred {
		return c.logicPred()
	}
	if t.float() && t != Untyped {
		return c.float(t)
	}
	if t == Untyped {
		return errUnknown
	}
	return c.integer(t)
}

// errUnknown is the answer to whatever the emulator cannot do: a kernel is
// refused when it is loaded, not wrong when it runs.
var errUnknown = fmt.Errorf("the emulator does not know this instruction")

// mov compiles moves of registers, numbers, addresses and the packing of vectors.
func (c *compiler) mov(t Type) error {
	operands, err := c.operands(2)
	if err != nil {
		return err
	}
	d, s := operands[0], operands[1]
	switch {
	case s.Kind == Vector:
		return c.pack(d, s.Parts, t)
	case d.Kind == Vector:
		return c.unpack(d.Parts, s, t)
	case t == Pred:
		if s.Negate {
			return errUnknown
		}
		at, err := c.predicate(s)
		if err != nil {
			return err
		}
		return c.setPred(d, func(w *warp) uint32 { return w.p[at] })
	case s.Kind == Special && (s.Name[:1] == "c" || s.Name[:1] == "n" || s.Name[:1] == "t") && t.bytes() == 8:
		return fmt.Errorf("a special register of 32 bits where 64 are meant")
	case t.bytes() == 8:
		at, err := c.sources64(s)
		if err != nil {
			return err
		}
		return c.set64(d, func(w *warp, z *lanes64) { *z = w.q[at[0]] })
	}
	at, err := c.sources32(t, s)
	if err != nil {
		return err
	}
	return c.set32(d, func(w *warp, z *lanes32) { *z = w.r[at[0]] })
}

// pack joins parts of equal width, the first lowest.
func (c *compiler) pack(d Operand, parts []Operand, t Type) error {
	width := 8 * t.bytes() / len(parts)
	from := make([]slot, len(parts))
	for k, p := range parts {
		var err error
		if width == 64 {
			from[k].kind = B64
			from[k].at, err = c.source64(p)
		} else {
			from[k].kind = B32
			from[k].at, err = c.source32(p, B32)
		}
		if err != nil {
			return err
		}
	}
	join := func(w *warp, i int) (v uint64) {
		for k, s := range from {
			v |= (w.get(s, i) & (1<<width - 1)) << (k * width)
		}
		return v
	}
	if t.bytes() == 8 {
		return c.set64(d, func(w *warp, z *lanes64) {
			for i := range z {
				z[i] = join(w, i)
			}
		})
	}
	return c.set32(d, func(w *warp, z *lanes32) {
		for i := range z {
			z[i] = uint32(join(w, i))
		}
	})
}

// unpack is the reverse of pack.
func (c *compiler) unpack(parts []Operand, s Operand, t Type) error {
	from := slot{kind: t}
	var err error
	if t.bytes() == 8 {
		from.at, err = c.source64(s)
	} else {
		from.at, err = c.source32(s, t)
	}
	if err != nil {
		return err
	}
	width := 8 * t.bytes() / len(parts)
	to := make([]slot, len(parts))
	for k, p := range parts {
		if p.Kind == Sink {
			to[k].at = -1
			continue
		}
		if to[k], err = c.destination(p); err != nil {
			return err
		}
	}
	c.op.run = func(w *warp, m uint32) {
		for ; m != 0; m &= m - 1 {
			i := bits.TrailingZeros32(m) & 31
			v := w.get(from, i)
			for k, d := range to {
				if d.at >= 0 {
					w.put(d, 1<<i, v>>(k*width)&(1<<width-1))
				}
			}
		}
	}
	return nil
}

// get returns a lane of a register.
func (w *warp) get(s slot, lane int) uint64 {
	if s.kind.bytes() == 8 {
		return w.q[s.at][lane&31]
	}
	return uint64(w.r[s.at][lane&31])
}

// cvta turns addresses of a space into generic ones and back.
func (c *compiler) cvta() error {
	operands, err := c.operands(2)
	if err != nil {
		return err
	}
	var window uint64
	switch c.at.spaceOf() {
	case Shared:
		window = sharedWindow
	case Local:
		window = localWindow
	case Global, Const, Generic, Parameter:
	}
	if c.at.has("to") {
		window = -window
	}
	at, err := c.source64(operands[1])
	if err != nil {
		return err
	}
	return c.set64(operands[0], func(w *warp, z *lanes64) {
		x := &w.q[at]
		for i := range z {
			z[i] = x[i] + window
		}
	})
}

// selp picks one of two values by a predicate.
func (c *compiler) selp(t Type) error {
	operands, err := c.operands(4)
	if err != nil {
		return err
	}
	if operands[3].Negate {
		return errUnknown
	}
	p, err := c.predicate(operands[3])
	if err != nil {
		return err
	}
	if t.bytes() == 8 {
		at, err := c.sources64(operands[1], operands[2])
		if err != nil {
			return err
		}
		return c.set64(operands[0], func(w *warp, z *lanes64) {
			x, y, m := &w.q[at[0]], &w.q[at[1]], w.p[p]
			for i := range z {
				if v := y[i]; m>>i&1 != 0 {
					z[i] = x[i]
				} else {
					z[i] = v
				}
			}
		})
	}
	at, err := c.sources32(t, operands[1], operands[2])
	if err != nil {
		return err
	}
	return c.set32(operands[0], func(w *warp, z *lanes32) {
		x, y, m := &w.r[at[0]], &w.r[at[1]], w.p[p]
		for i := range z {
			if v := y[i]; m>>i&1 != 0 {
				z[i] = x[i]
			} else {
				z[i] = v
			}
		}
	})
}

// logicPred compiles and, or, xor and not of predicates.
func (c *compiler) logicPred() error {
	at := make([]int, len(c.at.Operands))
	for k, o := range c.at.Operands {
		var err error
		if o.Negate {
			return errUnknown
		}
		if at[k], err = c.predicate(o); err != nil {
			return err
		}
	}
	var f func(w *warp) uint32
	switch op := c.at.Op[0]; {
	case op == "not" && len(at) == 2:
		f = func(w *warp) uint32 { return ^w.p[at[1]] }
	case op == "and" && len(at) == 3:
		f = func(w *warp) uint32 { return w.p[at[1]] & w.p[at[2]] }
	case op == "or" && len(at) == 3:
		f = func(w *warp) uint32 { return w.p[at[1]] | w.p[at[2]] }
	case op == "xor" && len(at) == 3:
		f = func(w *warp) uint32 { return w.p[at[1]] ^ w.p[at[2]] }
	default:
		return errUnknown
	}
	return c.setPred(c.at.Operands[0], f)
}

// barrier compiles barriers of the block and of the warp.
func (c *compiler) barrier() error {
	i := c.at
	operands := i.Operands
	switch {
	case i.has("warp"):
		if len(operands) != 1 {
			return fmt.Errorf("%d operands, want a mask", len(operands))
		}
		mask, err := c.source32(operands[0], B32)
		if err != nil {
			return err
		}
		c.op.run = func(w *warp, m uint32) {
			if w.together(mask, m) {
				w.syncs++
			}
		}
		return nil
	case i.has("sync") && len(operands) == 1:
	case i.has("red") && len(operands) == 3:
		d := operands[0]
		p, err := c.predicate(operands[2])
		if err != nil {
			return err
		}
		c.op.sync = blockBarrier{source: p, negate: operands[2].Negate}
		for _, reduce := range []string{"popc", "and", "or"} {
			if i.has(reduce) {
				c.op.sync.reduce = reduce
			}
		}
		if c.op.sync.destination, err = c.destination(d); err != nil {
			return err
		}
		if want := c.op.sync.reduce; want == "" || (want == "popc") != (c.op.sync.destination.kind.bytes() == 4) {
			return fmt.Errorf("a reduction into a register of another type")
		}
	default:
		return errUnknown // barriers of part of a block, bar.arrive
	}
	for _, o := range operands[:1] {
		if i.has("sync") && o.Kind != Immediate {
			return fmt.Errorf("the number of a barrier is no constant")
		}
	}
	c.op.kind = barrier
	return nil
}

// together checks that the lanes which run an instruction are those of its mask.
func (w *warp) together(mask int, m uint32) bool {
	names := &w.r[mask]
	for rest := m; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros32(rest) & 31
		if named := names[i]; named&w.alive != m {
			w.fault(Divergence, i, "the mask names threads %#x, but %#x run it", named, m)
			return false
		}
	}
	return true
}
