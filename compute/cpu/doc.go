// Package cpu is the compute device every machine has.
//
// A Device owns a fixed pool of goroutines and one kernels table, its path:
// "portable" is plain Go, always compiled and the reference for the rest;
// faster paths are chosen at run time from what the processor can do (see
// available in kernels.go): AVX-512F, AVX2 with FMA, or arm64's NEON, in assembly
// that _asm generates and the build tag noasm leaves out. Blocking and packing
// of products, attention and the row functions' drivers are Go that all of them
// share. The Device checks shapes, cuts an operation into parts by its shape
// alone and lets the pool claim them; kernels work on slices and know no
// threads. A part writes what no other part writes and sums in a fixed order, so
// results depend on the path but not on the number of threads or their timing.
//
// A Device is used by one goroutine at a time and must be closed, which waits
// for the pool's goroutines.
package cpu
