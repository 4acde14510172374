package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// Dataset is what one machine trains on: text, a prepared folder, or a mixture of
// prepared folders.
type Dataset struct {
	Train     []Tokens // one for each set
	HeldOut   []Tokens // of the same sets; those without any are left out
	Weights   []float64
	Tokenizer Tokenizer
	// ID changes with every token, with the tokenizer and the weights.
	ID string
	// BytesPerToken is the mean over the held-out text.
	BytesPerToken float64
	// Description says for people what was read.
	Description string

	files []*os.File
}

// Dataset returns text as bytes.
func (c *Corpus) Dataset() *Dataset {
	text := sha256.New()
	text.Write(c.Train)
	text.Write([]byte{0})
	text.Write(c.HeldOut)
	return &Dataset{
		Train: []Tokens{ByteTokens(c.Train)}, HeldOut: []Tokens{ByteTokens(c.HeldOut)}, Tokenizer: Bytes{},
		ID: hex.EncodeToString(text.Sum(nil)[:8]), BytesPerToken: 1, Description: c.Description,
	}
}

// OpenDataset reads what --data names: text (see Open), a prepared folder, or
// several prepared folders with weights, `web@3,code@1`. A folder without a weight
// has 1. Files are checked against the hashes in their manifest. The folder apart, ""
// for none, is where the training writes: below a folder of text it is left out.
func OpenDataset(spec, apart string) (*Dataset, error) {
	if spec == "" || exists(spec) && !Prepared(spec) {
		return openCorpus(spec, apart)
	}
	dirs, weights, err := parseMixture(spec)
	if err != nil {
		return nil, err
	}
	if dirs == nil {
		return openCorpus(spec, apart)
	}
	return openPrepared(dirs, weights)
}

func openCorpus(path, apart string) (*Dataset, error) {
	c, err := openText(path, apart)
	if err != nil {
		return nil, err
	}
	return c.Dataset(), nil
}

// parseMixture returns nil folders when spec names none.
func parseMixture(spec string) (dirs []string, weights []float64, err error) {
	if Prepared(spec) {
		return []string{spec}, []float64{1}, nil
	}
	for _, part := range strings.Split(spec, ",") {
		dir, weight := part, 1.0
		if at := strings.LastIndexByte(part, '@'); at >= 0 && !exists(part) {
			if weight, err = strconv.ParseFloat(part[at+1:], 64); err != nil || !(weight > 0 && weight <= 1e9) {
				return nil, nil, fmt.Errorf("open data %s: weight %.20q: a number above 0 is allowed", part, part[at+1:])
			}
			dir = part[:at]
		}
		switch {
		case Prepared(dir):
		case len(dirs) == 0 && dir == part:
			return nil, nil, nil // a path of text, perhaps with a comma in it
		default:
			return nil, nil, fmt.Errorf("open data %s: it is no prepared folder, and only these can be mixed: make it with `dunlin data prepare`", dir)
		}
		dirs, weights = append(dirs, dir), append(weights, weight)
	}
	return dirs, weights, nil
}

func openPrepared(dirs []string, weights []float64) (_ *Dataset, err error) {
	d := &Dataset{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	var first *Manifest
	var bytes, tokens, documents, all int64
	id := sha256.New()
	for k, dir := range dirs {
		m, err := ReadManifest(dir)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = m
			if d.Tokenizer, err = m.openTokenizer(dir); err != nil {
				return nil, err
			}
		}
		if m.Tokenizer != first.Tokenizer {
			return nil, fmt.Errorf("open data %s: its tokenizer is not that of %s, so their tokens do not mix: prepare both with the same", dir, dirs[0])
		}
		if m.Train.Tokens == 0 {
			return nil, fmt.Errorf("open data %s: it has no training tokens", dir)
		}
		if err := d.open(dir, m); err != nil {
			return nil, err
		}
		bytes, tokens = bytes+m.HeldOut.Bytes, tokens+m.HeldOut.Tokens
		documents += m.Train.Documents + m.HeldOut.Documents
		all += m.Train.Tokens + m.HeldOut.Tokens
		fmt.Fprintln(id, m.id(), weights[k])
	}
	if len(d.HeldOut) == 0 {
		return nil, fmt.Errorf("open data %s: nothing is held out, so that learning cannot be measured: prepare it with --held-out", strings.Join(dirs, ", "))
	}
	d.BytesPerToken = float64(bytes) / float64(max(tokens, 1))
	d.ID = hex.EncodeToString(id.Sum(nil)[:8])
	if len(dirs) > 1 {
		d.Weights = weights
	}
	d.Description = fmt.Sprintf("%s: %s tokens of %s, %d documents, %.2f bytes a token, %.1f %% held out", describe(dirs, weights),
		millions(all), d.Tokenizer.Name(), documents, d.BytesPerToken, 100*float64(tokens)/float64(max(all, 1)))
	return d, nil
}

func millions(n int64) string {
	if n < 1e6 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%.1f M", float64(n)/1e6)
}

func describe(dirs []string, weights []float64) string {
	var names []string
	for k, dir := range dirs {
		name := filepath.Base(dir)
		if len(dirs) > 1 {
			name += "@" + strconv.FormatFloat(weights[k], 'g', -1, 64)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// open checks and opens the files of a prepared folder.
func (d *Dataset) open(dir string, m *Manifest) error {
	for _, s := range []struct {
		split Split
		to    *[]Tokens
	}{{m.Train, &d.Train}, {m.HeldOut, &d.HeldOut}} {
		t := &fileTokens{width: widthOf(m.Dtype), vocab: int32(m.Tokenizer.Vocab)}
		for _, f := range s.split.Files {
			path := filepath.Join(dir, f.Name)
			if err := f.check(path, t.width); err != nil {
				return err
			}
			file, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("open data: %w", err)
			}
			d.files = append(d.files, file)
			t.files = append(t.files, tokenRange{file: file, first: t.n})
			t.n += int(f.Tokens)
		}
		if t.n > 0 {
			*s.to = append(*s.to, t)
		}
	}
	return nil
}

// Close closes the files.
func (d *Dataset) Close() error {
	var faults []error
	for _, f := range d.files {
		faults = append(faults, f.Close())
	}
	d.files = nil
	return errors.Join(faults...)
}

// Windows cuts the training and the held-out tokens into windows of T = length
// tokens. Held-out sets that are shorter than a window are left out.
func (d *Dataset) Windows(length int) (train, heldOut Windows, err error) {
	if train, err = WindowsOf(length, d.Train...); err != nil {
		return train, heldOut, fmt.Errorf("training text: %w", err)
	}
	some := d.HeldOut
	if len(some) > 1 {
		some = nil
		for _, t := range d.HeldOut {
			if t.Len() > length {
				some = append(some, t)
			}
		}
	}
	if heldOut, err = WindowsOf(length, some...); err != nil {
		return train, heldOut, fmt.Errorf("held-out text: %w", err)
	}
	return train, heldOut, nil
}

// Order returns the sequence in which windows of Train are read.
func (d *Dataset) Order(seed uint64, train Windows) (*Mixture, error) {
	return NewMixture(seed, train.Counts(), d.Weights)
}

// TrainTokens and HeldOutTokens return how many there are.
func (d *Dataset) TrainTokens() int { return count(d.Train) }

// HeldOutTokens returns the number of held-out tokens.
func (d *Dataset) HeldOutTokens() int { return count(d.HeldOut) }

func count(sets []Tokens) (n int) {
	for _, t := range sets {
		n += t.Len()
	}
	return n
}

// fileTokens reads tokens from files, so that memory does not grow with them.
type fileTokens struct {
	files []tokenRange
	n     int
	width int64
	vocab int32

	mu  sync.Mutex
	buf []byte
}

type tokenRange struct {
	file  *os.File
	first int // its first token
}

// Len implements Tokens.
func (t *fileTokens) Len() int { return t.n }

// Read implements Tokens. A token outside of the vocabulary is an error: a file
// was altered since it was opened.
func (t *fileTokens) Read(dst []int32, at int) error {
	if at < 0 || at > t.n-len(dst) {
		return fmt.Errorf("read %d tokens at %d of %d", len(dst), at, t.n)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(dst) > 0 {
		k := sort.Search(len(t.files), func(k int) bool { return t.end(k) > at })
		n := min(len(dst), t.end(k)-at)
		if err := t.readFile(dst[:n], t.files[k], at); err != nil {
			return err
		}
		dst, at = dst[n:], at+n
	}
	return nil
}

func (t *fileTokens) end(k int) int {
	if k+1 < len(t.files) {
		return t.files[k+1].first
	}
	return t.n
}

func (t *fileTokens) readFile(dst []int32, r tokenRange, at int) error {
	if n := len(dst) * int(t.width); cap(t.buf) < n {
		t.buf = make([]byte, n)
	}
	buf := t.buf[:len(dst)*int(t.width)]
	if _, err := r.file.ReadAt(buf, int64(at-r.first)*t.width); err != nil {
		return fmt.Errorf("read tokens of %s: %w", r.file.Name(), err)
	}
	for i := range dst {
		if t.width == 2 {
			dst[i] = int32(binary.LittleEndian.Uint16(buf[2*i:]))
		} else {
			dst[i] = int32(binary.LittleEndian.Uint32(buf[4*i:]))
		}
		if dst[i] < 0 || dst[i] >= t.vocab {
			return fmt.Errorf("read tokens of %s: token %d is %d, the vocabulary has %d: the file is damaged", r.file.Name(), at-r.first+i, dst[i], t.vocab)
		}
	}
	return nil
}
