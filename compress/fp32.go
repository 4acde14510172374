package compress

import (
	"encoding/binary"
	"fmt"
	"math"
)

// FP32 is the exact codec: the header, then the bits of every value,
// little-endian. 32 bits a value.
type FP32 struct{}

// Name returns "fp32".
func (FP32) Name() string { return "fp32" }

// EncodedSlabBytes returns 12 + 4 bytes a value.
func (FP32) EncodedSlabBytes(values int) int { return headerBytes + 4*values }

// Encode implements Codec.
func (c FP32) Encode(dst []byte, src []float32) ([]byte, error) {
	return c.encode(fastest(), dst, src)
}

func (c FP32) encode(p path, dst []byte, src []float32) ([]byte, error) {
	start := len(dst)
	dst, err := appendHeader(dst, idFP32, 0, len(src))
	if err != nil {
		return dst, err
	}
	at := len(dst)
	dst = grow(dst, 4*len(src))
	out := dst[at:]
	bad, done := p.fastBytesOfFinite(out, src)
	out = out[4*done:]
	for _, x := range src[done:] {
		bits := math.Float32bits(x)
		bad |= exponentFull(bits)
		binary.LittleEndian.PutUint32(out, bits)
		out = out[4:]
	}
	if bad&0x80000000 != 0 {
		return dst[:start], fmt.Errorf("encode fp32: %w", ErrNotFinite)
	}
	return dst, nil
}

// Decode implements Codec.
func (c FP32) Decode(dst []float32, frame []byte) error {
	return c.decode(fastest(), dst, frame)
}

func (c FP32) decode(p path, dst []float32, frame []byte) error {
	in, err := fixedBody(frame, idFP32, len(dst), c.EncodedSlabBytes(len(dst)))
	if err != nil {
		return fmt.Errorf("decode fp32: %w", err)
	}
	bad, done := p.fastFiniteOfBytes(dst, in)
	if !decodeFP32(dst[done:], in[4*done:]) || bad>>31 == 1 {
		return fmt.Errorf("decode fp32: %w: %w", ErrFrame, ErrNotFinite)
	}
	return nil
}

// decodeFP32 is normative (protocol, R9). It says whether all values are finite.
//
//go:noinline
func decodeFP32(dst []float32, in []byte) bool {
	var bad uint32
	for i := range dst {
		bits := binary.LittleEndian.Uint32(in)
		in = in[4:]
		bad |= exponentFull(bits)
		dst[i] = math.Float32frombits(bits)
	}
	return bad&0x80000000 == 0
}

// exponentFull returns a number whose highest bit is set exactly when the float32 of
// the given bits is infinite or not a number.
func exponentFull(bits uint32) uint32 {
	return bits&0x7fffffff + 0x00800000
}
