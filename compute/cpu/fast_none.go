//go:build !amd64 || noasm

package cpu

// fastKernels returns nothing: this build has no assembly for this processor.
func fastKernels() []*kernels { return nil }
