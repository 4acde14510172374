package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"dunlin/store"
)

// Number formats of token files.
const (
	Uint16 = "uint16"
	Uint32 = "uint32"
)

// Dtypes lists the number formats of token files; auto takes the smaller one that
// the vocabulary fits.
func Dtypes() []string { return []string{"auto", Uint16, Uint32} }

// widthOf returns the bytes of a token.
func widthOf(dtype string) int64 {
	if dtype == Uint32 {
		return 4
	}
	return 2
}

// splitWriter writes the token files of one split. The file at work is called
// NAME.part until it is full or all is done.
type splitWriter struct {
	dir    string
	name   string // of the split: train or held-out
	width  int64
	most   int64 // tokens in a file
	before func(change string) error

	state splitState
	part  *os.File
	hash  hash.Hash // of the part
	buf   []byte    // not written yet
}

// splitState is where a splitWriter goes on from.
type splitState struct {
	Split Split `json:"split"` // Files are those that are finished; Tokens counts all
	Part  int64 `json:"part"`  // tokens in the file at work
}

// partEnding marks a token file that is not finished.
const partEnding = ".part"

func (w *splitWriter) fileName() string {
	return fmt.Sprintf("%s-%05d.bin", w.name, len(w.state.Split.Files))
}

// resume opens the file at work and cuts it to what state knows of it. A crash
// may have left it longer, or under its final name.
func (w *splitWriter) resume(state splitState) error {
	w.state = state
	if state.Part == 0 {
		return nil
	}
	final := filepath.Join(w.dir, w.fileName())
	path := final + partEnding
	if !exists(path) && exists(final) {
		if err := os.Rename(final, path); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	w.part, w.hash = f, sha256.New()
	length := state.Part * w.width
	n, err := io.Copy(w.hash, io.LimitReader(f, length))
	if err == nil && n != length {
		err = fmt.Errorf("%s holds %d bytes of %d", path, n, length)
	}
	if err == nil {
		err = f.Truncate(length)
	}
	return err
}

func (w *splitWriter) write(tokens []int32) error {
	for len(tokens) > 0 {
		if w.part == nil {
			if err := w.open(); err != nil {
				return err
			}
		}
		n := min(int64(len(tokens)), w.most-w.state.Part)
		for _, t := range tokens[:n] {
			if w.width == 2 {
				w.buf = binary.LittleEndian.AppendUint16(w.buf, uint16(t))
			} else {
				w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(t))
			}
		}
		tokens = tokens[n:]
		w.state.Part += n
		w.state.Split.Tokens += n
		if len(w.buf) >= 1<<20 {
			if err := w.flush(); err != nil {
				return err
			}
		}
		if w.state.Part == w.most {
			if err := w.finish(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *splitWriter) open() (err error) {
	if err := w.before("open token file"); err != nil {
		return err
	}
	w.part, err = os.Create(filepath.Join(w.dir, w.fileName()+partEnding))
	w.hash = sha256.New()
	return err
}

// flush writes the buffer out.
func (w *splitWriter) flush() error {
	if w.part == nil {
		return nil
	}
	if err := w.before("write tokens"); err != nil {
		return err
	}
	w.hash.Write(w.buf)
	_, err := w.part.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// sync makes all tokens durable.
func (w *splitWriter) sync() error {
	if w.part == nil {
		return nil
	}
	return errors.Join(w.flush(), w.part.Sync())
}

// finish gives the file at work its name.
func (w *splitWriter) finish() error {
	if w.part == nil {
		return nil
	}
	if err := w.sync(); err != nil {
		return err
	}
	if err := w.part.Close(); err != nil {
		return err
	}
	w.part = nil
	if err := w.before("name token file"); err != nil {
		return err
	}
	name := w.fileName()
	path := filepath.Join(w.dir, name)
	if err := os.Rename(path+partEnding, path); err != nil {
		return err
	}
	w.state.Split.Files = append(w.state.Split.Files, TokenFile{Name: name, Tokens: w.state.Part, SHA256: hex.EncodeToString(w.hash.Sum(nil))})
	w.state.Part = 0
	return store.SyncDir(w.dir)
}

// close gives the file at work up as it is.
func (w *splitWriter) close() error {
	if w.part == nil {
		return nil
	}
	return w.part.Close()
}
