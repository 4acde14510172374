package data

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// file is one candidate of a corpus.
type file struct {
	path string // as the operating system knows it
	rel  string // relative to the corpus' root, with slashes
	size int64
}

func (f file) dir() string { return path.Dir(f.rel) }

// listFolder lists the regular files below root that want accepts (by slash
// path relative to root), sorted by path. Hidden files and folders are left out, and the folder apart ("" for
// none), which is written to while the others are read: with it the same call would find other files next time.
func listFolder(root, apart string, want func(rel string) bool) ([]file, error) {
	real, err := filepath.EvalSymlinks(root) // WalkDir does not follow a link at its root
	if err != nil {
		return nil, fmt.Errorf("open text: %w", err)
	}
	written, _ := os.Stat(apart) // what does not exist holds nothing
	same := func(e fs.FileInfo) bool { return written != nil && os.SameFile(written, e) }
	if info, err := os.Stat(real); err == nil && same(info) {
		return nil, fmt.Errorf("folder %s is read and written to: name another folder to write to", root)
	}
	var files []file
	err = filepath.WalkDir(real, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read folder: %w: make it readable or name another", err)
		}
		if p == real {
			return nil
		}
		rel, err := filepath.Rel(real, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		hidden := strings.HasPrefix(e.Name(), ".")
		if e.IsDir() {
			if hidden || !want(rel+"/") {
				return filepath.SkipDir
			}
			if info, err := e.Info(); err == nil && same(info) {
				return filepath.SkipDir
			}
			return nil
		}
		if hidden || !e.Type().IsRegular() || !want(rel) {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("read folder: %w", err)
		}
		files = append(files, file{path: p, rel: rel, size: info.Size()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	sortFiles(files)
	return files, nil
}

// errBinary marks a file that is not text.
var errBinary = errors.New("not text")

func isBinary(err error) bool { return errors.Is(err, errBinary) }

// ReadFile reads one whole text file, nothing held out, with the checks of Open
// but for the least size: what a model is evaluated on.
func ReadFile(path string) ([]byte, error) { return readText(path, MaxBytes) }

// readText reads a file of at most limit bytes and checks that it is text.
func readText(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read text: %w: make the file readable or leave it out", err)
	}
	defer f.Close()
	// Read from the file and not by its size, since a growing file lies; and look
	// at the start first, since a film in the folder need not be read to its end.
	in := io.LimitReader(f, int64(limit)+1)
	text, err := io.ReadAll(io.LimitReader(in, 8<<10))
	if err == nil && bytes.IndexByte(text, 0) < 0 {
		var rest []byte
		rest, err = io.ReadAll(in)
		text = append(text, rest...)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read text: %w", err)
	case len(text) > limit:
		return nil, fmt.Errorf("read %s: more than %d MiB of text in all: name a part of it", path, MaxBytes>>20)
	case len(text) == 0:
		return nil, fmt.Errorf("%s is empty: name a file with text", path)
	}
	if err := checkText(text); err != nil {
		return nil, fmt.Errorf("%s is %w: convert it to UTF-8 text or leave it out", path, err)
	}
	return text, nil
}

// checkText refuses bytes that are not text: a NUL, which also stands for
// EndOfText, or more than a tenth of invalid UTF-8 (single bytes of an older
// encoding are let through).
func checkText(text []byte) error {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return fmt.Errorf("%w: byte %d is NUL", errBinary, i)
	}
	if utf8.Valid(text) {
		return nil
	}
	bad := 0
	for rest := text; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 {
			bad++
		}
		rest = rest[n:]
	}
	if bad*10 > len(text) {
		return fmt.Errorf("%w: %d of %d bytes are not UTF-8", errBinary, bad, len(text))
	}
	return nil
}
