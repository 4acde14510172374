package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Manifest is manifest.json, which says what a prepared folder holds. It is
// written last: a folder without it is not whole.
type Manifest struct {
	Format    int           `json:"format"` // 1
	Tokenizer TokenizerSpec `json:"tokenizer"`
	Dtype     string        `json:"dtype"` // uint16 or uint32, little-endian
	Train     Split         `json:"train"`
	HeldOut   Split         `json:"held_out"`
	// Settings is everything that the bytes of the folder depend on.
	Settings map[string]string `json:"settings"`
}

// TokenizerSpec says which tokenizer the tokens are of.
type TokenizerSpec struct {
	Kind      string `json:"kind"`             // byte, or bpe with tokenizer.json in the folder
	SHA256    string `json:"sha256,omitempty"` // of tokenizer.json
	Vocab     int    `json:"vocab"`            // tokens are below it
	EndOfText int32  `json:"end_of_text"`      // follows each document
}

// Split is what is trained on or what is held out: files of tokens one after the
// other.
type Split struct {
	Tokens    int64       `json:"tokens"`
	Documents int64       `json:"documents"` // as many as tokens of the end of a text
	Bytes     int64       `json:"bytes"`     // of text
	Files     []TokenFile `json:"files"`
}

// TokenFile is one file of tokens, without a header.
type TokenFile struct {
	Name   string `json:"name"`
	Tokens int64  `json:"tokens"`
	SHA256 string `json:"sha256"`
}

const (
	manifestName   = "manifest.json"
	unfinishedName = "unfinished.json" // instead of the manifest until then
	manifestFormat = 1
	maxManifest    = 16 << 20
	maxTokens      = 1 << 46

	kindByte = "byte"
	kindBPE  = "bpe"
)

// Prepared reports whether path is a folder that Prepare wrote or began.
func Prepared(path string) bool {
	return exists(filepath.Join(path, manifestName)) || exists(filepath.Join(path, unfinishedName))
}

// ReadManifest reads and checks the manifest of a prepared folder.
func ReadManifest(dir string) (*Manifest, error) {
	b, err := readBounded(filepath.Join(dir, manifestName), maxManifest)
	switch {
	case errors.Is(err, os.ErrNotExist) && exists(filepath.Join(dir, unfinishedName)):
		return nil, fmt.Errorf("open data %s: it is not whole: give `dunlin data prepare` once more, it goes on", dir)
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("open data %s: it has no %s: make it with `dunlin data prepare`", dir, manifestName)
	case err != nil:
		return nil, fmt.Errorf("open data: %w", err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("open data %s: %s: %w", dir, manifestName, err)
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("open data %s: %s: %w", dir, manifestName, err)
	}
	return m, nil
}

// Validate says what is wrong with a manifest.
func (m *Manifest) Validate() error {
	t := m.Tokenizer
	switch {
	case m.Format != manifestFormat:
		return fmt.Errorf("format %d, this program reads %d: use the release that wrote it", m.Format, manifestFormat)
	case t.Vocab < 2 || t.Vocab > MaxVocabulary:
		return fmt.Errorf("a vocabulary of %d, allowed are 2 to %d", t.Vocab, MaxVocabulary)
	case t.EndOfText < 0 || int(t.EndOfText) >= t.Vocab:
		return fmt.Errorf("texts end with token %d of %d", t.EndOfText, t.Vocab)
	case t.Kind != kindByte && t.Kind != kindBPE:
		return fmt.Errorf("tokenizer %.20q, allowed are %s and %s", t.Kind, kindByte, kindBPE)
	case t.Kind == kindByte && (t.Vocab != Vocabulary || t.EndOfText != int32(EndOfText)):
		return fmt.Errorf("bytes have a vocabulary of %d and end with %d", Vocabulary, EndOfText)
	case m.Dtype != Uint16 && m.Dtype != Uint32:
		return fmt.Errorf("dtype %.20q, allowed are %s and %s", m.Dtype, Uint16, Uint32)
	case m.Dtype == Uint16 && t.Vocab > 1<<16:
		return fmt.Errorf("a vocabulary of %d does not fit %s", t.Vocab, m.Dtype)
	}
	return errors.Join(m.Train.validate("train"), m.HeldOut.validate("held_out"))
}

func (s *Split) validate(name string) error {
	var sum int64
	for _, f := range s.Files {
		if f.Name != filepath.Base(f.Name) || strings.ContainsAny(f.Name, `/\:`) || f.Name == "." || f.Name == ".." || f.Name == "" {
			return fmt.Errorf("%s: file %.40q is not a name in the folder", name, f.Name)
		}
		if f.Tokens < 1 || f.Tokens > maxTokens {
			return fmt.Errorf("%s: file %s of %d tokens", name, f.Name, f.Tokens)
		}
		if sum += f.Tokens; sum > maxTokens {
			return fmt.Errorf("%s: more than %d tokens", name, int64(maxTokens))
		}
	}
	if sum != s.Tokens {
		return fmt.Errorf("%s: says %d tokens, its files hold %d", name, s.Tokens, sum)
	}
	if s.Documents < 0 || s.Documents > sum || s.Bytes < 0 {
		return fmt.Errorf("%s: %d documents and %d bytes of text", name, s.Documents, s.Bytes)
	}
	return nil
}

// id is a hash over all that the tokens are.
func (m *Manifest) id() string {
	d := sha256.New()
	fmt.Fprintln(d, m.Tokenizer, m.Dtype)
	for _, s := range []Split{m.Train, m.HeldOut} {
		for _, f := range s.Files {
			fmt.Fprintln(d, f.Tokens, f.SHA256)
		}
		fmt.Fprintln(d)
	}
	return hex.EncodeToString(d.Sum(nil)[:8])
}

// openTokenizer reads the tokenizer of a prepared folder.
func (m *Manifest) openTokenizer(dir string) (Tokenizer, error) {
	if m.Tokenizer.Kind == kindByte {
		return Bytes{}, nil
	}
	path := filepath.Join(dir, TokenizerFile)
	b, err := readBounded(path, MaxTokenizerFile)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	if got := hexHash(b); got != m.Tokenizer.SHA256 {
		return nil, fmt.Errorf("open tokenizer %s: it has SHA-256 %.12s… and was written with %.12s…: it is damaged, restore it from a copy", path, got, m.Tokenizer.SHA256)
	}
	t, err := parseTokenizer(b)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer %s: %w", path, err)
	}
	if t.Vocab() != m.Tokenizer.Vocab {
		return nil, fmt.Errorf("open tokenizer %s: it has %d tokens, %s says %d", path, t.Vocab(), manifestName, m.Tokenizer.Vocab)
	}
	return t.WithEndOfText(m.Tokenizer.EndOfText)
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// check compares a token file with its record.
func (f TokenFile) check(path string, width int64) error {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open data: %w: restore it from a copy", err)
	}
	defer in.Close()
	d := sha256.New()
	n, err := io.Copy(d, in)
	if err != nil {
		return fmt.Errorf("open data: %w", err)
	}
	if n != f.Tokens*width {
		return fmt.Errorf("open data %s: it holds %d bytes and was written with %d: it is damaged, restore it from a copy", path, n, f.Tokens*width)
	}
	if got := hex.EncodeToString(d.Sum(nil)); got != f.SHA256 {
		return fmt.Errorf("open data %s: it has SHA-256 %.12s… and was written with %.12s…: it is damaged, restore it from a copy", path, got, f.SHA256)
	}
	return nil
}
