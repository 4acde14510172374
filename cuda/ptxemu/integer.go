package ptxemu

import (
	"fmt"
	"math/bits"
)

// integer compiles arithmetic and logic of integers of 16, 32 and 64 bits.
func (c *compiler) integer(t Type) error {
	i := c.at
	if len(i.Operands) < 2 {
		return fmt.Errorf("%d operands, want two or more", len(i.Operands))
	}
	d, s := i.Operands[0], i.Operands[1:]
	switch op := i.Op[0]; {
	case (op == "mul" || op == "mad") && i.has("wide"):
		return c.wide(t, d, s)
	case op == "popc" || op == "clz" || op == "bfind":
		return c.count(t, d, s)
	case op == "bfe" || op == "bfi" || op == "shf" || op == "prmt" || op == "lop3":
		return c.field(t, d, s)
	case t.bytes() == 8 && (op == "shl" || op == "shr"):
		return c.shift64(t, d, s)
	case t.bytes() == 8:
		return c.integer64(t, d, s)
	}
	at, err := c.sources32(t, s[:min(len(s), 4)]...)
	if err != nil {
		return err
	}
	if ok, err := c.fast32(t, d, len(s), at); ok || err != nil {
		return err
	}
	narrow := t.bytes() == 2
	f, n := operation32(i, t)
	if f == nil || n != len(s) {
		return errUnknown
	}
	return c.set32(d, func(w *warp, z *lanes32) {
		x, y, v := &w.r[at[0]], &w.r[at[1]], &w.r[at[2]]
		for i := range z {
			a, b, e := x[i], y[i], v[i]
			if narrow { // 16 bits are computed in 32 and cut
				if t.signed() {
					a, b, e = uint32(int16(a)), uint32(int16(b)), uint32(int16(e))
				} else {
					a, b, e = a&0xffff, b&0xffff, e&0xffff
				}
			}
			z[i] = f(a, b, e)
		}
	})
}

// fast32 compiles the operations of inner loops.
func (c *compiler) fast32(t Type, d Operand, n int, at [4]int) (bool, error) {
	if t.bytes() != 4 {
		return false, nil
	}
	i := c.at
	var f func(w *warp, z *lanes32)
	switch op := i.Op[0]; {
	case op == "add" && n == 2 && len(i.Op) == 2:
		f = func(w *warp, z *lanes32) {
			x, y := &w.r[at[0]], &w.r[at[1]]
			for i := range z {
				z[i] = x[i] + y[i]
			}
		}
	case op == "mad" && i.has("lo") && n == 3 && len(i.Op) == 3:
		f = func(w *warp, z *lanes32) {
			x, y, v := &w.r[at[0]], &w.r[at[1]], &w.r[at[2]]
			for i := range z {
				z[i] = x[i]*y[i] + v[i]
			}
		}
	case op == "shl" && n == 2:
		f = func(w *warp, z *lanes32) {
			x, y := &w.r[at[0]], &w.r[at[1]]
			for i := range z {
				z[i] = x[i] << y[i]
			}
		}
	default:
		return false, nil
	}
	return true, c.set32(d, f)
}

// operation32 returns an operation on up to three values and how many it takes; nil when there is none.
func operation32(i *Instruction, t Type) (f func(a, b, e uint32) uint32, n int) {
	signed, width := t.signed(), uint32(8*t.bytes())
	switch i.Op[0] {
	case "add":
		if i.has("sat") {
			return func(a, b, _ uint32) uint32 { return saturate32(int64(int32(a)) + int64(int32(b))) }, 2
		}
		if len(i.Op) != 2 {
			return nil, 0
		}
		return func(a, b, _ uint32) uint32 { return a + b }, 2
	case "sub":
		if i.has("sat") {
			return func(a, b, _ uint32) uint32 { return saturate32(int64(int32(a)) - int64(int32(b))) }, 2
		}
		if len(i.Op) != 2 {
			return nil, 0
		}
		return func(a, b, _ uint32) uint32 { return a - b }, 2
	case "mul", "mad":
		n = 2
		if i.Op[0] == "mad" {
			n = 3
		}
		add := uint32(n - 2) // mul has no third operand, whose register may hold anything
		switch {
		case i.has("lo"):
			return func(a, b, e uint32) uint32 { return a*b + add*e }, n
		case i.has("hi") && signed:
			return func(a, b, e uint32) uint32 { return uint32(int64(int32(a))*int64(int32(b))>>width) + add*e }, n
		case i.has("hi"):
			return func(a, b, e uint32) uint32 { return uint32(uint64(a)*uint64(b)>>width) + add*e }, n
		}
	case "div", "rem":
		quotient := i.Op[0] == "div"
		return func(a, b, _ uint32) uint32 {
			if b == 0 { // the card does not say what comes out; all ones is what it does
				if quotient {
					return ^uint32(0)
				}
				return a
			}
			switch {
			case signed && quotient:
				return uint32(int64(int32(a)) / int64(int32(b)))
			case signed:
				return uint32(int64(int32(a)) % int64(int32(b)))
			case quotient:
				return a / b
			}
			return a % b
		}, 2
	case "abs":
		return func(a, _, _ uint32) uint32 { return absolute(a) }, 1
	case "neg":
		return func(a, _, _ uint32) uint32 { return -a }, 1
	case "min":
		if signed {
			return func(a, b, _ uint32) uint32 { return uint32(min(int32(a), int32(b))) }, 2
		}
		return func(a, b, _ uint32) uint32 { return min(a, b) }, 2
	case "max":
		if signed {
			return func(a, b, _ uint32) uint32 { return uint32(max(int32(a), int32(b))) }, 2
		}
		return func(a, b, _ uint32) uint32 { return max(a, b) }, 2
	case "and":
		return func(a, b, _ uint32) uint32 { return a & b }, 2
	case "or":
		return func(a, b, _ uint32) uint32 { return a | b }, 2
	case "xor":
		return func(a, b, _ uint32) uint32 { return a ^ b }, 2
	case "not":
		return func(a, _, _ uint32) uint32 { return ^a }, 1
	case "cnot":
		return func(a, _, _ uint32) uint32 {
			if a == 0 {
				return 1
			}
			return 0
		}, 1
	case "shl":
		return func(a, b, _ uint32) uint32 { return a << b }, 2
	case "shr":
		if signed {
			return func(a, b, _ uint32) uint32 { return uint32(int32(a) >> b) }, 2
		}
		return func(a, b, _ uint32) uint32 { return a >> b }, 2
	case "brev":
		return func(a, _, _ uint32) uint32 { return bits.Reverse32(a) }, 1
	}
	return nil, 0
}

func absolute(a uint32) uint32 {
	if int32(a) < 0 {
		return -a
	}
	return a
}

func saturate32(v int64) uint32 { return uint32(max(-1<<31, min(1<<31-1, v))) }

// integer64 compiles arithmetic and logic of 64 bits.
func (c *compiler) integer64(t Type, d Operand, s []Operand) error {
	at, err := c.sources64(s[:min(len(s), 4)]...)
	if err != nil {
		return err
	}
	i := c.at
	if i.Op[0] == "add" && len(s) == 2 && len(i.Op) == 2 {
		return c.set64(d, func(w *warp, z *lanes64) {
			x, y := &w.q[at[0]], &w.q[at[1]]
			for i := range z {
				z[i] = x[i] + y[i]
			}
		})
	}
	f, n := operation64(i, t.signed())
	if f == nil || n != len(s) {
		return errUnknown
	}
	return c.set64(d, func(w *warp, z *lanes64) {
		x, y, v := &w.q[at[0]], &w.q[at[1]], &w.q[at[2]]
		for i := range z {
			z[i] = f(x[i], y[i], v[i])
		}
	})
}

// operation64 is operation32 for 64 bits.
func operation64(i *Instruction, signed bool) (f func(a, b, e uint64) uint64, n int) {
	switch i.Op[0] {
	case "sub":
		if len(i.Op) != 2 {
			return nil, 0
		}
		return func(a, b, _ uint64) uint64 { return a - b }, 2
	case "mul":
		switch {
		case i.has("lo"):
			return func(a, b, _ uint64) uint64 { return a * b }, 2
		case i.has("hi") && !signed:
			return func(a, b, _ uint64) uint64 { hi, _ := bits.Mul64(a, b); return hi }, 2
		case i.has("hi"):
			return func(a, b, _ uint64) uint64 {
				hi, _ := bits.Mul64(a, b)
				return hi - uint64(int64(a)>>63)&b - uint64(int64(b)>>63)&a
			}, 2
		}
	case "mad":
		if i.has("lo") {
			return func(a, b, e uint64) uint64 { return a*b + e }, 3
		}
	case "div", "rem":
		quotient := i.Op[0] == "div"
		return func(a, b, _ uint64) uint64 {
			switch {
			case b == 0 && quotient:
				return ^uint64(0)
			case b == 0:
				return a
			case signed && b == ^uint64(0) && quotient: // the quotient of the least number overflows
				return -a
			case signed && b == ^uint64(0):
				return 0
			case signed && quotient:
				return uint64(int64(a) / int64(b))
			case signed:
				return uint64(int64(a) % int64(b))
			case quotient:
				return a / b
			}
			return a % b
		}, 2
	case "abs":
		return func(a, _, _ uint64) uint64 {
			if int64(a) < 0 {
				return -a
			}
			return a
		}, 1
	case "neg":
		return func(a, _, _ uint64) uint64 { return -a }, 1
	case "min":
		if signed {
			return func(a, b, _ uint64) uint64 { return uint64(min(int64(a), int64(b))) }, 2
		}
		return func(a, b, _ uint64) uint64 { return min(a, b) }, 2
	case "max":
		if signed {
			return func(a, b, _ uint64) uint64 { return uint64(max(int64(a), int64(b))) }, 2
		}
		return func(a, b, _ uint64) uint64 { return max(a, b) }, 2
	case "and":
		return func(a, b, _ uint64) uint64 { return a & b }, 2
	case "or":
		return func(a, b, _ uint64) uint64 { return a | b }, 2
	case "xor":
		return func(a, b, _ uint64) uint64 { return a ^ b }, 2
	case "not":
		return func(a, _, _ uint64) uint64 { return ^a }, 1
	case "brev":
		return func(a, _, _ uint64) uint64 { return bits.Reverse64(a) }, 1
	}
	return nil, 0
}

// shift64 compiles shifts of 64 bits, by 32 bits.
func (c *compiler) shift64(t Type, d Operand, s []Operand) error {
	if len(s) != 2 {
		return errUnknown
	}
	x, err := c.source64(s[0])
	if err != nil {
		return err
	}
	y, err := c.source32(s[1], U32)
	if err != nil {
		return err
	}
	left, signed := c.at.Op[0] == "shl", t.signed()
	return c.set64(d, func(w *warp, z *lanes64) {
		a, b := &w.q[x], &w.r[y]
		for i := range z {
			switch {
			case left:
				z[i] = a[i] << b[i]
			case signed:
				z[i] = uint64(int64(a[i]) >> b[i])
			default:
				z[i] = a[i] >> b[i]
			}
		}
	})
}

// wide compiles mul.wide and mad.wide: the result is twice as wide as the factors.
func (c *compiler) wide(t Type, d Operand, s []Operand) error {
	if want := map[string]int{"mul": 2, "mad": 3}[c.at.Op[0]]; len(s) != want || t.bytes() == 8 {
		return errUnknown
	}
	at, err := c.sources32(t, s[:2]...)
	if err != nil {
		return err
	}
	if t.bytes() == 2 {
		if len(s) == 3 {
			return errUnknown
		}
		return c.set32(d, func(w *warp, z *lanes32) {
			x, y := &w.r[at[0]], &w.r[at[1]]
			for i := range z {
				if t.signed() {
					z[i] = uint32(int32(int16(x[i])) * int32(int16(y[i])))
				} else {
					z[i] = x[i] & 0xffff * (y[i] & 0xffff)
				}
			}
		})
	}
	sum := c.number64(0)
	if len(s) == 3 {
		if sum, err = c.source64(s[2]); err != nil {
			return err
		}
	}
	signed := t.signed()
	return c.set64(d, func(w *warp, z *lanes64) {
		x, y, v := &w.r[at[0]], &w.r[at[1]], &w.q[sum]
		if signed {
			for i := range z {
				z[i] = uint64(int64(int32(x[i]))*int64(int32(y[i]))) + v[i]
			}
			return
		}
		for i := range z {
			z[i] = uint64(x[i])*uint64(y[i]) + v[i]
		}
	})
}

// count compiles popc, clz and bfind, whose result has 32 bits whatever they count in.
func (c *compiler) count(t Type, d Operand, s []Operand) error {
	if len(s) != 1 || len(c.at.Op) != 2 {
		return errUnknown
	}
	from := slot{kind: t}
	var err error
	if t.bytes() == 8 {
		from.at, err = c.source64(s[0])
	} else {
		from.at, err = c.source32(s[0], t)
	}
	if err != nil {
		return err
	}
	width := 8 * t.bytes()
	op := c.at.Op[0]
	return c.set32(d, func(w *warp, z *lanes32) {
		for i := range z {
			v := w.get(from, i)
			switch op {
			case "popc":
				z[i] = uint32(bits.OnesCount64(v))
			case "clz":
				z[i] = uint32(width - bits.Len64(v))
			default: // the highest bit that differs from the sign, -1 for none
				if t.signed() && v>>(width-1)&1 != 0 {
					v = ^v & (1<<width - 1)
				}
				z[i] = uint32(bits.Len64(v) - 1)
			}
		}
	})
}
