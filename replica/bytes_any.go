//go:build noasm || !(amd64 || arm64)

package replica

import (
	"encoding/binary"
	"math"
)

// appendFloats appends the values in little-endian order.
func appendFloats(dst []byte, values []float32) []byte {
	for _, x := range values {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x))
	}
	return dst
}
