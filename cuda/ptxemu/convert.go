package ptxemu

import (
	"fmt"
	"math"
	"slices"
)

// convert compiles cvt.
func (c *compiler) convert() error {
	i := c.at
	var types []Type
	for _, m := range i.Op[1:] {
		if t := parseType(m); t != Untyped {
			types = append(types, t)
		}
	}
	if len(types) != 2 {
		return fmt.Errorf("%d types, want two", len(types))
	}
	to, from := types[0], types[1]
	if to == F16X2 || to == BF16X2 {
		return c.convertPair(to)
	}
	operands, err := c.operands(2)
	if err != nil {
		return err
	}
	s := slot{kind: from}
	if o := operands[1]; o.Kind == Reg {
		s = c.slot(o.Index)
		if s.kind.bytes() < from.bytes() {
			return fmt.Errorf("the source is narrower than its type")
		}
	} else if from.bytes() == 8 {
		s.at, err = c.source64(o)
	} else {
		s.at, err = c.source32(o, from)
	}
	if err != nil {
		return err
	}
	d, err := c.destination(operands[0])
	if err != nil {
		return err
	}
	if d.kind.bytes() < to.bytes() {
		return fmt.Errorf("the destination is narrower than its type")
	}
	f := conversion(i, to, from)
	if f == nil {
		return errUnknown
	}
	get := func(w *warp, i int) uint64 { return uint64(w.r[s.at][i]) }
	if s.kind.bytes() == 8 {
		get = func(w *warp, i int) uint64 { return w.q[s.at][i] }
	}
	before, after, same := from.field(), to.field(), !from.float() && !to.float() && !i.has("sat")
	if d.kind.bytes() == 8 {
		return c.set64(operands[0], func(w *warp, z *lanes64) {
			for i := range z {
				v := before.of(get(w, i&31))
				if !same {
					v = f(v)
				}
				z[i] = after.of(v)
			}
		})
	}
	return c.set32(operands[0], func(w *warp, z *lanes32) {
		for i := range z {
			v := before.of(get(w, i&31))
			if !same {
				v = f(v)
			}
			z[i] = uint32(after.of(v))
		}
	})
}

// field is the low bits of a word that a type has.
type field struct {
	above  uint // bits that it does not have
	signed bool
}

func (t Type) field() field { return field{uint(64 - 8*t.bytes()), t.signed()} }

// of keeps the bits of a type, widened by its sign.
func (f field) of(v uint64) uint64 {
	if f.signed {
		return uint64(int64(v<<f.above) >> f.above)
	}
	return v << f.above >> f.above
}

// convertPair compiles cvt.rn.{f16x2,bf16x2}.f32 d, high, low.
func (c *compiler) convertPair(to Type) error {
	operands, err := c.operands(3)
	if err != nil {
		return err
	}
	at, err := c.sources32(F32, operands[1:]...)
	if err != nil {
		return err
	}
	h, mode, relu := halfOf(to), roundingOf(c.at), c.at.has("relu")
	one := func(v uint32) uint32 {
		x := float64(math.Float32frombits(v))
		if relu && (x < 0 || x == 0) {
			x = 0
		}
		return h.encode(x, mode)
	}
	return c.set32(operands[0], func(w *warp, z *lanes32) {
		high, low := &w.r[at[0]], &w.r[at[1]]
		for i := range z {
			z[i] = one(high[i])<<16 | one(low[i])
		}
	})
}

// conversion returns what turns the bits of one type into those of another; nil when there is none.
func conversion(i *Instruction, to, from Type) func(uint64) uint64 {
	ftz, sat, relu := i.has("ftz"), i.has("sat"), i.has("relu")
	if !from.float() && !to.float() {
		return func(v uint64) uint64 {
			if sat {
				v = saturate(v, from.signed(), to)
			}
			return to.field().of(v)
		}
	}
	whole := slices.ContainsFunc(i.Op, func(m string) bool { return len(m) == 3 && m[0] == 'r' && m[2] == 'i' })
	mode := roundingOf(i)
	value := decoder(from, ftz)
	if value == nil {
		return nil
	}
	if !to.float() {
		return func(v uint64) uint64 { return toInteger(integral(value(v), mode), to) }
	}
	encode := encoder(to, mode, ftz)
	if encode == nil {
		return nil
	}
	if to == F32 && !from.float() { // 64 bits do not fit float64
		return func(v uint64) uint64 { return uint64(math.Float32bits(integer32(v, from.signed(), mode))) }
	}
	return func(v uint64) uint64 {
		x := value(v)
		if whole {
			x = integral(x, mode)
		}
		if sat {
			if x = max(0, min(1, x)); x != x {
				x = 0
			}
		}
		if relu && !(x > 0) && x == x {
			x = 0
		}
		return encode(x)
	}
}

// integer32 rounds an integer to float32.
func integer32(v uint64, signed bool, mode rounding) float32 {
	if signed {
		high := float64(int64(v) >> 32 << 32)
		return round32(sum(high, float64(v&0xffffffff)), mode)
	}
	return round32(sum(float64(v>>32<<32), float64(v&0xffffffff)), mode)
}

// decoder returns what reads the bits of a type as a number.
func decoder(t Type, ftz bool) func(uint64) float64 {
	switch {
	case t == F64:
		return math.Float64frombits
	case t == F32 || t == TF32:
		return func(v uint64) float64 {
			if ftz {
				v = uint64(flush32(uint32(v)))
			}
			return float64(math.Float32frombits(uint32(v)))
		}
	case t == F16 || t == BF16:
		h := halfOf(t)
		return func(v uint64) float64 { return h.decode(uint32(v)) }
	case t.float():
		return nil
	case t.signed():
		return func(v uint64) float64 { return float64(int64(v)) }
	}
	return func(v uint64) float64 { return float64(v) }
}

// encoder returns what writes a number as bits of a type.
func encoder(t Type, mode rounding, ftz bool) func(float64) uint64 {
	switch t {
	case F64:
		return math.Float64bits
	case F32:
		return func(v float64) uint64 {
			bits := math.Float32bits(round32(v, mode))
			if v != v {
				bits = 0x7fffffff
			}
			if ftz {
				bits = flush32(bits)
			}
			return uint64(bits)
		}
	case TF32: // float32 with 10 bits of fraction, to nearest with ties away from zero
		return func(v float64) uint64 {
			bits := math.Float32bits(float32(v))
			if bits&0x7f800000 != 0x7f800000 {
				bits += 0x1000
			}
			return uint64(bits &^ 0x1fff)
		}
	case F16, BF16:
		h := halfOf(t)
		return func(v float64) uint64 { return uint64(h.encode(v, mode)) }
	default:
		return nil
	}
}

// integral rounds to a whole number.
func integral(v float64, mode rounding) float64 {
	switch mode {
	case towardZero:
		return math.Trunc(v)
	case down:
		return math.Floor(v)
	case up:
		return math.Ceil(v)
	case nearest:
	}
	return math.RoundToEven(v)
}

// toInteger returns the bits of a whole number, held within the type; 0 for NaN, except of 64 bits.
func toInteger(v float64, t Type) uint64 {
	width := 8 * t.bytes()
	switch {
	case v != v && width == 64:
		return 1 << 63
	case v != v:
		return 0
	case t.signed():
		limit := math.Ldexp(1, width-1)
		switch {
		case v >= limit:
			return 1<<(width-1) - 1
		case v < -limit:
			return t.field().of(1 << (width - 1))
		}
		return uint64(int64(v))
	case v < 0:
		return 0
	case v >= math.Ldexp(1, width):
		return ^uint64(0) >> (64 - width)
	}
	return uint64(v)
}

// saturate holds an integer within a type.
func saturate(v uint64, signed bool, to Type) uint64 {
	width := 8 * to.bytes()
	if to.signed() {
		most := uint64(1)<<(width-1) - 1
		switch {
		case signed && int64(v) < -int64(most)-1:
			return -most - 1
		case signed && int64(v) > int64(most), !signed && v > most:
			return most
		}
		return v
	}
	most := ^uint64(0) >> (64 - width)
	switch {
	case signed && int64(v) < 0:
		return 0
	case v > most:
		return most
	}
	return v
}
