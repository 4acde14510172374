package cpu

import (
	"testing"

	"dunlin/compute"
	"dunlin/compute/computetest"
)

// fastPaths are the paths beside the portable one that this machine can run.
func fastPaths(t testing.TB) []string {
	paths := Paths()[:len(Paths())-1]
	if len(paths) == 0 {
		t.Skip("this build or processor has no assembly path")
	}
	return paths
}

// TestFastConforms runs the suite on every assembly path.
func TestFastConforms(t *testing.T) {
	for _, path := range fastPaths(t) {
		t.Run(path, func(t *testing.T) {
			computetest.Run(t, func() compute.Device { return newDevice(t, Options{Path: path, Threads: 1}) })
		})
	}
}

// TestFastThreads checks that the number of threads changes no bit.
func TestFastThreads(t *testing.T) {
	for _, path := range fastPaths(t) {
		t.Run(path, func(t *testing.T) {
			var devices []compute.Device
			for _, threads := range []int{1, 2, 5} {
				devices = append(devices, newDevice(t, Options{Path: path, Threads: threads}))
			}
			computetest.Same(t, devices...)
		})
	}
}
