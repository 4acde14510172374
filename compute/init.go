package compute

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strconv"
)

// initDomain separates the keys of initialisation from every other hash.
const initDomain = "dunlin/1/init"

// Init fills dst with the initial values of the tensor called name: value i is
//
//	scale × (u₀ + u₁ + u₂ + u₃ − 131070)
//
// with the four 16-bit quarters u of the i-th 64-bit output, lowest first, of
// ChaCha8 keyed by SHA-256("dunlin/1/init" ‖ seed little-endian ‖ name). The sum
// is an integer below 2¹⁸, exact in float32, and the product is rounded once:
// every machine gets the same bits. This is the normative initialisation of the
// protocol (rule R9): state 0 of a run is computed with it by every peer.
func Init(dst []float32, seed uint64, name string, scale float32) {
	text := make([]byte, 0, len(initDomain)+8+len(name))
	text = append(text, initDomain...)
	text = binary.LittleEndian.AppendUint64(text, seed)
	text = append(text, name...)
	random := rand.NewChaCha8(sha256.Sum256(text))
	for i := range dst {
		u := random.Uint64()
		sum := int32(u&0xffff) + int32(u>>16&0xffff) + int32(u>>32&0xffff) + int32(u>>48)
		dst[i] = float32(scale * float32(sum-131070))
	}
}

// InitRow fills dst with what lies outside of a tensor's corner in row number row,
// as Init does under the name "name[row]": whoever needs one row makes it without
// the others. It is normative like Init.
func InitRow(dst []float32, seed uint64, name string, row int, scale float32) {
	Init(dst, seed, name+"["+strconv.Itoa(row)+"]", scale)
}

// Outside visits what of a tensor of one or two extents lies outside of a corner at
// its first value, the end of a row at a time. A nil corner is all of the tensor.
func Outside(values []float32, shape, corner []int, visit func(row int, rest []float32)) {
	if corner == nil {
		return
	}
	last := len(shape) - 1
	for row := range len(values) / shape[last] {
		inside := corner[last]
		if last > 0 && row >= corner[0] {
			inside = 0
		}
		visit(row, values[row*shape[last]+inside:(row+1)*shape[last]])
	}
}

// InitScale returns the scale for which Init's values have the given standard
// deviation. The sum of four integers uniform on [0, 2¹⁶) has variance
// 4·(2³² − 1)/12, so scale = std/√((2³² − 1)/3): one float64 root and one
// division, both correctly rounded everywhere, rounded once more to float32.
// With Init it is normative: RunSpec states std as a float32.
func InitScale(std float64) float32 {
	return float32(std / math.Sqrt((1<<32-1)/3.0))
}
