//go:build nocuda || (!windows && !(linux && (amd64 || arm64)))

package loader

// This build calls no library: it is static, or its system has no NVIDIA driver.

// Places returns nothing: there is nowhere to look.
func Places(linux, windows string) []string { return nil }

func open([]string) (uintptr, error) {
	return 0, ErrNone
}

func symbol(uintptr, string) uintptr { return 0 }

func invoke(uintptr, ...uintptr) uintptr { panic("loader: a call without a library") }
