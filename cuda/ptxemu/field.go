package ptxemu

import "fmt"

// field compiles the operations on fields of bits and bytes.
func (c *compiler) field(t Type, d Operand, s []Operand) error {
	i := c.at
	if want := map[string]int{"bfe": 3, "bfi": 4, "shf": 3, "prmt": 3, "lop3": 4}[i.Op[0]]; len(s) != want {
		return fmt.Errorf("%d sources, want %d", len(s), want)
	}
	if t.bytes() == 8 {
		return c.field64(t, d, s)
	}
	at, err := c.sources32(t, s...)
	if err != nil {
		return err
	}
	var f func(a, b, e, g uint32) uint32
	switch i.Op[0] {
	case "bfe":
		f = func(a, b, e, _ uint32) uint32 {
			return uint32(extract(uint64(a), b, e, 32, t.signed()))
		}
	case "bfi":
		f = func(a, b, e, g uint32) uint32 { return uint32(insert(uint64(a), uint64(b), e, g, 32)) }
	case "shf":
		left, clamp := i.has("l"), i.has("clamp")
		f = func(a, b, e, _ uint32) uint32 {
			if clamp {
				e = min(e, 32)
			} else {
				e &= 31
			}
			both := uint64(b)<<32 | uint64(a)
			if left {
				return uint32(both << e >> 32)
			}
			return uint32(both >> e)
		}
	case "prmt":
		if len(i.Op) != 2 {
			return errUnknown
		}
		f = func(a, b, e, _ uint32) (v uint32) {
			both := uint64(b)<<32 | uint64(a)
			for k := range 4 {
				pick := e >> (4 * k)
				value := uint32(both>>(8*(pick&7))) & 0xff
				if pick&8 != 0 { // the byte's sign in all its bits
					value = uint32(int32(int8(value))>>7) & 0xff
				}
				v |= value << (8 * k)
			}
			return v
		}
	case "lop3":
		if s[3].Kind != Immediate {
			return fmt.Errorf("the table is no number")
		}
		f = func(a, b, e, table uint32) (v uint32) {
			for k := range 8 {
				if table>>k&1 == 0 {
					continue
				}
				x, y, u := a, b, e
				if k&4 == 0 {
					x = ^x
				}
				if k&2 == 0 {
					y = ^y
				}
				if k&1 == 0 {
					u = ^u
				}
				v |= x & y & u
			}
			return v
		}
	}
	return c.set32(d, func(w *warp, z *lanes32) {
		x, y, u, v := &w.r[at[0]], &w.r[at[1]], &w.r[at[2]], &w.r[at[3]]
		for i := range z {
			z[i] = f(x[i], y[i], u[i], v[i])
		}
	})
}

// field64 compiles bfe and bfi of 64 bits.
func (c *compiler) field64(t Type, d Operand, s []Operand) error {
	n := len(s) - 2 // values before position and length
	long, err := c.sources64(s[:n]...)
	if err != nil {
		return err
	}
	short, err := c.sources32(U32, s[n:]...)
	if err != nil {
		return err
	}
	switch c.at.Op[0] {
	case "bfe":
		return c.set64(d, func(w *warp, z *lanes64) {
			for i := range z {
				z[i] = extract(w.q[long[0]][i], w.r[short[0]][i], w.r[short[1]][i], 64, t.signed())
			}
		})
	case "bfi":
		return c.set64(d, func(w *warp, z *lanes64) {
			for i := range z {
				z[i] = insert(w.q[long[0]][i], w.q[long[1]][i], w.r[short[0]][i], w.r[short[1]][i], 64)
			}
		})
	}
	return errUnknown
}

// extract returns length bits from a position on; bits above the value repeat its sign.
func extract(a uint64, position, length, width uint32, signed bool) uint64 {
	position, length = position&0xff, length&0xff
	var sign uint64
	if signed && length > 0 {
		sign = a >> min(position+length-1, width-1) & 1
	}
	v := a >> position
	if position+length > width && sign != 0 && position < 64 {
		v |= ^uint64(0) << (width - min(position, width))
	}
	if position >= width {
		v = -sign
	}
	if length >= 64 {
		return v
	}
	v &= 1<<length - 1
	if sign != 0 {
		v |= ^uint64(0) << length
	}
	return v
}

// insert puts the low bits of a into b at a position.
func insert(a, b uint64, position, length, width uint32) uint64 {
	position, length = position&0xff, length&0xff
	if position >= width {
		return b
	}
	mask := ^uint64(0)
	if length < 64 {
		mask = 1<<length - 1
	}
	mask <<= position
	return b&^mask | a<<position&mask
}
