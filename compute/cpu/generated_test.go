package cpu

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGeneratedIsCurrent runs the generator and compares what it writes with the committed files. If it fails, run
// "go generate ./compute/cpu ./compress ./replica".
func TestGeneratedIsCurrent(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the generator needs the go command")
	}
	for name, committed := range map[string]string{"cpu": ".", "compress": "../../compress", "replica": "../../replica"} {
		folder := t.TempDir()
		run := exec.Command("go", "run", "-C", "_asm", ".", name, folder)
		// The generator runs here, whatever the tests are built for.
		run.Env = append(os.Environ(), "GOOS=", "GOARCH=", "GOFLAGS=", "GOWORK=off")
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("generate %s: %v\n%s", name, err, out)
		}
		files, err := os.ReadDir(folder)
		if err != nil || len(files) < 2 {
			t.Fatalf("generate %s: %d files, %v", name, len(files), err)
		}
		for _, f := range files {
			want, err := os.ReadFile(filepath.Join(folder, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(committed, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s of %s is not what the generator writes", f.Name(), name)
			}
		}
	}
}
