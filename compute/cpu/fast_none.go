//go:build !amd64 || noasm

package cpu

// fast is nothing in this build.
type fast struct{}

// fastKernels returns nothing: this build has no assembly for this processor.
func fastKernels() []*kernels { return nil }
