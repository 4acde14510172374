package data

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/store"
)

// write makes a file below dir and returns its path.
func write(t testing.TB, dir, rel string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(rel))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// prose is n bytes of text that differ by name.
func prose(name string, n int) []byte {
	return bytes.Repeat([]byte("The words of "+name+".\n"), n/(15+len(name))+1)[:n]
}

// library is a folder of 60 directories with two files each.
func library(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 60 {
		for _, f := range []string{"a.txt", "b.txt"} {
			rel := fmt.Sprintf("d%02d/%s", i, f)
			write(t, dir, rel, prose(rel, 500))
		}
	}
	return dir
}

func mustOpen(t *testing.T, path string) *Corpus {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFolderIsSplitByDirectory(t *testing.T) {
	c := mustOpen(t, library(t))
	if c.Files != 120 || len(c.Train)+len(c.HeldOut) != 120*501 {
		t.Fatalf("%d files, %d and %d tokens", c.Files, len(c.Train), len(c.HeldOut))
	}
	if share := float64(len(c.HeldOut)) / (120 * 501); share < 0.03 || share > 0.25 {
		t.Fatalf("%.2f of the text is held out", share)
	}
	for i := range 60 { // both files of a directory stand on one side
		var sides [2][2]bool
		for k, f := range []string{"a.txt", "b.txt"} {
			name := []byte(fmt.Sprintf("The words of d%02d/%s.", i, f))
			sides[k] = [2]bool{bytes.Contains(c.Train, name), bytes.Contains(c.HeldOut, name)}
		}
		if sides[0] != sides[1] || sides[0][0] == sides[0][1] {
			t.Fatalf("directory %d: train and held-out %v", i, sides)
		}
	}
	if !strings.Contains(c.Description, "120 files") || !strings.Contains(c.Description, "directory") {
		t.Fatalf("description %q", c.Description)
	}
}

// The same files below another root, read again, give the same tokens: a run's
// shards are named by their content.
func TestSplitDoesNotDependOnTheRoot(t *testing.T) {
	a, b := mustOpen(t, library(t)), mustOpen(t, library(t))
	if !bytes.Equal(a.Train, b.Train) || !bytes.Equal(a.HeldOut, b.HeldOut) {
		t.Fatal("the split depends on where the folder lies")
	}
	// Golden: another split silently changes every baseline and every run.
	const want = "00464caed5941735"
	if got := store.HashLeaf(a.HeldOut); hex.EncodeToString(got[:8]) != want {
		t.Fatalf("the split by directory has changed: %x, %d tokens", got[:8], len(a.HeldOut))
	}
}

func TestFilesAreJoinedInPathOrderWithEndOfText(t *testing.T) {
	dir := t.TempDir()
	// "a-b" sorts before "a/": the order is that of whole paths.
	write(t, dir, "a/one.txt", prose("one", 3000))
	write(t, dir, "a-b/two.txt", prose("two", 3000))
	files, err := listFolder(dir, "", func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 || files[0].rel != "a-b/two.txt" {
		t.Fatalf("order %+v", files)
	}
	c := mustOpen(t, dir)
	if n := bytes.Count(c.Train, []byte{EndOfText}) + bytes.Count(c.HeldOut, []byte{EndOfText}); n != 2 {
		t.Fatalf("%d ends of text, want 2", n)
	}
}

func TestOneFileIsSplitByBlock(t *testing.T) {
	for _, size := range []int{MinBytes, 5000, 100_000, 1_000_003} {
		path := write(t, t.TempDir(), "text.txt", prose("one", size))
		c := mustOpen(t, path)
		if len(c.Train)+len(c.HeldOut) != size {
			t.Fatalf("%d bytes became %d", size, len(c.Train)+len(c.HeldOut))
		}
		if share := float64(len(c.HeldOut)) / float64(size); share < 0.05 || share > 0.13 {
			t.Errorf("%d bytes: %.3f held out", size, share)
		}
		if got := store.HashLeaf(c.HeldOut); size == 5000 && hex.EncodeToString(got[:8]) != "24d0cc1076ae8042" {
			t.Errorf("the split by block has changed: %x", got[:8])
		}
		again := mustOpen(t, path)
		if !bytes.Equal(c.HeldOut, again.HeldOut) {
			t.Fatal("two readings differ")
		}
	}
}

func TestFolderOfOneDirectoryFallsBackToBlocks(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.txt", prose("a", 10_000))
	write(t, dir, "b.txt", prose("b", 10_000))
	c := mustOpen(t, dir)
	if len(c.HeldOut) == 0 || !strings.Contains(c.Description, "by block") {
		t.Fatalf("%d held out, %q", len(c.HeldOut), c.Description)
	}
}

func TestFolderLeavesOutBinaryHiddenAndEmptyFiles(t *testing.T) {
	dir := library(t)
	want := mustOpen(t, dir)
	write(t, dir, "d00/picture.png", []byte("\x89PNG\x00\x00"))
	write(t, dir, "d00/latin.bin", bytes.Repeat([]byte{0xe4, 0xf6}, 100))
	write(t, dir, "d00/empty.txt", nil)
	write(t, dir, ".git/config", prose("git", 100))
	write(t, dir, "d01/.hidden", prose("hidden", 100))
	got := mustOpen(t, dir)
	if !bytes.Equal(got.Train, want.Train) || !bytes.Equal(got.HeldOut, want.HeldOut) {
		t.Fatal("something that is not text came in")
	}
}

func TestGlob(t *testing.T) {
	dir := library(t)
	c := mustOpen(t, filepath.Join(dir, "*", "a.txt"))
	if c.Files != 60 || bytes.Contains(c.Train, []byte("/b.txt.")) {
		t.Fatalf("%d files", c.Files)
	}
	whole := mustOpen(t, dir)
	if bytes.Contains(c.HeldOut, []byte("d00/")) != bytes.Contains(whole.HeldOut, []byte("d00/")) {
		t.Fatal("a directory changes sides between the glob and the folder")
	}
}

// Each bad input has an error that names it and says what to do.
func TestBadInputIsNamed(t *testing.T) {
	dir := t.TempDir()
	utf16 := write(t, dir, "utf16.txt", []byte("h\x00e\x00l\x00l\x00o\x00"))
	latin := write(t, dir, "noise.txt", bytes.Repeat([]byte{0xff, 'a'}, 4000))
	empty := write(t, dir, "empty.txt", nil)
	small := write(t, dir, "small.txt", prose("small", MinBytes-1))
	binaries := filepath.Dir(write(t, dir, "bin/x.bin", []byte{1, 0, 2}))
	hollow := filepath.Join(dir, "hollow")
	if err := os.Mkdir(hollow, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want []string
	}{
		{filepath.Join(dir, "none"), []string{"none", "exists"}},
		{filepath.Join(dir, "*.md"), []string{"*.md", "no file matches"}},
		{filepath.Join(dir, "[x-"), []string{"[x-", "syntax error"}},
		{utf16, []string{"utf16.txt", "NUL", "convert it to UTF-8"}},
		{latin, []string{"noise.txt", "4000 of 8000", "UTF-8"}},
		{empty, []string{"empty.txt is empty"}},
		{small, []string{"small.txt", "4095 bytes", "4096"}},
		{binaries, []string{"no text in", "x.bin", "NUL"}},
		{hollow, []string{"no text in", "hollow"}},
		{filepath.Join(dir, "utf*.txt"), []string{"utf16.txt", "NUL"}},
	} {
		_, err := Open(c.path)
		if err == nil {
			t.Errorf("%s was accepted", c.path)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", c.path, err, w)
			}
		}
	}
}

func TestUnreadableFileIsNamed(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads everything")
	}
	path := write(t, t.TempDir(), "secret.txt", prose("s", 5000))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "secret.txt") {
		t.Fatal(err)
	}
}

func TestTextIsBounded(t *testing.T) {
	path := write(t, t.TempDir(), "big.txt", prose("big", 20_000))
	if _, err := readText(path, 19_999); err == nil || !strings.Contains(err.Error(), "big.txt") {
		t.Fatal(err)
	}
	if text, err := readText(path, 20_000); err != nil || len(text) != 20_000 {
		t.Fatal(len(text), err)
	}
}

func TestGoSourceLeavesOut(t *testing.T) {
	root := t.TempDir()
	write(t, root, "VERSION", []byte("go9.9\ntime 2030\n"))
	for i := range 30 {
		write(t, root, fmt.Sprintf("src/p%02d/x.go", i), append([]byte("package p\n"), prose("kept", 300)...))
	}
	write(t, root, "src/p00/x_test.go", prose("dropped", 300))
	write(t, root, "src/p00/readme.md", prose("dropped", 300))
	write(t, root, "src/p00/testdata/x.go", prose("dropped", 300))
	write(t, root, "src/vendor/x.go", prose("dropped", 300))
	write(t, root, "src/p00/gen.go", append([]byte("// Licence\n\n// Code generated by x. DO NOT EDIT.\n\npackage p\n"), prose("dropped", 300)...))
	write(t, root, "src/p00/big.go", prose("dropped", maxGoFile+1))
	write(t, root, "src/p01/says.go", append([]byte("package p\n// Code generated by x. DO NOT EDIT.\n"), prose("kept", 300)...))
	c, err := goSourceAt(root)
	if err != nil {
		t.Fatal(err)
	}
	if c.Files != 31 || bytes.Contains(c.Train, []byte("dropped")) || bytes.Contains(c.HeldOut, []byte("dropped")) {
		t.Fatalf("%d files", c.Files)
	}
	if !strings.Contains(c.Description, "go9.9") {
		t.Fatalf("description %q", c.Description)
	}
}

func TestGoSourceOfThisMachine(t *testing.T) {
	c, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Train) < 10<<20 || len(c.HeldOut) < 1<<20 {
		t.Fatalf("%s: too little", c.Description)
	}
}

func TestGoRootIsFoundOrMissed(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "src"), 0o700); err != nil {
		t.Fatal(err)
	}
	none := func(string) string { return "" }
	set := func(string) string { return root }
	ask := func() (string, error) { return root, nil }
	fail := func() (string, error) { return "", errors.New("no go command") }
	if got, err := goRoot(set, fail); err != nil || got != root {
		t.Fatal(got, err)
	}
	if got, err := goRoot(none, ask); err != nil || got != root {
		t.Fatal(got, err)
	}
	if _, err := goRoot(none, fail); err == nil || !strings.Contains(err.Error(), "install Go") {
		t.Fatal(err)
	}
	if _, err := goRoot(func(string) string { return "/nowhere" }, ask); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Fatal(err)
	}
}
