//go:build (amd64 || arm64) && !noasm

package cpu

// fast is what the assembly paths keep in a Device.
type fast struct {
	matmul matmul
	dots   dots
}

// instructionSet is the assembly of one path. Everything that is not assembly
// is shared by all sets: packing and blocking (gemm.go), attention, the rows.
type instructionSet struct {
	name       string
	vectors    *vectors
	multiplier *multiplier
	// fmaLoop runs rounds of fmaChains independent multiply-adds of vectors.
	fmaLoop   func(rounds int)
	fmaChains int
	bf16      *multiplier // nil when the processor does not multiply bf16
}

// fastKernels returns the assembly paths that this processor can run, best
// first.
func fastKernels() []*kernels {
	var paths []*kernels
	for _, s := range instructionSets() {
		k := s.vectors.kernels(s.name, s.multiplier)
		if s.bf16 != nil {
			k.matmulBF16 = s.bf16.run
		}
		paths = append(paths, k)
	}
	return paths
}

// peakLoop returns the widest multiply-add loop and its operations a round: two
// for each lane of every chain.
func peakLoop() (loop func(rounds int), operations float64) {
	if sets := instructionSets(); len(sets) > 0 {
		return sets[0].fmaLoop, float64(2 * sets[0].fmaChains * sets[0].vectors.lanes)
	}
	return portablePeak, portablePeakOperations
}
