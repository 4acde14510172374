package ptxemu

import "math"

// rounding is a direction of IEEE 754.
type rounding uint8

const (
	nearest rounding = iota
	towardZero
	down
	up
)

// roundingOf returns what the modifiers say; nearest without any.
func roundingOf(i *Instruction) rounding {
	for _, m := range i.Op[1:] {
		switch m {
		case "rn", "rni":
			return nearest
		case "rz", "rzi":
			return towardZero
		case "rm", "rmi":
			return down
		case "rp", "rpi":
			return up
		}
	}
	return nearest
}

// sum returns a + b rounded to odd: exact, or with the last bit set when bits
// were lost. Rounding that again to a format with two bits less rounds the
// exact sum correctly, in each direction (Boldo and Melquiond 2008).
func sum(a, b float64) float64 {
	s := a + b
	if math.IsInf(s, 0) || s != s {
		return s
	}
	v := s - a
	return odd(s, (a-(s-v))+(b-v))
}

// odd corrects a value rounded to nearest, given the sign of what was lost.
func odd(s, lost float64) float64 {
	bits := math.Float64bits(s)
	if lost == 0 || bits&1 != 0 {
		return s
	}
	if (lost > 0) == (s > 0) {
		return math.Float64frombits(bits | 1)
	}
	return math.Float64frombits(bits - 1)
}

// fused returns a·b + c rounded once, for float32 values.
func fused(a, b, c float32, mode rounding) float32 {
	product := float64(a) * float64(b) // exact
	s := sum(product, float64(c))
	if s == 0 {
		return zeroSum(product, float64(c), mode)
	}
	return round32(s, mode)
}

// zeroSum returns the zero of a sum that vanishes: -0 of two -0, else as the mode has it.
func zeroSum(a, b float64, mode rounding) float32 {
	minus := math.Signbit(a) && math.Signbit(b)
	if a != 0 || math.Signbit(a) != math.Signbit(b) {
		minus = mode == down
	}
	if minus {
		return float32(math.Copysign(0, -1))
	}
	return 0
}

// round32 rounds a value that is exact or rounded to odd.
func round32(v float64, mode rounding) float32 {
	r := float32(v)
	if mode == nearest || float64(r) == v || v != v {
		return r
	}
	return adjust(r, v, mode)
}

// adjust moves a neighbour of v to the one on the side that the mode wants.
func adjust(r float32, v float64, mode rounding) float32 {
	above := float64(r) > v
	wantAbove := mode == up || mode == towardZero && v < 0
	switch {
	case above == wantAbove:
		return r
	case wantAbove:
		return math.Nextafter32(r, float32(math.Inf(1)))
	}
	return math.Nextafter32(r, float32(math.Inf(-1)))
}

// flush32 replaces a denormal by a zero of its sign.
func flush32(v uint32) uint32 {
	if v&0x7f800000 == 0 {
		return v & 0x80000000
	}
	return v
}

// half is a format of 16 bits: F16 or BF16.
type half struct {
	fraction int // bits of it
	bias     int
}

func halfOf(t Type) half {
	if t == BF16 || t == BF16X2 {
		return half{7, 127}
	}
	return half{10, 15}
}

// decode returns the value of 16 bits.
func (h half) decode(v uint32) float64 {
	if h.fraction == 7 { // the upper half of a float32
		return float64(math.Float32frombits(v << 16))
	}
	// Put into a float32's fields the exponent is 112 too small, for denormals too.
	magnitude := math.Float32frombits(v&0x7fff<<13) * 0x1p112
	if v&0x7c00 == 0x7c00 {
		magnitude = math.Float32frombits(v&0x7fff<<13 | 0x7f800000)
	}
	return float64(math.Float32frombits(math.Float32bits(magnitude) | v&0x8000<<16))
}

// encode rounds a value that is exact or rounded to odd. Too large ones become infinite, or the largest number where
// the mode rounds away from infinity.
func (h half) encode(v float64, mode rounding) uint32 {
	bits := math.Float64bits(v)
	sign := uint32(bits >> 48 & 0x8000)
	exponent := int(bits>>52&0x7ff) - 1023
	fraction := bits & (1<<52 - 1)
	top := uint32(2*h.bias+1) << h.fraction
	switch {
	case exponent == 1024 && fraction != 0:
		return 0x7fff
	case exponent == 1024:
		return sign | top
	case v == 0:
		return sign
	}
	fraction |= 1 << 52
	drop := 52 - h.fraction
	if exponent < 1-h.bias { // a denormal
		drop += 1 - h.bias - exponent
		exponent = -h.bias
	} else {
		fraction &^= 1 << 52
	}
	if drop > 54 {
		drop = 54
		fraction = 1 // less than half of the least value
	}
	kept, lost := fraction>>drop, fraction&(1<<drop-1)
	away := false
	switch mode {
	case nearest:
		middle := uint64(1) << (drop - 1)
		away = lost > middle || lost == middle && kept&1 != 0
	case up:
		away = lost != 0 && sign == 0
	case down:
		away = lost != 0 && sign != 0
	case towardZero:
	}
	result := uint32(0)
	if exponent > h.bias {
		result = top
	} else {
		result = uint32(exponent+h.bias)<<h.fraction + uint32(kept)
		if away {
			result++
		}
	}
	if result >= top {
		result = top
		if mode == towardZero || mode == up && sign != 0 || mode == down && sign == 0 {
			result--
		}
	}
	return sign | result
}
