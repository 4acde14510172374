package data

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Formats lists the names of the formats that text is read from; auto goes by
// the name of each file.
func Formats() []string { return []string{"auto", "text", "jsonl", "parquet"} }

const (
	formatAuto    = "auto"
	formatText    = "text"
	formatJSONL   = "jsonl"
	formatParquet = "parquet"
)

// input is one file of documents.
type input struct {
	path     string
	format   string // text, jsonl or parquet
	size     int64  // on disk
	modified time.Time
}

// listInputs finds the files that paths name: files, folders (every file below,
// but for hidden ones, those of another format and those in the folder apart, see
// listFolder) and globs, in this order.
func listInputs(paths []string, format, apart string) ([]input, error) {
	var all []input
	for _, p := range paths {
		found, err := listInput(p, format, apart)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, errors.New("no input: name files, folders or quoted globs of text, JSON lines or Parquet")
	}
	return all, nil
}

func listInput(path, format, apart string) ([]input, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return listInputFolder(path, format, apart)
	case err == nil:
		in, err := newInput(path, format)
		return []input{in}, err
	case !strings.ContainsAny(path, "*?["):
		return nil, fmt.Errorf("open input: %w: give a file, a folder or a glob that exists", err)
	}
	matches, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("open input %s: %w: quote special characters with a backslash", path, err)
	}
	var found []input
	for _, m := range matches {
		if info, err := os.Stat(m); err == nil && info.IsDir() {
			continue
		}
		in, err := newInput(m, format)
		if err != nil {
			return nil, err
		}
		found = append(found, in)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("open input: no file matches %s: check the pattern (** is not supported; name the folder instead)", path)
	}
	return found, nil
}

func listInputFolder(root, format, apart string) ([]input, error) {
	files, err := listFolder(root, apart, func(string) bool { return true })
	if err != nil {
		return nil, err
	}
	var found []input
	for _, f := range files {
		of := formatOf(f.path)
		if f.size == 0 || format != formatAuto && format != of {
			continue
		}
		if of == formatText {
			// A folder holds all sorts of files; one that was named must be text.
			if ok, err := looksLikeText(f.path); err != nil || !ok {
				if err != nil {
					return nil, err
				}
				continue
			}
		}
		in, err := newInput(f.path, of)
		if err != nil {
			return nil, err
		}
		found = append(found, in)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("open input: folder %s holds no file of format %s", root, format)
	}
	return found, nil
}

func newInput(path, format string) (input, error) {
	info, err := os.Stat(path)
	if err != nil {
		return input{}, fmt.Errorf("open input: %w", err)
	}
	if !info.Mode().IsRegular() {
		return input{}, fmt.Errorf("open input: %s is not a regular file: it could not be read again to resume", path)
	}
	if format == formatAuto {
		format = formatOf(path)
	}
	return input{path: path, format: format, size: info.Size(), modified: info.ModTime()}, nil
}

// formatOf goes by the file's name, without the ending of a compression.
func formatOf(path string) string {
	name := strings.ToLower(filepath.Base(path))
	for _, ending := range []string{".gz", ".zst", ".zstd"} {
		name = strings.TrimSuffix(name, ending)
	}
	switch filepath.Ext(name) {
	case ".jsonl", ".ndjson", ".json":
		return formatJSONL
	case ".parquet", ".pq":
		return formatParquet
	}
	return formatText
}

func looksLikeText(path string) (bool, error) {
	s, err := openStream(path)
	if err != nil {
		return false, err
	}
	defer s.Close()
	start, err := s.Peek(4 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return bytes.IndexByte(start, 0) < 0, nil
}

// stream is a file that is decompressed while it is read.
type stream struct {
	*bufio.Reader
	file       *os.File
	read       *counter // bytes on disk
	decompress func()   // frees the decoder; nil without compression
}

// counter counts what is read through it.
type counter struct {
	in io.Reader
	n  int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// maxZstdWindow bounds what a zstd file makes the decoder hold, in bytes.
const maxZstdWindow = 128 << 20

const readSize = 64 << 10

// openStream opens a file; gzip and zstd are told by their first bytes.
func openStream(path string) (*stream, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open input: %w", err)
	}
	s := &stream{file: f, read: &counter{in: f}}
	s.Reader = bufio.NewReaderSize(s.read, readSize)
	if err := s.unpack(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	return s, nil
}

func (s *stream) unpack() error {
	start, err := s.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(s.Reader)
		if err != nil {
			return err
		}
		s.Reader = bufio.NewReaderSize(z, readSize)
		s.decompress = func() { _ = z.Close() } // it only reads
	case bytes.Equal(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(s.Reader, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return err
		}
		s.Reader = bufio.NewReaderSize(z, readSize)
		s.decompress = z.Close
	}
	return nil
}

// skip goes to a place in the decompressed bytes, from the start.
func (s *stream) skip(offset int64) error {
	if s.decompress == nil {
		if _, err := s.file.Seek(offset, io.SeekStart); err != nil {
			return err
		}
		s.read.n = offset
		s.Reset(s.read)
		return nil
	}
	_, err := io.CopyN(io.Discard, s.Reader, offset)
	return err
}

// Close closes the file.
func (s *stream) Close() error {
	if s.decompress != nil {
		s.decompress()
	}
	return s.file.Close()
}
