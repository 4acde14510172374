//go:build !linux || !cgo || nocuda

package telemetry

import "fmt"

func open() (Source, error) {
	return nil, fmt.Errorf("%w: this build has none, since NVML is called through cgo; build dunlin on Linux with CGO_ENABLED=1 to have it", ErrNone)
}
