package ptxemu

import (
	"fmt"
	"math/bits"
)

// way is how shfl finds the lane that a lane reads.
type way uint8

const (
	noWay way = iota
	upwards
	downwards
	butterfly
	byIndex
)

// shuffle compiles shfl.sync: each lane reads another's register.
func (c *compiler) shuffle() error {
	operands, err := c.operands(5)
	if err != nil {
		return err
	}
	i := c.at
	if !i.has("sync") || !i.has("b32") {
		return errUnknown
	}
	at, err := c.sources32(B32, operands[1:]...)
	if err != nil {
		return err
	}
	d, inside := operands[0], -1
	if d.Kind == Pair {
		if d.Parts[1].Kind != Sink {
			if inside, err = c.predicate(d.Parts[1]); err != nil {
				return err
			}
		}
		d = d.Parts[0]
	}
	to, err := c.destination(d)
	if err != nil {
		return err
	}
	if to.kind.bytes() != 4 {
		return fmt.Errorf("the destination has not 32 bits")
	}
	how := noWay
	for _, m := range i.Op[1:] {
		how = max(how, map[string]way{"up": upwards, "down": downwards, "bfly": butterfly, "idx": byIndex}[m])
	}
	if how == noWay {
		return errUnknown
	}
	c.op.run = func(w *warp, m uint32) {
		if !w.together(at[3], m) {
			return
		}
		from, b, c, z := w.r[at[0]], &w.r[at[1]], &w.r[at[2]], &w.r[to.at]
		for rest := m; rest != 0; rest &= rest - 1 {
			lane := bits.TrailingZeros32(rest) & 31
			source, ok := how.partner(uint32(lane), b[lane], c[lane])
			if m>>source&1 == 0 {
				w.fault(Divergence, lane, "reads from lane %d, which does not run it", source)
				return
			}
			z[lane] = from[source&31]
			if inside >= 0 {
				w.p[inside] = w.p[inside]&^(1<<lane) | ok<<lane
			}
		}
	}
	return nil
}

// partner returns the lane that a lane reads, and 1 when it lies in the lane's segment.
func (how way) partner(lane, b, c uint32) (source, ok uint32) {
	segment := c >> 8 & 31
	last := lane&segment | c&31&^segment
	b &= 31
	j := int(lane)
	switch how {
	case upwards:
		j -= int(b)
		if j < int(last) {
			return lane, 0
		}
		return uint32(j), 1
	case downwards:
		j += int(b)
	case butterfly:
		j ^= int(b)
	default:
		j = int(lane&segment | b&^segment)
	}
	if j > int(last) {
		return lane, 0
	}
	return uint32(j), 1
}

// vote compiles vote.sync.
func (c *compiler) vote() error {
	operands, err := c.operands(3)
	if err != nil {
		return err
	}
	i := c.at
	p, err := c.predicate(operands[1])
	if err != nil {
		return err
	}
	mask, err := c.source32(operands[2], B32)
	if err != nil {
		return err
	}
	negate := operands[1].Negate
	d, err := c.destination(operands[0])
	if err != nil {
		return err
	}
	ballot := i.has("ballot")
	if !i.has("sync") || ballot != (d.kind.bytes() == 4) {
		return errUnknown
	}
	c.op.run = func(w *warp, m uint32) {
		if !w.together(mask, m) {
			return
		}
		votes := w.p[p]
		if negate {
			votes = ^votes
		}
		votes &= m
		if ballot {
			w.put(d, m, uint64(votes))
			return
		}
		if i.has("all") && votes == m || i.has("any") && votes != 0 || i.has("uni") && (votes == 0 || votes == m) {
			w.p[d.at] |= m
		} else {
			w.p[d.at] &^= m
		}
	}
	return nil
}

// redux compiles redux.sync: a reduction over the lanes of a mask.
func (c *compiler) redux(t Type) error {
	operands, err := c.operands(3)
	if err != nil {
		return err
	}
	at, err := c.sources32(t, operands[1:]...)
	if err != nil {
		return err
	}
	d, err := c.destination(operands[0])
	if err != nil {
		return err
	}
	reduce := combine(c.at.Op[2], t)
	if reduce == nil || t.bytes() != 4 || d.kind.bytes() != 4 {
		return errUnknown
	}
	c.op.run = func(w *warp, m uint32) {
		if !w.together(at[1], m) {
			return
		}
		first := bits.TrailingZeros32(m)
		v := uint64(w.r[at[0]][first])
		for rest := m & (m - 1); rest != 0; rest &= rest - 1 {
			v = reduce(v, uint64(w.r[at[0]][bits.TrailingZeros32(rest)&31]))
		}
		w.put(d, m, v)
	}
	return nil
}
