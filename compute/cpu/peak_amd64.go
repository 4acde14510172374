//go:build amd64 && !noasm

package cpu

// peakLoop returns the widest multiply-add loop and its operations a round:
// two for each lane of 12 chains.
func peakLoop() (loop func(rounds int), operations float64) {
	switch Paths()[0] {
	case "avx512":
		return fmaLoopAVX512, 12 * 16 * 2
	case "avx2":
		return fmaLoopAVX2, 12 * 8 * 2
	default:
		return portablePeak, 8 * 2
	}
}
