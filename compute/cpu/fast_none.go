//go:build (!amd64 && !arm64) || noasm

package cpu

// fast is nothing in this build.
type fast struct{}

// fastKernels returns nothing: this build has no assembly for this processor.
func fastKernels() []*kernels { return nil }

// peakLoop returns the multiply-add loop in plain Go and its operations a round.
func peakLoop() (loop func(rounds int), operations float64) {
	return portablePeak, portablePeakOperations
}
