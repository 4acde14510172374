package cpu

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGeneratedIsCurrent runs the generator and compares what it writes with
// the committed files. If it fails, run "go generate ./compute/cpu".
func TestGeneratedIsCurrent(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the generator needs the go command")
	}
	folder := t.TempDir()
	run := exec.Command("go", "run", "-C", "_asm", ".", "cpu", folder)
	// The generator runs here, whatever the tests are built for.
	run.Env = append(os.Environ(), "GOOS=", "GOARCH=", "GOFLAGS=", "GOWORK=off")
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("generate: %v\n%s", err, out)
	}
	for _, name := range []string{
		"gemm_amd64.s", "gemm_stubs_amd64.go", "vector_amd64.s", "vector_stubs_amd64.go",
		"gemm_arm64.s", "gemm_stubs_arm64.go", "vector_arm64.s", "vector_stubs_arm64.go",
	} {
		want, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not what the generator writes: run go generate ./compute/cpu", name)
		}
	}
}
