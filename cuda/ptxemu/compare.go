package ptxemu

import (
	"fmt"
	"math"
)

// How two values compare, as bits that a comparison accepts.
const (
	less = 1 << iota
	equal
	greater
	unordered
)

// accepted returns what a comparison's name accepts, and whether it compares without sign whatever the type.
func accepted(name string) (mask int, unsigned bool) {
	switch name {
	case "eq":
		return equal, false
	case "ne":
		return less | greater, false
	case "lt":
		return less, false
	case "le":
		return less | equal, false
	case "gt":
		return greater, false
	case "ge":
		return greater | equal, false
	case "lo":
		return less, true
	case "ls":
		return less | equal, true
	case "hi":
		return greater, true
	case "hs":
		return greater | equal, true
	case "equ":
		return equal | unordered, false
	case "neu":
		return less | greater | unordered, false
	case "ltu":
		return less | unordered, false
	case "leu":
		return less | equal | unordered, false
	case "gtu":
		return greater | unordered, false
	case "geu":
		return greater | equal | unordered, false
	case "num":
		return less | equal | greater, false
	case "nan":
		return unordered, false
	}
	return 0, false
}

func order[T int32 | uint32 | int64 | uint64 | float32 | float64](a, b T) int {
	switch {
	case a < b:
		return less
	case a > b:
		return greater
	case a == b:
		return equal
	}
	return unordered
}

// setp compiles comparisons into predicates, joined with another by and, or, xor.
func (c *compiler) setp(t Type) error {
	i := c.at
	if len(i.Operands) < 3 || len(i.Op) < 3 {
		return fmt.Errorf("%d operands, want three or four", len(i.Operands))
	}
	mask, unsigned := accepted(i.Op[1])
	if mask == 0 {
		return fmt.Errorf("unknown comparison .%s", i.Op[1])
	}
	join := ""
	if len(i.Operands) == 4 {
		join = i.Op[2]
	}
	compare, err := c.comparison(t, unsigned, i.Operands[1], i.Operands[2])
	if err != nil {
		return err
	}
	other, negate := -1, false
	if join != "" {
		if other, err = c.predicate(i.Operands[3]); err != nil {
			return err
		}
		negate = i.Operands[3].Negate
		if join != "and" && join != "or" && join != "xor" {
			return fmt.Errorf("unknown operation .%s", join)
		}
	}
	d, opposite := i.Operands[0], -1
	if d.Kind == Pair {
		if d.Parts[1].Kind != Sink {
			if opposite, err = c.predicate(d.Parts[1]); err != nil {
				return err
			}
		}
		d = d.Parts[0]
	}
	at := -1
	if d.Kind != Sink {
		if at, err = c.predicate(d); err != nil {
			return err
		}
	}
	c.op.run = func(w *warp, m uint32) {
		yes := compare(w, mask)
		no := ^yes
		if other >= 0 {
			p := w.p[other]
			if negate {
				p = ^p
			}
			switch join {
			case "and":
				yes, no = yes&p, no&p
			case "or":
				yes, no = yes|p, no|p
			default:
				yes, no = yes^p, no^p
			}
		}
		if at >= 0 {
			w.p[at] = w.p[at]&^m | yes&m
		}
		if opposite >= 0 {
			w.p[opposite] = w.p[opposite]&^m | no&m
		}
	}
	return nil
}

// integers is comparison for the most usual case.
func integers(a, b int, signed bool) func(w *warp, mask int) uint32 {
	flip := uint32(0)
	if signed {
		flip = 1 << 31 // turns the order of signed numbers into that of unsigned ones
	}
	return func(w *warp, mask int) (yes uint32) {
		x, y := &w.r[a], &w.r[b]
		var below, same uint32
		for i := range x {
			if x[i]^flip < y[i]^flip {
				below |= 1 << i
			}
			if x[i] == y[i] {
				same |= 1 << i
			}
		}
		if mask&less != 0 {
			yes |= below
		}
		if mask&equal != 0 {
			yes |= same
		}
		if mask&greater != 0 {
			yes |= ^(below | same)
		}
		return yes
	}
}

// comparison returns what finds the lanes whose values compare as a mask accepts.
func (c *compiler) comparison(t Type, unsigned bool, a, b Operand) (func(w *warp, mask int) uint32, error) {
	if t.bytes() == 8 {
		at, err := c.sources64(a, b)
		if err != nil {
			return nil, err
		}
		compare := order[uint64]
		switch {
		case t == F64:
			compare = func(a, b uint64) int { return order(math.Float64frombits(a), math.Float64frombits(b)) }
		case t.signed() && !unsigned:
			compare = func(a, b uint64) int { return order(int64(a), int64(b)) }
		}
		return func(w *warp, mask int) (yes uint32) {
			x, y := &w.q[at[0]], &w.q[at[1]]
			for i := range x {
				if compare(x[i], y[i])&mask != 0 {
					yes |= 1 << i
				}
			}
			return yes
		}, nil
	}
	at, err := c.sources32(t, a, b)
	if err != nil {
		return nil, err
	}
	if t.bytes() == 4 && !t.float() {
		return integers(at[0], at[1], t.signed() && !unsigned), nil
	}
	ftz := c.at.has("ftz")
	compare := order[uint32]
	switch {
	case t == F32:
		compare = func(a, b uint32) int {
			if ftz {
				a, b = flush32(a), flush32(b)
			}
			return order(math.Float32frombits(a), math.Float32frombits(b))
		}
	case t == F16 || t == BF16:
		h := halfOf(t)
		compare = func(a, b uint32) int { return order(h.decode(a&0xffff), h.decode(b&0xffff)) }
	case t.float() || t == Untyped || t == Pred || t.bytes() < 2:
		return nil, errUnknown
	case t == S16 && !unsigned:
		compare = func(a, b uint32) int { return order(int32(int16(a)), int32(int16(b))) }
	case t.bytes() == 2:
		compare = func(a, b uint32) int { return order(a&0xffff, b&0xffff) }
	}
	return func(w *warp, mask int) (yes uint32) {
		x, y := &w.r[at[0]], &w.r[at[1]]
		for i := range x {
			if compare(x[i], y[i])&mask != 0 {
				yes |= 1 << i
			}
		}
		return yes
	}, nil
}
