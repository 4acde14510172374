//go:build windows && !nocuda

package driver

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// libraryPaths is the name of the driver's library in the system's folder.
func libraryPaths() []string { return []string{"nvcuda.dll"} }

// openLibrary loads the driver's library from the system's folder only, where nobody but an administrator puts one. It
// stays loaded: the driver's threads outlive every use.
func openLibrary(paths []string) (uintptr, error) {
	var faults []error
	for _, path := range paths {
		handle, err := windows.LoadLibraryEx(path, 0, windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
		if err == nil {
			return uintptr(handle), nil
		}
		faults = append(faults, err)
	}
	return 0, errors.Join(faults...)
}

// symbol returns a function's address, 0 when the library lacks it.
func symbol(handle uintptr, name string) uintptr {
	address, _ := windows.GetProcAddress(windows.Handle(handle), name) // 0 with every error
	return address
}

// invoke calls a C function of integers and pointers.
//
//go:uintptrescapes
func invoke(address uintptr, args ...uintptr) uintptr {
	r, _, _ := syscall.SyscallN(address, args...)
	return r
}
