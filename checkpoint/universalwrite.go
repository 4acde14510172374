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
	"slices"

	"dunlin/compute"
	"dunlin/store"
)

// Portion is the values of one kind that a writer holds of a parameter: all of
// them, or those from From on along Axis of a tensor that has Whole there.
type Portion struct {
	compute.Tensor // its name is the parameter's
	Kind           string
	Axis, From     int
	Whole          int // 0: the tensor is whole
}

// Part is what one of several writers holds: a stage's parameters, or portions.
type Part struct {
	Step     uint64
	Portions []Portion
	Bytes    map[string][]byte // by kind; where several writers hold a kind, the same
}

const partFolder = "parts"

func partName(part, parts int) string { return fmt.Sprintf("%d-of-%d.json", part, parts) }

// WritePart writes the blobs of part 1 to parts into a universal checkpoint and
// says in a file of its own which they are. Parts may be written at the same time,
// by several processes; FinishUniversal makes them one checkpoint. Until then the
// folder holds the checkpoint before. A blob that is there already is not
// written again.
func WritePart(dir string, part, parts int, p *Part) error {
	if err := writePart(dir, part, parts, p); err != nil {
		return fmt.Errorf("write part %d of %d of universal checkpoint %s: %w", part, parts, dir, err)
	}
	return nil
}

func writePart(dir string, part, parts int, p *Part) error {
	if part < 1 || part > parts || parts > maxParts {
		return fmt.Errorf("parts are numbered from 1, and there are at most %d", maxParts)
	}
	if err := os.MkdirAll(filepath.Join(dir, partFolder), 0o755); err != nil {
		return err
	}
	m := blobManifest{Format: manifestFormat, Step: p.Step}
	for _, portion := range p.Portions {
		b, err := writePortion(dir, portion)
		if err != nil {
			return fmt.Errorf("%s of %q: %w", portion.Kind, portion.Name, err)
		}
		m.Blobs = append(m.Blobs, b)
	}
	for kind, content := range p.Bytes {
		b := Blob{Kind: kind, Type: typeBytes}
		if err := b.write(dir, func(w io.Writer) error { return writeAll(w, content) }); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		m.Blobs = append(m.Blobs, b)
	}
	if err := m.sync(dir); err != nil {
		return err
	}
	text, err := m.encode()
	if err != nil {
		return err
	}
	return store.WriteFile(filepath.Join(dir, partFolder, partName(part, parts)), text, 0o644)
}

// sync makes the names of the blobs' files durable.
func (m *blobManifest) sync(dir string) error {
	folders := map[string]bool{filepath.Join(dir, blobFolder): true}
	for _, b := range m.Blobs {
		folders[filepath.Dir(b.path(dir))] = true
	}
	for folder := range folders {
		if err := store.SyncDir(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

const maxParts = 1 << 16

func writePortion(dir string, p Portion) (Blob, error) {
	b := Blob{Kind: p.Kind, Parameter: p.Name, Type: typeValues, Shape: p.Shape, Axis: p.Axis, From: p.From, Whole: p.Whole}
	if err := p.Validate(); err != nil {
		return b, err
	}
	if p.Axis >= 0 && p.Axis < len(p.Shape) && p.Whole == p.Shape[p.Axis] && p.From == 0 {
		b.Axis, b.Whole = 0, 0 // all of it
	}
	return b, b.write(dir, func(w io.Writer) error { return Float32.write(w, p.Data) })
}

// write fills in the blob's hash and length and makes its bytes durable, unless
// the file is there and whole. Its name is durable after sync.
func (b *Blob) write(dir string, body func(io.Writer) error) error {
	d := sha256.New()
	n := counter{w: d}
	if err := body(&n); err != nil {
		return err
	}
	b.fileRecord = fileRecord{Bytes: n.bytes, SHA256: hex.EncodeToString(d.Sum(nil))}
	path := b.path(dir)
	if b.fileRecord.check(path) == nil {
		return nil
	}
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(folder, aside)
	if err != nil {
		return err
	}
	_, err = writeFile(filepath.Join(tmp, "blob"), body)
	if err == nil {
		err = os.Rename(filepath.Join(tmp, "blob"), path)
	}
	return errors.Join(err, os.RemoveAll(tmp))
}

type counter struct {
	w     io.Writer
	bytes int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.bytes += int64(n)
	return n, err
}

// FinishUniversal makes the parts that were written one checkpoint: portions are
// joined, so that there is one blob for each parameter and kind and the folder is
// the same whoever wrote it. It refuses parts that are missing, of different
// steps, or that disagree or leave gaps. Then it removes what the checkpoint
// before alone needed.
func FinishUniversal(dir string) error {
	if err := finishUniversal(dir); err != nil {
		return fmt.Errorf("finish universal checkpoint %s: %w", dir, err)
	}
	return nil
}

func finishUniversal(dir string) error {
	parts, err := readParts(filepath.Join(dir, partFolder))
	if err != nil {
		return err
	}
	byKey := make(map[blobKey][]Blob)
	for i, p := range parts {
		if p.Step != parts[0].Step {
			return fmt.Errorf("part %d is of step %d, part 1 of step %d: all must be of one step", i+1, p.Step, parts[0].Step)
		}
		for _, b := range p.Blobs {
			byKey[b.key()] = append(byKey[b.key()], b)
		}
	}
	whole := blobManifest{Format: manifestFormat, Step: parts[0].Step}
	for key, blobs := range byKey {
		b, err := unite(dir, blobs)
		if err != nil {
			return fmt.Errorf("%s of %q: %w", key.kind, key.parameter, err)
		}
		whole.Blobs = append(whole.Blobs, b)
	}
	if err := whole.sync(dir); err != nil {
		return err
	}
	text, err := whole.encode()
	if err != nil {
		return err
	}
	if err := store.WriteFile(filepath.Join(dir, universalFile), text, 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, partFolder)); err != nil {
		return err
	}
	return collectBlobs(dir, &whole)
}

// readParts reads the files of all parts, in order.
func readParts(dir string) ([]*blobManifest, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	parts := 0
	for _, e := range entries {
		var part, of int
		if n, err := fmt.Sscanf(e.Name(), "%d-of-%d.json", &part, &of); n != 2 || err != nil || e.Name() != partName(part, of) {
			continue
		}
		if parts != 0 && parts != of {
			return nil, fmt.Errorf("there are parts of %d and parts of %d: remove %s and write them again", parts, of, dir)
		}
		parts = of
	}
	if parts < 1 || parts > maxParts {
		return nil, errors.New("no part has been written")
	}
	all := make([]*blobManifest, parts)
	for i := range all {
		name := partName(i+1, parts)
		if all[i], err = readBlobManifest(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("part %d of %d has not been written", i+1, parts)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return all, nil
}

// unite returns the one blob that several writers' blobs of a parameter and kind
// make: the same, or portions side by side.
func unite(dir string, blobs []Blob) (Blob, error) {
	slices.SortFunc(blobs, compareBlobs)
	blobs = slices.CompactFunc(blobs, func(a, b Blob) bool {
		return a.SHA256 == b.SHA256 && a.From == b.From && a.Whole == b.Whole && a.Axis == b.Axis && slices.Equal(a.Shape, b.Shape)
	})
	first := blobs[0]
	if len(blobs) == 1 && first.Whole == 0 {
		return first, first.read(dir, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
	}
	tensors := make([]compute.Tensor, len(blobs))
	at := 0
	for i, b := range blobs {
		if b.Whole != first.Whole || b.Axis != first.Axis || b.Whole == 0 {
			return first, errors.New("writers hold different values of it, or divide it in different ways")
		}
		if b.From != at {
			return first, fmt.Errorf("after the values to %d come those from %d of %d", at, b.From, b.Whole)
		}
		at += b.Shape[b.Axis]
		var err error
		if tensors[i], err = b.tensor(dir); err != nil {
			return first, err
		}
	}
	if at != first.Whole {
		return first, fmt.Errorf("the values from %d to %d are missing", at, first.Whole)
	}
	t, err := join(first.Parameter, first.Axis, tensors...)
	if err != nil {
		return first, err
	}
	return writePortion(dir, Portion{Tensor: t, Kind: first.Kind})
}

// collectBlobs removes the blobs that a manifest does not name, and what a crash
// has left aside.
func collectBlobs(dir string, m *blobManifest) error {
	needed := make(map[string]bool, len(m.Blobs))
	for _, b := range m.Blobs {
		needed[b.SHA256] = true
	}
	files, err := filepath.Glob(filepath.Join(dir, blobFolder, "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range files {
		if !needed[filepath.Base(path)] {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// SaveUniversal writes a checkpoint as a universal one. The folder may hold an
// earlier one, whose unchanged blobs stay.
func SaveUniversal(dir string, c *Checkpoint) error {
	p, err := c.part()
	if err == nil {
		err = prepareUniversal(dir)
	}
	if err != nil {
		return fmt.Errorf("write universal checkpoint %s: %w", dir, err)
	}
	if err := WritePart(dir, 1, 1, p); err != nil {
		return err
	}
	return FinishUniversal(dir)
}

// prepareUniversal refuses a folder of something else, and removes the parts of
// writers that did not finish; their blobs may serve.
func prepareUniversal(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !slices.Contains([]string{universalFile, blobFolder, partFolder}, e.Name()) {
			return Vacant(dir)
		}
	}
	return os.RemoveAll(filepath.Join(dir, partFolder))
}

// part is all of a checkpoint. A trainer's tensor called KIND.PARAMETER is of that
// kind and parameter; any other one is a kind of its own.
func (c *Checkpoint) part() (*Part, error) {
	p := &Part{Step: c.Step, Bytes: map[string][]byte{KindConfig: c.Config}}
	if c.Tokenizer != nil {
		p.Bytes[KindTokenizer] = c.Tokenizer
	}
	parameters := make(map[string]bool, len(c.Model))
	for _, t := range c.Model {
		p.Portions = append(p.Portions, Portion{Tensor: t, Kind: KindWeights})
		parameters[t.Name] = true
	}
	if c.Trainer == nil {
		return p, nil
	}
	counters, err := json.Marshal(c.Trainer.Meta) // keys in order
	if err != nil {
		return nil, err
	}
	p.Bytes[KindCounters] = counters
	for _, t := range c.Trainer.Tensors {
		portion := Portion{Tensor: t, Kind: t.Name}
		portion.Name = ""
		for at := range t.Name {
			if t.Name[at] == '.' && parameters[t.Name[at+1:]] {
				portion.Kind, portion.Name = t.Name[:at], t.Name[at+1:]
				break
			}
		}
		p.Portions = append(p.Portions, portion)
	}
	return p, nil
}
