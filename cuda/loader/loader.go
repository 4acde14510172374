package loader

import "errors"

// ErrNone says that this build calls no library.
var ErrNone = errors.New("this build of dunlin has no CUDA")

// Library is a library that is loaded.
type Library struct{ handle uintptr }

// Function is where a C function is; 0 when its library lacks it, and then it must
// not be called.
type Function uintptr

// Open loads the first library that is there, of names or paths such as Places returns.
func Open(paths []string) (Library, error) {
	handle, err := open(paths)
	return Library{handle}, err
}

// Function looks a function up.
func (l Library) Function(name string) Function { return Function(symbol(l.handle, name)) }

// Call calls a function with at most 32 arguments.
//
//go:uintptrescapes
func (f Function) Call(args ...uintptr) uintptr { return invoke(uintptr(f), args...) }
