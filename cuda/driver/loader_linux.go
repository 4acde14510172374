//go:build linux && (amd64 || arm64) && !nocuda

package driver

import (
	"errors"

	"github.com/ebitengine/purego"
)

// libraryPaths are the names of the driver's library: by the system's loader, then where WSL and NixOS keep it.
func libraryPaths() []string {
	return []string{"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1", "/run/opengl-driver/lib/libcuda.so.1"}
}

// openLibrary loads the first library that is there. It stays loaded: the driver's threads outlive every use.
func openLibrary(paths []string) (uintptr, error) {
	var faults []error
	for _, path := range paths {
		handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
		if err == nil {
			return handle, nil
		}
		faults = append(faults, err)
	}
	return 0, errors.Join(faults[:1]...) // the others are there on few systems
}

// symbol returns a function's address, 0 when the library lacks it.
func symbol(handle uintptr, name string) uintptr {
	address, _ := purego.Dlsym(handle, name) // 0 with every error
	return address
}

// invoke calls a C function of at most 15 integers and pointers.
//
//go:uintptrescapes
func invoke(address uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(address, args...)
	return r
}
