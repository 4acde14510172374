//go:build !amd64 || noasm

package cpu

// peakLoop returns the multiply-add loop in plain Go and its operations a round.
func peakLoop() (loop func(rounds int), operations float64) { return portablePeak, 8 * 2 }
