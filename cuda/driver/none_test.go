//go:build nocuda || (!windows && !(linux && (amd64 || arm64)))

package driver

import (
	"errors"
	"strings"
	"testing"
)

// A build that calls no library says so, and asks nobody to install a driver.
func TestBuildWithoutCUDA(t *testing.T) {
	_, err := System().Devices()
	if !errors.Is(err, ErrNoDriver) || !strings.Contains(err.Error(), "this build of dunlin has no CUDA") || strings.Contains(err.Error(), "install") {
		t.Errorf("%v", err)
	}
}
