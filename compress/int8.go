package compress

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Int8 is the absmax codec: values in groups of 256 (the last may be shorter; a
// block is a whole number of groups), each group a scale and one signed byte a
// value. A value is code × scale. 8.125 bits a value.
//
// Group: scale (float32, little-endian), then the codes, −127 to 127. A scale is
// +0 (then every code is 0) or at least the smallest normal number, and small
// enough that 127 × scale is finite. The error of a value is at most half a scale
// and a rounding, so at most absmax/254·(1+2⁻²⁰), or 127·2⁻¹²⁶ where the group is
// too small for a scale.
type Int8 struct{}

const (
	int8Group = 256
	int8Max   = 127

	minNormal = 0x00800000 // bits of 2^-126
	// maxScale holds the bits of the largest scale: 127 times it is the largest
	// float32, 127 times the next one is infinite.
	maxScale = 0x7c010203
	// roundBias is 1.5·2^23: adding it rounds to the nearest integer, ties to even,
	// and leaves that integer's low bits in the mantissa.
	roundBias = 12582912
)

// Name returns "int8".
func (Int8) Name() string { return "int8" }

// EncodedSlabBytes returns 12 + 1 byte a value + 4 bytes a group.
func (Int8) EncodedSlabBytes(values int) int {
	return headerBytes + values + 4*((values+int8Group-1)/int8Group)
}

// Encode implements Codec.
func (c Int8) Encode(dst []byte, src []float32) ([]byte, error) {
	return c.encode(fastest(), dst, src)
}

func (c Int8) encode(p path, dst []byte, src []float32) ([]byte, error) {
	return encodeGroups(p, c, idInt8, int8Group, encodeInt8, dst, src)
}

// encodeInt8 writes one group and says whether all values are finite.
func encodeInt8(p path, out []byte, src []float32) bool {
	top := p.maxMagnitude(src)
	if top >= infinity {
		return false
	}
	scale := math.Float32frombits(top) / int8Max
	bits := min(math.Float32bits(scale), maxScale)
	codes := out[4:][:len(src)]
	if bits < minNormal {
		clear(out)
		return true
	}
	binary.LittleEndian.PutUint32(out, bits)
	inverse := 1 / math.Float32frombits(bits)
	done := p.fastInt8Codes(codes, src, inverse)
	codes = codes[done:]
	for i, x := range src[done:] {
		codes[i] = byte(math.Float32bits(float32(x*inverse) + roundBias))
	}
	return true
}

// Decode implements Codec.
func (c Int8) Decode(dst []float32, frame []byte) error {
	return c.decode(fastest(), dst, frame)
}

func (c Int8) decode(p path, dst []float32, frame []byte) error {
	in, err := fixedBody(frame, idInt8, len(dst), c.EncodedSlabBytes(len(dst)))
	if err != nil {
		return fmt.Errorf("decode int8: %w", err)
	}
	for len(dst) > 0 {
		n := min(int8Group, len(dst))
		bits := binary.LittleEndian.Uint32(in)
		codes := in[4:][:n]
		switch {
		case bits == 0:
			if !allZero(codes) {
				return fmt.Errorf("decode int8: %w: codes under a zero scale", ErrFrame)
			}
			clear(dst[:n])
		case bits < minNormal || bits > maxScale:
			return fmt.Errorf("decode int8: %w: scale bits %#08x are not canonical", ErrFrame, bits)
		default:
			scale := math.Float32frombits(bits)
			lowest, done := p.fastInt8Values(dst[:n], codes, scale)
			if !decodeInt8(dst[done:n], codes[done:], scale) || lowest < -int8Max {
				return fmt.Errorf("decode int8: %w: code −128", ErrFrame)
			}
		}
		dst, in = dst[n:], in[4+n:]
	}
	return nil
}

// decodeInt8 is normative (protocol, R9): one product a value, rounded once. It
// says whether no code is −128, which no encoder writes.
//
//go:noinline
func decodeInt8(dst []float32, codes []byte, scale float32) bool {
	var bad uint64
	for len(dst) >= 8 && len(codes) >= 8 {
		w := binary.LittleEndian.Uint64(codes)
		d := dst[:8:8]
		d[0] = float32(float32(int8(w)) * scale)
		d[1] = float32(float32(int8(w>>8)) * scale)
		d[2] = float32(float32(int8(w>>16)) * scale)
		d[3] = float32(float32(int8(w>>24)) * scale)
		d[4] = float32(float32(int8(w>>32)) * scale)
		d[5] = float32(float32(int8(w>>40)) * scale)
		d[6] = float32(float32(int8(w>>48)) * scale)
		d[7] = float32(float32(int8(w>>56)) * scale)
		bad |= hasByte80(w)
		dst, codes = dst[8:], codes[8:]
	}
	for i := range dst {
		if codes[i] == 0x80 {
			bad = 1
		}
		dst[i] = float32(float32(int8(codes[i])) * scale)
	}
	return bad == 0
}

// hasByte80 returns non-zero exactly when one of the eight bytes is 0x80.
func hasByte80(w uint64) uint64 {
	const low, high = 0x0101010101010101, 0x8080808080808080
	x := w ^ high
	return (x - low) &^ x & high
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
