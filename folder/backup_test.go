package folder

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/wire"
)

// folderWith makes a data folder with a few files, and one of each kind that stays out of backups.
func folderWith(t testing.TB) (Folder, wire.Hash) {
	t.Helper()
	f, run := Folder{Dir: t.TempDir()}, wire.HashLeaf([]byte("run"))
	if err := f.Save(run, &wire.SignedSpec{Spec: []byte{}}, []byte("the secret")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"identity.key": "key", "lock": "1", "page": "http", "orders/a.order": "x", "runs/" + run.String() + "/store/tmp/half": "x",
		"runs/" + run.String() + "/store/blobs/ab/cdef": "bytes", "runs/" + run.String() + "/.ledger.db-1": "x", "empty": "",
	} {
		path := filepath.Join(f.Dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f, run
}

func backUp(t testing.TB, f Folder) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, _, err := f.Backup(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBackupComesBack(t *testing.T) {
	f, run := folderWith(t)
	dir := filepath.Join(t.TempDir(), "new", "folder")
	got, files, err := Restore(bytes.NewReader(backUp(t, f)), dir)
	if err != nil || got != run || files != 6 {
		t.Fatalf("run %s, %d files, %v", got.Short(), files, err)
	}
	again := Folder{Dir: dir}
	if secret, err := again.Secret(run); err != nil || string(secret) != "the secret" {
		t.Errorf("secret %q, %v", secret, err)
	}
	if run, err := again.Current(); err != nil || run != got {
		t.Errorf("current %v, %v", run, err)
	}
	for _, name := range []string{"lock", "page", "orders"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s came along", name)
		}
	}
	if info, err := os.Stat(again.Identity()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info, err)
	}
	if _, _, err := Restore(bytes.NewReader(backUp(t, f)), dir); err == nil || !strings.Contains(err.Error(), "holds files") {
		t.Errorf("restored over a folder in use: %v", err)
	}
}

func TestDamagedBackupsAreRefusedWhole(t *testing.T) {
	f, _ := folderWith(t)
	good := backUp(t, f)
	flipped := bytes.Replace(good, []byte("the secret"), []byte("the sekret"), 1)
	evil := func(name string, kind byte) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Linkname: "/etc/passwd", Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		w.Close()
		return b.Bytes()
	}
	for name, b := range map[string][]byte{
		"flipped": flipped, "cut": good[:len(good)/2], "short": good[:len(good)-2048], "empty": nil, "text": []byte(strings.Repeat("no tar ", 1000)),
		"outside": evil("../evil", tar.TypeReg), "absolute": evil("/evil", tar.TypeReg), "link": evil("link", tar.TypeSymlink), "odd": evil("a/../b", tar.TypeReg),
	} {
		dir := filepath.Join(t.TempDir(), "folder")
		if _, _, err := Restore(bytes.NewReader(b), dir); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
			t.Errorf("%s leaves %v behind", name, left)
		}
	}
}

func TestNoRunNoBackup(t *testing.T) {
	if _, _, err := (Folder{Dir: t.TempDir()}).Backup(&bytes.Buffer{}); !errors.Is(err, ErrNoRun) {
		t.Error(err)
	}
}

func FuzzRestore(f *testing.F) {
	home, _ := folderWith(f)
	f.Add(backUp(f, home))
	f.Add([]byte("text"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := filepath.Join(t.TempDir(), "in", "folder")
		if _, _, err := Restore(bytes.NewReader(b), dir); err != nil {
			if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
				t.Errorf("%v, and %v is left", err, left)
			}
		}
	})
}
