package compress

import "math"

// Scales of codecs below eight bits are bfloat16: the upper half of a float32.

// maxScale16 is the largest finite bfloat16.
const maxScale16 = 0x7f7f

// scale16 returns the bfloat16 nearest to x ≥ 0, ties to even, at most limit.
func scale16(x float32, limit uint16) uint16 {
	b := math.Float32bits(x)
	return min(uint16((b+0x7fff+b>>16&1)>>16), limit)
}

// scaleValue returns the value of a bfloat16.
func scaleValue(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }
