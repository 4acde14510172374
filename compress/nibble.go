package compress

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Int4 is the absmax codec of 15 levels: values in groups of 64 (the last may be
// shorter), each a scale and four bits a value. A value is code × scale, code −7 to 7.
// 4.25 bits a value.
//
// Group of n values: scale (bfloat16, little-endian), then ceil(n/2) bytes; byte j holds
// the code of value j in its lower half and that of value j + ceil(n/2), or 0, in the
// upper half, in two's complement. A scale is +0 (then every code is 0) or at least
// 2⁻¹²⁶, and small enough that 7 × scale is finite. The error of a value is at most
// absmax/14·(1+2⁻⁸), or 7·2⁻¹²⁶ where the group is too small for a scale.
type Int4 struct{}

// E3M0 is the codec of powers of two: a sign, three bits of exponent and no mantissa
// (A. Douillard et al., Streaming DiLoCo, arXiv 2501.18512, 2025). Values in groups of
// 256, each a scale and four bits a value: 0, or ± scale × 2^(e−7) with e 1 to 7. Each value
// takes the nearest. 4.06 bits a value.
//
// The frame is that of Int4 with other groups; a code is e, plus 8 when negative. The
// error of a value x is at most |x|/3, or scale × 2⁻⁷ where x is smaller than that, and
// rounding of the scale, up to absmax·2⁻⁸.
type E3M0 struct{}

const (
	int4Group, e3m0Group = 64, 256
	int4Max              = 7
	maxInt4Scale         = 0x7e12 // the largest bfloat16 whose 7-fold is finite
	minScale16           = 0x0080 // 2^-126
)

// levels are the values of the 16 codes at scale 1. No encoder writes code 8.
type levels [16]float32

func int4Levels() levels {
	return levels{0, 1, 2, 3, 4, 5, 6, 7, 0, -7, -6, -5, -4, -3, -2, -1}
}

func e3m0Levels() levels {
	return levels{
		0, 0x1p-6, 0x1p-5, 0x1p-4, 0x1p-3, 0x1p-2, 0x1p-1, 1,
		0, -0x1p-6, -0x1p-5, -0x1p-4, -0x1p-3, -0x1p-2, -0x1p-1, -1,
	}
}

// Name returns "int4".
func (Int4) Name() string { return "int4" }

// Name returns "e3m0".
func (E3M0) Name() string { return "e3m0" }

// EncodedSlabBytes returns 12 + half a byte a value + 2 bytes a group.
func (Int4) EncodedSlabBytes(values int) int { return nibbleBytes(values, int4Group) }

// EncodedSlabBytes returns 12 + half a byte a value + 2 bytes a group.
func (E3M0) EncodedSlabBytes(values int) int { return nibbleBytes(values, e3m0Group) }

// nibbleBytes returns the size of a frame. Groups are even, so only the last can have half
// a byte to spare.
func nibbleBytes(values, group int) int {
	return headerBytes + (values+1)/2 + 2*ceilDiv(values, group)
}

// Encode implements Codec.
func (c Int4) Encode(dst []byte, src []float32) ([]byte, error) {
	return c.encode(fastest(), dst, src)
}

func (c Int4) encode(p path, dst []byte, src []float32) ([]byte, error) {
	return encodeGroups(p, c, idInt4, int4Group, encodeInt4, dst, src)
}

// encodeInt4 writes one group and says whether all values are finite.
func encodeInt4(p path, out []byte, src []float32) bool {
	top := p.maxMagnitude(src)
	if top >= infinity {
		return false
	}
	scale := scale16(math.Float32frombits(top)/int4Max, maxInt4Scale)
	if scale < minScale16 {
		clear(out)
		return true
	}
	binary.LittleEndian.PutUint16(out, scale)
	inverse := 1 / scaleValue(scale)
	codes := out[2:]
	if p.fastInt4Codes(codes, src, inverse) {
		return true
	}
	high := src[len(codes):]
	for i, x := range src[:len(codes)] {
		codes[i] = int4Code(x, inverse)
	}
	for i, x := range high {
		codes[i] |= int4Code(x, inverse) << 4
	}
	return true
}

func int4Code(x, inverse float32) byte {
	return byte(math.Float32bits(float32(x*inverse)+roundBias)) & 15
}

// Encode implements Codec.
func (c E3M0) Encode(dst []byte, src []float32) ([]byte, error) {
	return c.encode(fastest(), dst, src)
}

func (c E3M0) encode(p path, dst []byte, src []float32) ([]byte, error) {
	return encodeGroups(p, c, idE3M0, e3m0Group, encodeE3M0, dst, src)
}

// encodeE3M0 writes one group and says whether all values are finite.
func encodeE3M0(p path, out []byte, src []float32) bool {
	top := p.maxMagnitude(src)
	if top >= infinity {
		return false
	}
	scale := scale16(math.Float32frombits(top), maxScale16)
	if scale < minScale16 {
		clear(out)
		return true
	}
	binary.LittleEndian.PutUint16(out, scale)
	inverse := 1 / scaleValue(scale)
	codes := out[2:]
	if p.fastE3M0Codes(codes, src, inverse) {
		return true
	}
	high := src[len(codes):]
	for i, x := range src[:len(codes)] {
		codes[i] = e3m0Code(x, inverse)
	}
	for i, x := range high {
		codes[i] |= e3m0Code(x, inverse) << 4
	}
	return true
}

// e3m0Code returns the code of the level nearest to x × inverse. Between two powers of two
// the border is at 1.5 times the lower, where ⁴⁄₃ of the value takes its next exponent;
// between 0 and 2⁻⁶ it is at 2⁻⁷.
func e3m0Code(x, inverse float32) byte {
	const (
		stretch  = float32(4.0 / 3)
		smallest = stretch * 0x1p-7
	)
	y := float32(float32(x*inverse) * stretch)
	m := magnitude(y)
	if m < math.Float32bits(smallest) {
		return 0
	}
	return byte(max(int(m>>23)-120, 1)) | byte(math.Float32bits(y)>>31<<3)
}

// infinity is the bits of +Inf; larger magnitudes are not numbers.
const infinity = 0x7f800000

// Decode implements Codec.
func (c Int4) Decode(dst []float32, frame []byte) error {
	return c.decode(fastest(), dst, frame)
}

func (c Int4) decode(p path, dst []float32, frame []byte) error {
	in, err := fixedBody(frame, idInt4, len(dst), c.EncodedSlabBytes(len(dst)))
	if err == nil {
		table := int4Levels()
		err = decodeNibbles(p, dst, in, int4Group, maxInt4Scale, &table)
	}
	if err != nil {
		return fmt.Errorf("decode int4: %w", err)
	}
	return nil
}

// Decode implements Codec.
func (c E3M0) Decode(dst []float32, frame []byte) error {
	return c.decode(fastest(), dst, frame)
}

func (c E3M0) decode(p path, dst []float32, frame []byte) error {
	in, err := fixedBody(frame, idE3M0, len(dst), c.EncodedSlabBytes(len(dst)))
	if err == nil {
		table := e3m0Levels()
		err = decodeNibbles(p, dst, in, e3m0Group, maxScale16, &table)
	}
	if err != nil {
		return fmt.Errorf("decode e3m0: %w", err)
	}
	return nil
}

func decodeNibbles(p path, dst []float32, in []byte, group int, limit uint16, table *levels) error {
	for len(dst) > 0 {
		n := min(group, len(dst))
		scale := binary.LittleEndian.Uint16(in)
		codes := in[2:][:(n+1)/2]
		switch {
		case scale == 0:
			if !allZero(codes) {
				return fmt.Errorf("%w: codes under a zero scale", ErrFrame)
			}
			clear(dst[:n])
		case scale < minScale16 || scale > limit:
			return fmt.Errorf("%w: scale bits %#04x are not canonical", ErrFrame, scale)
		case !decodeGroup(p, dst[:n], codes, scaleValue(scale), table):
			return fmt.Errorf("%w: a code that no encoder writes", ErrFrame)
		}
		dst, in = dst[n:], in[2+len(codes):]
	}
	return nil
}

// decodeGroup is normative (protocol, R9): a value is the product of its level and the
// scale, rounded once. It says whether no code is 8 and no half byte to spare is used.
func decodeGroup(p path, dst []float32, codes []byte, scale float32, table *levels) bool {
	if bad, done := p.fastNibbleValues(dst, codes, table, scale); done {
		return bad == 0
	}
	var values levels
	for i, level := range table {
		values[i] = float32(level * scale)
	}
	return decodeCodes(dst, codes, &values)
}

// decodeCodes is decodeGroup behind the products.
//
//go:noinline
func decodeCodes(dst []float32, codes []byte, values *levels) bool {
	low, high := dst[:len(codes)], dst[len(codes):]
	var seen uint64
	for i, b := range codes {
		low[i] = values[b&15]
		seen |= 1 << (b & 15)
	}
	for i := range high {
		b := codes[i] >> 4
		high[i] = values[b]
		seen |= 1 << b
	}
	spare := len(high) < len(low) && codes[len(high)]>>4 != 0
	return seen>>8&1 == 0 && !spare
}
