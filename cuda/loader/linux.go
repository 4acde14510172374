//go:build linux && (amd64 || arm64) && !nocuda

package loader

import (
	"errors"

	"github.com/ebitengine/purego"
)

// Places are where a library of the driver is: by the system's loader, then where WSL and NixOS keep it. windows is its
// name on the other system.
func Places(linux, windows string) []string {
	return []string{linux, "/usr/lib/wsl/lib/" + linux, "/run/opengl-driver/lib/" + linux}
}

func open(paths []string) (uintptr, error) {
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

func symbol(handle uintptr, name string) uintptr {
	address, _ := purego.Dlsym(handle, name) // 0 with every error
	return address
}

//go:uintptrescapes
func invoke(address uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(address, args...)
	return r
}
