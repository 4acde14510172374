package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// EndOfText is the token that follows each file of a corpus. Byte 0 does not
// occur in text, so it is also the natural start of a sample.
const EndOfText byte = 0

// Bounds of a corpus, in bytes.
const (
	MinBytes = 4 << 10   // below this nothing can be held out sensibly
	MaxBytes = 512 << 20 // everything is held in memory
)

// Corpus is text as tokens, split into what is trained on and what is held out.
type Corpus struct {
	Train   []byte // packed
	HeldOut []byte
	// Tokenizer is what the tokens are of, nil where they are the text's bytes; Width
	// is the bytes that one takes in Train and HeldOut, 1 where it is zero.
	Tokenizer Tokenizer
	Width     int
	Files     int // files read into either part
	// Description says for people what was read and how it was split.
	Description string
}

// Open reads text and splits it. Path is a file, a folder (every text file
// below it; hidden and binary files are left out) or a glob of files; the
// empty path means GoSource. About a tenth is held out. The same files give
// the same tokens on every machine.
//
// It fails, naming the file and the mend, when the input is missing, empty,
// binary, unreadable, smaller than MinBytes or larger than MaxBytes.
func Open(path string) (*Corpus, error) { return openText(path, "") }

// openText is Open without the folder apart, see listFolder.
func openText(path, apart string) (*Corpus, error) {
	if path == "" {
		return GoSource()
	}
	if Prepared(path) {
		return nil, fmt.Errorf("open text %s: it is a prepared folder, and text is needed here", path)
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return openFolder(path, apart)
	case err == nil:
		return openFile(path)
	case strings.ContainsAny(path, "*?["):
		return openGlob(path)
	}
	return nil, fmt.Errorf("open text: %w: give a file, a folder or a glob that exists", err)
}

func openFile(path string) (*Corpus, error) {
	text, err := readText(path, MaxBytes)
	if err != nil {
		return nil, err
	}
	if len(text) < MinBytes {
		return nil, errTooSmall(path, len(text))
	}
	c := &Corpus{Files: 1}
	c.Train, c.HeldOut = splitByBlock(text)
	c.describe(filepath.Base(path), "block")
	return c, nil
}

func openFolder(root, apart string) (*Corpus, error) {
	files, err := listFolder(root, apart, func(string) bool { return true })
	if err != nil {
		return nil, err
	}
	return join(root, files, skipBinary, nil)
}

func openGlob(pattern string) (*Corpus, error) {
	matches, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("open text %s: %w: quote special characters with a backslash", pattern, err)
	}
	root := globRoot(pattern)
	var files []file
	for _, m := range matches {
		info, err := os.Stat(m)
		if err != nil {
			return nil, fmt.Errorf("open text: %w", err)
		}
		if !info.Mode().IsRegular() {
			continue
		}
		rel, err := filepath.Rel(root, m)
		if err != nil {
			return nil, fmt.Errorf("open text %s: %w", m, err)
		}
		files = append(files, file{path: m, rel: filepath.ToSlash(rel), size: info.Size()})
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("open text: no file matches %s: check the pattern (** is not supported; name the folder instead)", pattern)
	}
	sortFiles(files)
	return join(pattern, files, refuseBinary, nil)
}

// globRoot is the folder above the first path element with a wildcard; the
// split hashes directories relative to it.
func globRoot(pattern string) string {
	dir := filepath.Dir(pattern)
	for strings.ContainsAny(dir, "*?[") {
		dir = filepath.Dir(dir)
	}
	return dir
}

// onBinary says what join does with a file that is not text.
type onBinary int

const (
	skipBinary   onBinary = iota // a folder holds all sorts of files
	refuseBinary                 // the person named this file
)

// join reads files (sorted by path) and splits them by directory. Keep, when
// given, drops files by their content.
func join(name string, files []file, binary onBinary, keep func(text []byte) bool) (*Corpus, error) {
	c := &Corpus{}
	var text []byte     // all files, each with its EndOfText
	var spans []dirSpan // the stretch of text that each file takes
	var skipped error   // why the first file was left out
	for _, f := range files {
		if f.size == 0 {
			continue
		}
		body, err := readText(f.path, MaxBytes-len(text))
		if isBinary(err) && binary == skipBinary {
			if skipped == nil {
				skipped = err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if keep != nil && !keep(body) {
			continue
		}
		start := len(text)
		text = append(append(text, body...), EndOfText)
		spans = append(spans, dirSpan{dir: f.dir(), from: start, to: len(text)})
		c.Files++
	}
	switch {
	case c.Files == 0 && skipped != nil:
		return nil, fmt.Errorf("no text in %s: %w", name, skipped)
	case c.Files == 0:
		return nil, fmt.Errorf("no text in %s: it holds no file with content; name a folder of text files", name)
	case len(text) < MinBytes:
		return nil, errTooSmall(name, len(text))
	}
	by := "directory"
	var ok bool
	if c.Train, c.HeldOut, ok = splitByDirectory(text, spans); !ok {
		by = "block" // too few directories for a sensible share
		c.Train, c.HeldOut = splitByBlock(text)
	}
	c.describe(name, by)
	return c, nil
}

func (c *Corpus) describe(name, by string) {
	total := len(c.Train) + len(c.HeldOut)
	unit := "files"
	if c.Files == 1 {
		unit = "file"
	}
	c.Description = fmt.Sprintf("%s: %d %s, %.1f MB, %.0f %% held out by %s", name, c.Files, unit,
		float64(total)/1e6, 100*float64(len(c.HeldOut))/float64(total), by)
}

func errTooSmall(name string, n int) error {
	return fmt.Errorf("%s holds %d bytes of text, at least %d are needed: add text", name, n, MinBytes)
}

func sortFiles(files []file) {
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.rel, b.rel) })
}
