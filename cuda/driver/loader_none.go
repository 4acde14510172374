//go:build nocuda || (!windows && !(linux && (amd64 || arm64)))

package driver

import "errors"

// This build calls no library: it is static, or its system has no NVIDIA driver.

func libraryPaths() []string { return nil }

func openLibrary([]string) (uintptr, error) {
	return 0, errors.New("this build of dunlin has no CUDA")
}

func symbol(uintptr, string) uintptr { return 0 }

func invoke(uintptr, ...uintptr) uintptr { return uintptr(NotSupported) }
