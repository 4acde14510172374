package checkpoint

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"dunlin/compute"
)

// Blob is a line of a universal checkpoint's manifest.
type Blob struct {
	Kind      string   `json:"kind"`
	Parameter string   `json:"parameter,omitempty"` // empty for what belongs to none
	Type      blobType `json:"dtype"`
	Shape     []int    `json:"shape,omitempty"`
	fileRecord
	// In the manifest of a part only: the values are those from From on along Axis
	// of a tensor that has Whole there; Whole 0 means all.
	Axis  int `json:"axis,omitempty"`
	From  int `json:"from,omitempty"`
	Whole int `json:"whole,omitempty"`
}

// blobType says what a blob's bytes are.
type blobType string

const (
	typeValues = blobType(Float32) // little-endian, row by row
	typeBytes  = blobType("BYTES")
)

// blobKey is what no two blobs of a checkpoint share.
type blobKey struct{ kind, parameter string }

func (b *Blob) key() blobKey { return blobKey{b.Kind, b.Parameter} }

// blobManifest is universal.json, and a part's file.
type blobManifest struct {
	Format int    `json:"format"` // 1
	Step   uint64 `json:"step"`
	Blobs  []Blob `json:"blobs"`  // in the order of kind, parameter and place
	SHA256 string `json:"sha256"` // of this object as JSON without blanks, with this field empty
}

const (
	maxBlobManifest = 64 << 20
	maxBlobs        = 4 * MaxTensors
	maxKind         = 128 // bytes
)

func readBlobManifest(path string) (*blobManifest, error) {
	b, err := readSmall(path, maxBlobManifest)
	if err != nil {
		return nil, err
	}
	m, err := parseBlobManifest(b)
	if err != nil {
		return nil, err
	}
	return m, m.verify()
}

// verify refuses a manifest that is not as it was written.
func (m *blobManifest) verify() error {
	want, err := m.hash()
	if err == nil && m.SHA256 != want {
		err = fmt.Errorf("SHA-256 is %.12s… and the file says %.12s…: it is damaged, restore it from a copy", want, m.SHA256)
	}
	return err
}

func (m *blobManifest) hash() (string, error) {
	bare := *m
	bare.SHA256 = ""
	b, err := json.Marshal(bare)
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:]), err
}

// parseBlobManifest takes bytes from anywhere: what it returns names files of the
// folder only, and as many bytes as the shapes hold.
func parseBlobManifest(b []byte) (*blobManifest, error) {
	m := new(blobManifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, err
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("format %d, this program reads %d: use the release that wrote it", m.Format, manifestFormat)
	}
	if len(m.Blobs) > maxBlobs {
		return nil, fmt.Errorf("%d blobs, at most %d are allowed", len(m.Blobs), maxBlobs)
	}
	for i := range m.Blobs {
		b := &m.Blobs[i]
		if err := b.check(); err != nil {
			return nil, fmt.Errorf("%.80q of %.80q: %w", b.Kind, b.Parameter, err)
		}
		if i > 0 && compareBlobs(m.Blobs[i-1], *b) >= 0 {
			return nil, fmt.Errorf("%.80q of %.80q stands there twice or out of order", b.Kind, b.Parameter)
		}
	}
	return m, nil
}

func compareBlobs(a, b Blob) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Parameter, b.Parameter), cmp.Compare(a.From, b.From))
}

func (b *Blob) check() error {
	if b.Kind == "" || len(b.Kind) > maxKind || len(b.Parameter) > MaxName || !utf8.ValidString(b.Kind+b.Parameter) {
		return fmt.Errorf("kind of 1 to %d bytes and parameter of at most %d, both UTF-8, are allowed", maxKind, MaxName)
	}
	if raw, err := hex.DecodeString(b.SHA256); err != nil || len(raw) != 32 || strings.ToLower(b.SHA256) != b.SHA256 {
		return fmt.Errorf("SHA-256 %.80q: 64 lower-case hexadecimal digits are expected", b.SHA256)
	}
	switch b.Type {
	case typeBytes:
		if b.Shape != nil || b.Parameter != "" || b.Whole != 0 || b.From != 0 || b.Axis != 0 || b.Bytes < 0 || b.Bytes > maxTokenizer {
			return fmt.Errorf("%d bytes of no parameter and without a shape are expected, at most %d", b.Bytes, maxTokenizer)
		}
		return nil
	case typeValues:
	default:
		return fmt.Errorf("dtype %.20q: %s and %s are supported", b.Type, typeValues, typeBytes)
	}
	n, err := compute.Elements(b.Shape)
	switch {
	case err != nil:
		return err
	case len(b.Shape) > maxRank:
		return fmt.Errorf("shape of rank %d, at most %d is allowed", len(b.Shape), maxRank)
	case b.Bytes != int64(n)*Float32.size():
		return fmt.Errorf("%d bytes for shape %v, which has %d", b.Bytes, b.Shape, int64(n)*Float32.size())
	case b.Whole == 0 && (b.Axis != 0 || b.From != 0):
		return errors.New("a place, but not in what")
	case b.Whole != 0 && (b.Axis < 0 || b.Axis >= len(b.Shape) || b.From < 0 || b.Whole < 0 || b.From > b.Whole-b.Shape[b.Axis]):
		return fmt.Errorf("shape %v from %d of %d along axis %d: no such part", b.Shape, b.From, b.Whole, b.Axis)
	}
	return nil
}

// whole refuses the manifest of a part.
func (m *blobManifest) whole() error {
	for _, b := range m.Blobs {
		if b.Whole != 0 {
			return fmt.Errorf("%.80q of %.80q is a part only", b.Kind, b.Parameter)
		}
	}
	return nil
}

func (m *blobManifest) encode() ([]byte, error) {
	slices.SortFunc(m.Blobs, compareBlobs)
	var err error
	if m.SHA256, err = m.hash(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m, "", " ")
	if err == nil {
		_, err = parseBlobManifest(b) // what was written can be read
	}
	return append(b, '\n'), err
}
