//go:build !noasm

package cpu

// tile runs a micro-kernel. Calls are direct, so that the compiler knows that
// t does not escape.
func (m *multiplier) tile(kMajor bool, rows, vectors int, t *tile) {
	switch {
	case m.pairs != nil:
		multiplyBF16(kMajor, rows, vectors, t)
	case m.lanes == 16:
		multiplyAVX512(kMajor, rows, vectors, t)
	default:
		multiplyAVX2(kMajor, rows, vectors, t)
	}
}

// copyPanel packs depth rows of B as they lie, vectors wide.
func copyPanel(lanes, vectors int, dst, src *float32, ldsrc, depth, tail int) {
	switch {
	case lanes == 16 && vectors == 1:
		copyPanel1AVX512(dst, src, ldsrc, depth, tail)
	case lanes == 16 && vectors == 2:
		copyPanel2AVX512(dst, src, ldsrc, depth, tail)
	case lanes == 16:
		copyPanel3AVX512(dst, src, ldsrc, depth, tail)
	case vectors == 1:
		copyPanel1AVX2(dst, src, ldsrc, depth, tail)
	default:
		copyPanel2AVX2(dst, src, ldsrc, depth, tail)
	}
}

// transposeSide is the side of the squares that transpose turns.
const transposeSide = 8

// transpose turns squares of B side by side; it needs AVX only.
func transpose(dst *float32, lddst int, src *float32, ldsrc, blocks int) {
	transpose8AVX2(dst, lddst, src, ldsrc, blocks)
}
