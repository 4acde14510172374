package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dunlin/compute"
)

// Universal is an open universal checkpoint: a folder with one content-addressed
// blob for each parameter and kind of value, whoever wrote them and however the
// model was divided among them, so that any number of readers can each take what
// it needs (Universal Checkpointing, arXiv 2406.18820).
type Universal struct {
	Step  uint64
	Blobs []Blob // in the order of kind and parameter
	dir   string
	index map[blobKey]int
}

// Kinds of values that a Checkpoint has; others are free to choose.
const (
	KindWeights   = "weights"
	KindCounters  = "counters"  // of the trainer, JSON
	KindConfig    = "config"    // config.json
	KindTokenizer = "tokenizer" // tokenizer.json
)

const (
	universalFile = "universal.json"
	blobFolder    = "blobs"
)

// HoldsUniversal reports whether a folder is a universal checkpoint.
func HoldsUniversal(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, universalFile))
	return err == nil
}

// OpenUniversal reads the manifest of a universal checkpoint. Blobs are read and
// checked one by one.
func OpenUniversal(dir string) (*Universal, error) {
	m, err := readBlobManifest(filepath.Join(dir, universalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open universal checkpoint %s: %w: it has no %s", dir, ErrNone, universalFile)
	}
	if err == nil {
		err = m.whole()
	}
	if err != nil {
		return nil, fmt.Errorf("open universal checkpoint %s: %s: %w", dir, universalFile, err)
	}
	u := &Universal{Step: m.Step, Blobs: m.Blobs, dir: dir, index: make(map[blobKey]int, len(m.Blobs))}
	for i, b := range m.Blobs {
		u.index[b.key()] = i
	}
	return u, nil
}

func (u *Universal) find(kind, parameter string, want blobType) (Blob, error) {
	i, ok := u.index[blobKey{kind, parameter}]
	if !ok || u.Blobs[i].Type != want {
		return Blob{}, fmt.Errorf("read universal checkpoint %s: it has no %s of %q", u.dir, kind, parameter)
	}
	return u.Blobs[i], nil
}

// Tensor reads the values of one kind that a parameter has, under its name.
func (u *Universal) Tensor(kind, parameter string) (compute.Tensor, error) {
	b, err := u.find(kind, parameter, typeValues)
	if err != nil {
		return compute.Tensor{}, err
	}
	t, err := b.tensor(u.dir)
	if err != nil {
		return t, fmt.Errorf("read universal checkpoint %s: %s of %q: %w", u.dir, kind, parameter, err)
	}
	return t, nil
}

// Portion reads the part [from, to) along an axis of what Tensor gives.
func (u *Universal) Portion(kind, parameter string, axis, from, to int) (Portion, error) {
	t, err := u.Tensor(kind, parameter)
	if err != nil {
		return Portion{}, err
	}
	part, err := cut(t, axis, from, to)
	if err != nil {
		return Portion{}, fmt.Errorf("read universal checkpoint %s: %w", u.dir, err)
	}
	return Portion{Tensor: part, Kind: kind, Axis: axis, From: from, Whole: t.Shape[axis]}, nil
}

// Bytes reads what is kept of a kind that is not numbers.
func (u *Universal) Bytes(kind string) ([]byte, error) {
	b, err := u.find(kind, "", typeBytes)
	if err != nil {
		return nil, err
	}
	content := make([]byte, b.Bytes)
	err = b.read(u.dir, func(r io.Reader) error {
		_, err := io.ReadFull(r, content)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read universal checkpoint %s: %s: %w", u.dir, kind, err)
	}
	return content, nil
}

// Checkpoint reads all of it.
func (u *Universal) Checkpoint() (*Checkpoint, error) {
	c := &Checkpoint{Step: u.Step}
	for _, b := range u.Blobs {
		if b.Type == typeBytes {
			if err := u.take(c, b.Kind); err != nil {
				return nil, err
			}
			continue
		}
		t, err := u.Tensor(b.Kind, b.Parameter)
		if err != nil {
			return nil, err
		}
		if b.Kind == KindWeights {
			c.Model = append(c.Model, t)
			continue
		}
		t.Name = strings.TrimSuffix(b.Kind+"."+b.Parameter, ".")
		c.trainer().Tensors = append(c.trainer().Tensors, t)
	}
	if len(c.Model) == 0 || checkConfig(c.Config) != nil {
		return nil, fmt.Errorf("read universal checkpoint %s: it has no weights, or no %s that can be read: it is not a whole model", u.dir, KindConfig)
	}
	return c, nil
}

// take reads a kind that is not numbers into c; kinds that c does not know stay.
func (u *Universal) take(c *Checkpoint, kind string) error {
	content, err := u.Bytes(kind)
	if err != nil {
		return err
	}
	switch kind {
	case KindConfig:
		c.Config = content
	case KindTokenizer:
		c.Tokenizer = content
	case KindCounters:
		if err := json.Unmarshal(content, &c.trainer().Meta); err != nil {
			return fmt.Errorf("read universal checkpoint %s: %s: %w", u.dir, kind, err)
		}
	}
	return nil
}

func (c *Checkpoint) trainer() *Trainer {
	if c.Trainer == nil {
		c.Trainer = new(Trainer)
	}
	return c.Trainer
}

// path is where a blob lies: blobs/ab/ab…, by its SHA-256.
func (b *Blob) path(dir string) string {
	return filepath.Join(dir, blobFolder, b.SHA256[:2], b.SHA256)
}

func (b *Blob) tensor(dir string) (compute.Tensor, error) {
	t := compute.Tensor{Name: b.Parameter, Shape: b.Shape}
	err := b.read(dir, func(r io.Reader) error {
		t.Data = make([]float32, b.Bytes/Float32.size())
		return Float32.read(r, t.Data)
	})
	return t, err
}

// read hands a blob of the right length to take, which must read all of it, and
// checks the hash afterwards.
func (b *Blob) read(dir string, take func(io.Reader) error) error {
	f, err := os.Open(b.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %.12s… is missing: restore it from a copy", b.SHA256)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != b.Bytes {
		return fmt.Errorf("blob %.12s… holds %d bytes and was written with %d: it is damaged, restore it from a copy", b.SHA256, info.Size(), b.Bytes)
	}
	d := sha256.New()
	if err := take(io.TeeReader(f, d)); err != nil {
		return err
	}
	if got := hex.EncodeToString(d.Sum(nil)); got != b.SHA256 {
		return fmt.Errorf("blob %.12s… has SHA-256 %.12s…: it is damaged, restore it from a copy", b.SHA256, got)
	}
	return nil
}
