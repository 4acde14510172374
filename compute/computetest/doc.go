// Package computetest is the conformance suite of compute.Device.
//
// Run puts a device through every operation with ordinary and awkward shapes
// and compares it with a float64 reference written here, independently of any
// device. It also checks what the contract says besides the values: outputs
// that are to be overwritten are (they start as NaN), nothing is written beside
// an output, inputs are left alone, allowed aliases work, and a second device
// gives the same bits.
//
// Same runs the same operations on several devices that promise equal bits:
// one path with different numbers of threads.
//
// A tolerance is stated for each operation as absolute + relative to a scale
// that fits it (for sums of products the sum of magnitudes).
package computetest
