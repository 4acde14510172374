package folder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/store"
	"dunlin/wire"
)

// A damaged spec is named with its file and with what to do.
func TestDamagedSpecIsNamed(t *testing.T) {
	f, run := Folder{Dir: t.TempDir()}, wire.HashLeaf([]byte("run"))
	if err := f.Save(run, &wire.SignedSpec{Spec: []byte{}}, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(f.Run(run), "spec")
	if err := os.WriteFile(file, []byte("g"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := f.Load(run)
	if err == nil || !strings.Contains(err.Error(), file+" is damaged") || !strings.Contains(err.Error(), "restore the folder from a backup") {
		t.Error(err)
	}
}

// A damaged saved state is let go, and it is known that it was there.
func TestDamagedSavedStateIsLetGo(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(headPath(dir, 253), []byte("xxxx"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(dir, "store"), 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenRetention(dir, s)
	if err != nil || len(r.Lost) != 1 || r.Lost[0] != 253 || len(r.kept) != 0 {
		t.Errorf("lost %v, kept %v, %v", r.Lost, r.kept, err)
	}
	if _, err := os.Stat(headPath(dir, 253)); err == nil {
		t.Error("the damaged file is still there")
	}
}
