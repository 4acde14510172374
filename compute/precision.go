package compute

import "math"

// Precision is how a device multiplies matrices: a choice of whoever opens it,
// not of a model.
type Precision string

const (
	// FP32 takes the operands of a MatMul as they are.
	FP32 Precision = "fp32"
	// BF16 rounds both operands of a MatMul with RoundBF16; products are exact
	// and sums are in float32. Everything else stays float32: what is stored
	// (weights, gradients, moments, activations), norms, softmax, the residual
	// stream. In which order products are summed, two at a time or one, is the
	// device's affair, so devices agree to the rounding of float32.
	BF16 Precision = "bf16"
	// FP16 multiplies each operand of a MatMul by the power of two that brings its
	// largest value into [2¹⁴, 2¹⁵), rounds it to IEEE half precision, and divides
	// the sums, which are in float32, by both. So the short range of fp16 costs no
	// step and needs no scaled loss. Only tensor cores have it.
	FP16 Precision = "fp16"
)

// Precisions returns what a processor may be opened with; a card says itself
// what it has.
func Precisions() []string { return []string{string(FP32), string(BF16)} }

// RoundBF16 returns the bfloat16 (8 bits of significand, float32's range) that
// is nearest to x, the even one of two. Values below 2⁻¹²⁶ in magnitude become
// zero, as in the instructions that processors have for it (Intel Architecture
// Instruction Set Extensions, VCVTNEPS2BF16); NaN stays NaN.
func RoundBF16(x float32) float32 {
	const half, sign, quiet = 0x7fff, 1 << 31, 1 << 22
	b := math.Float32bits(x)
	switch exponent := b >> 23 & 0xff; {
	case exponent == 0:
		b &= sign
	case x != x:
		b |= quiet
	default:
		b += half + b>>16&1
	}
	return math.Float32frombits(b &^ 0xffff)
}
