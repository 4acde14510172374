//go:build amd64 && !noasm

package cpu

// fastKernels returns the assembly paths that this processor can run, best first.
func fastKernels() []*kernels { return nil }
