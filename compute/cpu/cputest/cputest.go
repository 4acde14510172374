package cputest

import (
	"testing"

	"dunlin/compute/cpu"
)

// Device opens the CPU with one thread, until the test is over.
func Device(t testing.TB) *cpu.Device {
	t.Helper()
	d, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
