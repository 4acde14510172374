// Package kernels holds the code that runs on a GPU: CUDA sources (*.cu, *.cuh)
// and the PTX that NVRTC makes of them, which is committed and embedded, so that
// nobody but who changes a kernel needs a compiler.
//
// A source names the architectures that it is compiled for. sm_61 (Pascal) has
// all operations in float32; sm_75 (Turing) adds products of fp16 on tensor
// cores, sm_80 (Ampere) those of bf16 with asynchronous copies. A driver compiles
// PTX for the card that it finds and for every later one.
//
// Rules of these kernels. Results are a function of arguments and shape: no
// float atomics, sums in a fixed order. Warps read and write neighbours side by
// side. Shared memory stays within the 48 KiB that every card has without asking.
// Each file says its tiles and why.
//
// `make generate` rebuilds the PTX with the library that NVRTC names. A test
// fails when a source changed without it.
package kernels
