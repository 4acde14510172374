// Package loader finds the libraries that come with NVIDIA's driver and calls
// their C functions, without cgo: through purego on Linux, through the system's
// own loader on Windows. Elsewhere, and with -tags nocuda, nothing is found.
//
// A library stays loaded, since its threads outlive every use. Functions take
// and return integers and pointers only.
//
// Pointers. A pointer is converted to uintptr in the argument list of Call, or of
// a function that is marked go:uintptrescapes and passes its arguments on: then
// what it points to stays alive and in place until the call returns.
package loader
