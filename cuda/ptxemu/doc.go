// Package ptxemu is a CUDA card in plain Go: it reads PTX, the text that NVRTC
// compiles kernels to, and runs it with the semantics that NVIDIA documents. It
// is a backend of cuda/driver, so that the program's own kernels run, and are
// checked, where there is no card. It says nothing about speed.
//
// Parse reads a module's text, compile turns every instruction into a function
// over the registers of 32 threads, a warp runs these in step, a worker runs
// blocks one after the other and several workers share a launch.
//
// Sanitizers. Always on: access outside of what Alloc returned or after Free,
// misalignment, reads of shared memory that the block did not write, races in
// shared memory between barriers and in global memory between blocks, memory
// used before a cp.async into it was waited for, and threads that miss each
// other at a barrier, shuffle or mma. The first Finding ends the launch and,
// as on a card, the context: each later call returns it. Bounds are those of
// one Alloc, so a caller that wants overruns found allocates each buffer alone.
//
// Freedom of the card is used against the program: streams run as late as they
// may (Order), blocks and warps in a shuffled order, approximate instructions
// err by up to their documented bound (Config.ApproximationError), tensor cores
// add up in more than one way (Accumulation), fresh memory is full of NaN.
//
// Counters tell per kernel what it did; roofline turns them into predictions.
//
// Not emulated: calls of functions, textures, barriers of part of a block,
// mbarrier, bulk copies and whatever else Context.LoadModule refuses by name.
package ptxemu
