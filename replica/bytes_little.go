//go:build (amd64 || arm64) && !noasm

package replica

import "unsafe"

// appendFloats appends the values in little-endian order, which is that of these processors.
func appendFloats(dst []byte, values []float32) []byte {
	if len(values) == 0 {
		return dst
	}
	return append(dst, unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 4*len(values))...)
}
