package folder

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dunlin/wire"
)

// What is frozen stays as it was while the folder goes on, and a backup of it comes back.
func TestFreeze(t *testing.T) {
	f, run := folderWith(t)
	here := func(name string) string { return filepath.Join(f.Run(run), filepath.FromSlash(name)) }
	bundle := here("store/bundles/1")
	if err := errors.Join(os.MkdirAll(filepath.Dir(bundle), 0o700), os.WriteFile(bundle, []byte("batch"), 0o600), os.WriteFile(here(LedgerFile), []byte("torn"), 0o600)); err != nil {
		t.Fatal(err)
	}
	old, err := os.MkdirTemp(f.Dir, frozenPrefix+"*")
	if err != nil {
		t.Fatal(err)
	}
	yesterday := time.Now().Add(-2 * frozenFor)
	if err := os.Chtimes(old, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	frozen, err := f.Freeze(run, func(w io.Writer) error {
		// While the ledger is read, bytes of entries come, and older ones go.
		err := errors.Join(os.WriteFile(here("store/blobs/ab/new"), []byte("new"), 0o600), os.Remove(here("store/blobs/ab/cdef")))
		_, failed := io.WriteString(w, "ledger")
		return errors.Join(err, failed)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("a copy that was left behind is still there")
	}
	if err := f.Save(run, &wire.SignedSpec{Spec: []byte{}}, []byte("another secret")); err != nil { // it is replaced, not written over
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, _, err := frozen.Backup(&b); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "again")
	if _, _, err := Restore(&b, dir); err != nil {
		t.Fatal(err)
	}
	again := Folder{Dir: dir}
	for name, want := range map[string]string{
		"secret": "the secret", LedgerFile: "ledger", "store/blobs/ab/cdef": "bytes", "store/blobs/ab/new": "new", "store/bundles/1": "batch",
	} {
		if got, err := os.ReadFile(filepath.Join(again.Run(run), filepath.FromSlash(name))); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := f.Freeze(run, func(io.Writer) error { return io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(f.Dir, frozenPrefix+"*")); len(left) != 1 || left[0] != frozen.Dir {
		t.Errorf("left: %q", left)
	}
}
