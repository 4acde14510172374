//go:build windows && !nocuda

package loader

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// Places are where a library of the driver is: in the system's folder. linux is its name on the other system.
func Places(linux, windows string) []string { return []string{windows} }

// open looks into the system's folder only, where nobody but an administrator puts a library.
func open(paths []string) (uintptr, error) {
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

func symbol(handle uintptr, name string) uintptr {
	address, _ := windows.GetProcAddress(windows.Handle(handle), name) // 0 with every error
	return address
}

//go:uintptrescapes
func invoke(address uintptr, args ...uintptr) uintptr {
	r, _, _ := syscall.SyscallN(address, args...)
	return r
}
