package loadertest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Build compiles a C source with gcc, to which it passes flags, and returns the
// path of the shared library, which the test's end removes. Without a gcc the test
// is skipped.
func Build(t testing.TB, source string, flags ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to build the stand-in with")
	}
	path := filepath.Join(t.TempDir(), "stand-in.so")
	out, err := exec.Command(gcc, append(flags, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", path, source)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}
