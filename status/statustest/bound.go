package statustest

import (
	"fmt"
	"os"
	"testing"
)

// Measuring skips a test unless `make bench-people` runs it: what it measures takes a quiet machine.
func Measuring(t *testing.T) {
	t.Helper()
	if os.Getenv("BENCH_PEOPLE") == "" {
		t.Skip("make bench-people runs this measurement")
	}
}

// Beside prints a measured figure beside its bound, and fails the test where it is above.
func Beside(t *testing.T, what string, have, bound float64, unit string) {
	t.Helper()
	line := fmt.Sprintf("%s: %.3g %s, bound %.3g %s", what, have, unit, bound, unit)
	if have > bound {
		t.Error(line + ": too much")
		return
	}
	t.Log(line + ": holds")
}
