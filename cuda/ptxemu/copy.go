package ptxemu

import (
	"fmt"
	"math/bits"
)

// copied is a cp.async of one lane that may not have landed. It lands when the
// thread waits for it, no sooner: what reads before sees the old bytes.
type copied struct {
	lane  int
	group uint32 // of the lane's groups
	to    uint64 // byte of shared memory
	bytes int
	from  []byte // shorter than bytes where zeros fill up
}

// asyncCopy compiles cp.async and what waits for it.
func (c *compiler) asyncCopy() error {
	i := c.at
	if len(i.Op) < 2 || i.Op[1] != "async" || i.has("bulk") || i.has("mbarrier") {
		return errUnknown
	}
	switch {
	case i.has("commit_group"):
		c.op.run = func(w *warp, m uint32) {
			for ; m != 0; m &= m - 1 {
				w.commits[bits.TrailingZeros32(m)&31]++
			}
		}
		return nil
	case i.has("wait_all"):
		c.op.run = func(w *warp, m uint32) { w.land(m, -1) }
		return nil
	case i.has("wait_group"):
		operands, err := c.operands(1)
		if err != nil {
			return err
		}
		if operands[0].Kind != Immediate || operands[0].Bits > 1<<16 {
			return fmt.Errorf("the number of groups is no small number")
		}
		n := int(operands[0].Bits)
		c.op.run = func(w *warp, m uint32) { w.land(m, n) }
		return nil
	}
	if len(i.Operands) < 3 || len(i.Operands) > 4 || i.Operands[2].Kind != Immediate {
		return fmt.Errorf("want two addresses, a size and perhaps how much of it is there")
	}
	bytes := int(i.Operands[2].Bits)
	if bytes != 4 && bytes != 8 && bytes != 16 {
		return fmt.Errorf("copies %d bytes, possible are 4, 8 and 16", bytes)
	}
	to, err := c.access(i.Operands[0], Shared, deposit, bytes)
	if err != nil {
		return err
	}
	from, err := c.access(i.Operands[1], Global, load, bytes)
	if err != nil {
		return err
	}
	size := c.number32(uint32(bytes))
	if len(i.Operands) == 4 {
		if size, err = c.source32(i.Operands[3], U32); err != nil {
			return err
		}
		c.k.gridwide.admit(2)
	}
	c.op.run = func(w *warp, m uint32) { w.copy(to, from, size, m) }
	return nil
}

// copy notes the copies of some lanes, after all checks.
func (w *warp) copy(to, from *access, size int, m uint32) {
	w.locate(to)
	if data, _ := w.reach(to, m); data == nil {
		return
	}
	targets := w.address
	w.locate(from)
	for rest := m; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros32(rest) & 31
		if have := w.r[size][i]; have > uint32(to.bytes) {
			w.fault(Outside, i, "copies %d bytes where %d go", have, to.bytes)
			return
		} else if w.address[i]&uint64(to.bytes-1) != 0 {
			w.fault(Misaligned, i, "%d bytes at %#x", to.bytes, w.address[i])
			return
		}
	}
	for m != 0 {
		have := w.r[size][bits.TrailingZeros32(m)&31] // lanes with equal sizes go together
		group := uint32(0)
		for rest := m; rest != 0; rest &= rest - 1 {
			if i := bits.TrailingZeros32(rest) & 31; w.r[size][i] == have {
				group |= 1 << i
			}
		}
		m &^= group
		part := *from
		part.bytes = int(have)
		for group != 0 {
			data, same := []byte(nil), group
			if have > 0 {
				if data, same = w.reachGlobal(&part, group); data == nil {
					return
				}
			}
			group &^= same
			for ; same != 0; same &= same - 1 {
				i := bits.TrailingZeros32(same) & 31
				c := copied{lane: i, group: w.commits[i], to: targets[i], bytes: to.bytes}
				if have > 0 {
					c.from = data[w.address[i] : w.address[i]+uint64(have)]
				}
				w.copies = append(w.copies, c)
			}
		}
	}
}

// land finishes the copies of lanes except for the last groups; -1 stands for all, even those in no group.
func (w *warp) land(m uint32, groups int) {
	b := w.block
	kept := w.copies[:0]
	for _, c := range w.copies {
		if m>>c.lane&1 == 0 || groups >= 0 && int(c.group)+groups >= int(w.commits[c.lane]) {
			kept = append(kept, c)
			continue
		}
		target := b.shared[c.to : c.to+uint64(c.bytes)]
		clear(target[copy(target, c.from):])
		first, last := b.worker.kernel.grain.span(c.to, c.bytes)
		for g := first; g <= last; g++ {
			cell := &b.cells[g]
			cell.wrote, cell.writer, cell.wSyncs = b.epoch, uint16(32*w.index+c.lane), w.syncs
		}
	}
	w.copies = kept
}
