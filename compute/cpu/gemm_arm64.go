//go:build !noasm

package cpu

// tile runs a micro-kernel. The call is direct, so that the compiler knows that
// t does not escape.
func (m *multiplier) tile(kMajor bool, rows, vectors int, t *tile) {
	multiplyNEON(kMajor, rows, vectors, t)
}

// copyPanel packs depth rows of B as they lie, vectors wide.
func copyPanel(_, vectors int, dst, src *float32, ldsrc, depth, tail int) {
	switch vectors {
	case 1:
		copyPanel1NEON(dst, src, ldsrc, depth, tail)
	case 2:
		copyPanel2NEON(dst, src, ldsrc, depth, tail)
	default:
		copyPanel3NEON(dst, src, ldsrc, depth, tail)
	}
}

// transposeSide is the side of the squares that transpose turns.
const transposeSide = 4

// transpose turns squares of B side by side.
func transpose(dst *float32, lddst int, src *float32, ldsrc, blocks int) {
	transpose4NEON(dst, lddst, src, ldsrc, blocks)
}
