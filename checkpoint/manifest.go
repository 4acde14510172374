package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// manifest is checkpoint.json: what a whole checkpoint consists of. It is
// written last into a folder that is renamed into place after it.
type manifest struct {
	Format int                   `json:"format"` // 1
	Step   uint64                `json:"step"`
	Files  map[string]fileRecord `json:"files"`
}

type fileRecord struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // lower-case hexadecimal
}

const (
	manifestFormat = 1
	maxManifest    = 64 << 10
)

func readManifest(folder string) (*manifest, error) {
	b, err := readSmall(filepath.Join(folder, manifestFile), maxManifest)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing", manifestFile)
	}
	if err != nil {
		return nil, err
	}
	m := new(manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s: %w", manifestFile, err)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("%s has format %d, this program reads %d: use the release that wrote it", manifestFile, m.Format, manifestFormat)
	}
	for _, name := range []string{modelFile, configFile} {
		if _, ok := m.Files[name]; !ok {
			return nil, fmt.Errorf("%s does not list %s", manifestFile, name)
		}
	}
	for name := range m.Files {
		if !slices.Contains(parts(), name) {
			return nil, fmt.Errorf("%s lists %.80q, which is no part of a checkpoint", manifestFile, name)
		}
	}
	return m, nil
}

// parts lists the files that a checkpoint may consist of.
func parts() []string { return []string{configFile, modelFile, tokenizerFile, trainerFile} }

// check compares every file of the folder with its record.
func (m *manifest) check(folder string) error {
	for _, name := range parts() {
		want, listed := m.Files[name]
		if !listed {
			continue
		}
		if err := want.check(filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
	}
	return nil
}

// check returns an error that reads on from the file's name.
func (want fileRecord) check(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("is missing: restore it from a copy")
	}
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	d := sha256.New()
	n, err := io.Copy(d, f)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if n != want.Bytes {
		return fmt.Errorf("holds %d bytes and was written with %d: it is damaged, restore it from a copy", n, want.Bytes)
	}
	if got := hex.EncodeToString(d.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("has SHA-256 %.12s… and was written with %.12s…: it is damaged, restore it from a copy", got, want.SHA256)
	}
	return nil
}
