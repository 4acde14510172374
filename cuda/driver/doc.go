// Package driver is the small part of the CUDA driver interface that training
// needs: some forty calls on contexts, modules, memory, streams, events,
// launches and graphs. Two backends speak it: the NVIDIA driver of this machine
// (System, found at run time, without cgo) and the PTX emulator of cuda/ptxemu.
//
// A Driver lists cards and opens one; the Context it returns is that card's
// memory, code and queues. Work is queued on streams: a call that takes a
// Stream returns at once, and what goes wrong on the card is reported by a
// later call. Calls without a stream wait for nothing but may take long
// (LoadModule compiles PTX).
//
// Threads. A Context is used by one goroutine at a time, which need not stay on
// one thread: each call makes the context current where it runs.
//
// Errors. Every failure of a backend is an *Error with the driver's code, in
// words that say what to do; errors.Is tells the few kinds apart that a program
// acts on. After ErrDeviceLost a Context is dead: each further call fails
// likewise, Close gives it up, and Open may bring the card back.
package driver
