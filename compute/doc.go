// Package compute is the contract between a model and the machine that trains
// it: host tensors, opaque device memory and the operations of a training step
// in the style of GPT-2 or Llama.
//
// Tensor is what crosses package borders on the host: a name, a shape and flat
// float32 values. Buffer and Ints are memory of one Device; only that device
// can use them. Device lists every operation with the shapes it takes; the
// suite in compute/computetest checks an implementation against float64.
//
// Arrays are row major. B is a batch, T the positions of a window, R = B·T the
// rows of a batch, C the width, H the heads, V the vocabulary.
//
// Errors. A shape that does not fit its buffers is a mistake in the program and
// panics with the operation's name; callers check sizes that come from outside.
// What can go wrong at run time (memory, a lost device) is returned by Alloc,
// Download and Sync.
//
// Reproducibility. An operation's result is a function of its arguments, the
// device's path and, unless the device promises more, its number of threads:
// work and reductions are split by shape, never by who finishes first. Devices
// differ from each other by rounding; what peers must agree on bit for bit is
// not computed here but by Init and by the replicated path in plain Go.
package compute
