package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, dir string, quota int64) *Disk {
	t.Helper()
	d, err := Open(dir, quota)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// openFiles opens a store that gives every blob a file of its own.
func openFiles(t *testing.T, dir string) *Disk {
	t.Helper()
	d, err := openDisk(dir, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReopenFindsBlobs(t *testing.T) {
	dir := t.TempDir()
	h, err := open(t, dir, 0).PutDurable([]byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, dir, 0)
	got, err := d.Get(h, 0)
	if err != nil || string(got) != "kept" {
		t.Fatalf("got %q, %v", got, err)
	}
	if u := d.Usage(); u.Blobs != 1 || u.Bytes != 4 {
		t.Fatalf("usage %+v", u)
	}
}

// A crash in mid-write leaves a temporary file. The next Open removes it, and
// it never counts as a blob.
func TestPartialTemporaryFileIsRemoved(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, 0)
	partial := filepath.Join(dir, "tmp", "blob-123")
	if err := os.WriteFile(partial, []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir, 0)
	if _, err := os.Stat(partial); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the partial file is still there: %v", err)
	}
	if u := d.Usage(); u.Blobs != 0 {
		t.Fatalf("usage %+v", u)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, 0)
	for _, name := range []string{"blobs/README", "blobs/ab", "blobs/zz/" + string(bytes.Repeat([]byte{'z'}, 64))} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("not ours"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, dir, 1)
	if u := d.Usage(); u.Blobs != 0 {
		t.Fatalf("usage %+v", u)
	}
	if _, err := d.Collect(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "blobs", "README")); err != nil {
		t.Fatal(err)
	}
}

func TestAlteredBlobIsRefusedAndRemoved(t *testing.T) {
	content := []byte("thirty-two bytes of real content")
	for name, alter := range map[string]func([]byte) []byte{
		"flipped bit": func(b []byte) []byte { b[5] ^= 1; return b },
		"truncated":   func(b []byte) []byte { return b[:10] },
		"emptied":     func([]byte) []byte { return nil },
		"grown":       func(b []byte) []byte { return append(b, 'x') },
	} {
		for _, reopened := range []bool{false, true} {
			dir := t.TempDir()
			d := openFiles(t, dir)
			h, err := d.PutDurable(content)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(d.path(h), alter(bytes.Clone(content)), 0o600); err != nil {
				t.Fatal(err)
			}
			if reopened {
				d = openFiles(t, dir)
			}
			if _, err := d.Get(h, 0); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := d.Get(h, 0); !errors.Is(err, ErrNotFound) || d.Has(h) {
				t.Fatalf("%s: the corrupt blob is still offered: %v", name, err)
			}
			if _, err := d.Put(content); err != nil {
				t.Fatalf("%s: put again: %v", name, err)
			}
			if got, err := d.Get(h, 0); err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%s: after repair: %v", name, err)
			}
		}
	}
}

// After a crash of the machine a blob that was never flushed may be empty.
// Putting its bytes again must write them, or "durable" would be a lie.
func TestPutRepairsBlobLeftBrokenByACrash(t *testing.T) {
	dir := t.TempDir()
	content := []byte("content")
	d := openFiles(t, dir)
	h := mustPut(t, d, content)
	if err := os.Truncate(d.path(h), 0); err != nil {
		t.Fatal(err)
	}
	d = openFiles(t, dir)
	if _, err := d.PutDurable(content); err != nil {
		t.Fatal(err)
	}
	got, err := d.Get(h, 0)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("got %q, %v", got, err)
	}
	if u := d.Usage(); u.Bytes != int64(len(content)) {
		t.Fatalf("usage %+v", u)
	}
}

func TestSyncFlushesEachBlobOnce(t *testing.T) {
	d := openFiles(t, t.TempDir())
	h := mustPut(t, d, []byte("a"))
	mustPut(t, d, []byte("b"))
	if len(d.pending) != 2 {
		t.Fatalf("%d blobs wait for a flush, want 2", len(d.pending))
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	mustPut(t, d, []byte("a"))
	if len(d.pending) != 0 || !d.idx.blobs[h].durable {
		t.Fatalf("%d blobs wait after Sync", len(d.pending))
	}
}

func TestBlobDeletedByHandIsNotFound(t *testing.T) {
	d := openFiles(t, t.TempDir())
	h := mustPut(t, d, []byte("gone"))
	if err := os.Remove(d.path(h)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(h, 0); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Fatalf("sync after a blob went: %v", err)
	}
}

func TestOpenSaysWhatIsInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, 0); err == nil {
		t.Fatal("a file was opened as a store")
	}
}

// FuzzOpen puts arbitrary bytes where a blob should be: Get gives back exactly
// the content of that name or refuses.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("content"))
	f.Add([]byte{})
	f.Add([]byte("contenu"))
	f.Fuzz(func(t *testing.T, onDisk []byte) {
		dir := t.TempDir()
		h := HashLeaf([]byte("content"))
		path := (&Disk{root: dir}).path(h)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, onDisk, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Get(h, 0)
		if err == nil && string(got) != "content" {
			t.Fatalf("handed out %q under the wrong name", got)
		}
		if err != nil && string(onDisk) == "content" {
			t.Fatalf("refused the right bytes: %v", err)
		}
	})
}

func TestWriteFileReplacesWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "head")
	for _, content := range []string{"first, the longer one", "second"} {
		if err := WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d files are left, %v", len(entries), err)
	}
	if err := WriteFile(filepath.Join(dir, "none", "head"), nil, 0o600); err == nil {
		t.Fatal("wrote into a folder that is not there")
	}
}
