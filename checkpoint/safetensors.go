package checkpoint

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"dunlin/compute"
)

// Bounds of a safetensors file.
const (
	MaxHeader  = 8 << 20 // bytes of JSON
	MaxTensors = 1 << 16
	MaxName    = 512 // bytes of a tensor's name
	maxRank    = 8
)

const metadataKey = "__metadata__"

// tensorInfo is a tensor's entry in the header.
type tensorInfo struct {
	Type    Number  `json:"dtype"`
	Shape   []int   `json:"shape"`
	Offsets []int64 `json:"data_offsets"` // [from, to) in bytes after the header
}

// Write writes tensors, in this order, and metadata (may be nil) as a
// safetensors file: an 8-byte little-endian header length, a JSON header, the
// values little-endian. The same input gives the same bytes.
func Write(w io.Writer, tensors []compute.Tensor, metadata map[string]string) error {
	return WriteAs(w, Float32, tensors, metadata)
}

// WriteAs is Write with the values rounded to another number, to nearest, ties
// to even. A value that is too large for it is an error.
func WriteAs(w io.Writer, number Number, tensors []compute.Tensor, metadata map[string]string) error {
	header, err := encodeHeader(number, tensors, metadata)
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	buf := bufio.NewWriterSize(w, 64<<10)
	err = errors.Join(
		binary.Write(buf, binary.LittleEndian, uint64(len(header))),
		writeAll(buf, header),
	)
	for _, t := range tensors {
		if err != nil {
			break
		}
		if err = number.write(buf, t.Data); err != nil {
			err = fmt.Errorf("tensor %q: %w", t.Name, err)
		}
	}
	if err == nil {
		err = buf.Flush()
	}
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	return nil
}

func writeAll(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// encodeHeader lays the tensors out one after the other. The header is padded
// with spaces so that the values begin at a multiple of eight bytes.
func encodeHeader(number Number, tensors []compute.Tensor, metadata map[string]string) ([]byte, error) {
	if len(tensors) > MaxTensors {
		return nil, fmt.Errorf("%d tensors, at most %d are allowed", len(tensors), MaxTensors)
	}
	var b bytes.Buffer
	b.WriteByte('{')
	field := func(name string, value any) error {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		body, err := json.Marshal(value)
		if err != nil {
			return err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(body)
		return nil
	}
	if len(metadata) > 0 {
		if err := field(metadataKey, metadata); err != nil {
			return nil, err
		}
	}
	seen := make(map[string]bool, len(tensors))
	at := int64(0)
	for _, t := range tensors {
		if err := checkName(t.Name, seen); err != nil {
			return nil, err
		}
		if err := t.Validate(); err != nil {
			return nil, err
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{} // a scalar: JSON wants a list, not null
		}
		end := at + int64(len(t.Data))*number.size()
		if err := field(t.Name, tensorInfo{Type: number, Shape: shape, Offsets: []int64{at, end}}); err != nil {
			return nil, err
		}
		at = end
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > MaxHeader {
		return nil, fmt.Errorf("header of %d bytes, at most %d are allowed", b.Len(), MaxHeader)
	}
	return b.Bytes(), nil
}

func checkName(name string, seen map[string]bool) error {
	switch {
	case name == "" || name == metadataKey || len(name) > MaxName || !utf8.ValidString(name):
		return fmt.Errorf("tensor name %.80q: 1 to %d bytes of UTF-8 are allowed, and not %q", name, MaxName, metadataKey)
	case seen[name]:
		return fmt.Errorf("tensor %q occurs twice", name)
	}
	seen[name] = true
	return nil
}

// Read reads a safetensors file of size bytes from r and returns its tensors in
// the order of their values, and its metadata. Values of type F32, F16 and BF16
// are read, the last two widened exactly. It refuses a header that is too large,
// not JSON or repeats a name, and values that overlap, leave gaps or do not fill
// the file, before it takes memory.
func Read(r io.Reader, size int64) ([]compute.Tensor, map[string]string, error) {
	return ReadSome(r, size, everyTensor)
}

func everyTensor(string) bool { return true }

// ReadSome is Read of the tensors that are wanted; the others may be of any type.
func ReadSome(r io.Reader, size int64, wanted func(name string) bool) ([]compute.Tensor, map[string]string, error) {
	tensors, metadata, err := read(r, size, wanted, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("read safetensors: %w", err)
	}
	return tensors, metadata, nil
}

func read(r io.Reader, size int64, wanted func(name string) bool, into Into) ([]compute.Tensor, map[string]string, error) {
	var prefix [8]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, nil, fmt.Errorf("header length: %w", err)
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n < 2 || n > MaxHeader || int64(n) > size-8 {
		return nil, nil, fmt.Errorf("header of %d bytes in a file of %d, at most %d are allowed: not a safetensors file", n, size, MaxHeader)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	infos, metadata, err := parseHeader(header)
	if err != nil {
		return nil, nil, err
	}
	if err := checkLayout(infos, size-8-int64(n), wanted); err != nil {
		return nil, nil, err
	}
	var tensors []compute.Tensor
	for _, e := range infos {
		length := e.Offsets[1] - e.Offsets[0]
		if !wanted(e.name) {
			if _, err := io.CopyN(io.Discard, r, length); err != nil {
				return nil, nil, fmt.Errorf("tensor %q: %w", e.name, err)
			}
			continue
		}
		data := into.memory(e.name, int(length/e.Type.size()))
		if err := e.Type.read(r, data); err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", e.name, err)
		}
		tensors = append(tensors, compute.Tensor{Name: e.name, Shape: e.Shape, Data: data})
	}
	return tensors, metadata, nil
}

// memory returns n values.
func (into Into) memory(name string, n int) []float32 {
	if into != nil {
		if there := into(name, n); len(there) == n {
			return there
		}
	}
	return make([]float32, n)
}

type namedInfo struct {
	name string
	tensorInfo
}

// parseHeader walks the header's members itself: encoding/json would let the
// last of two tensors of one name win.
func parseHeader(header []byte) ([]namedInfo, map[string]string, error) {
	if header[0] != '{' {
		return nil, nil, errors.New("header does not begin with '{'")
	}
	dec := json.NewDecoder(bytes.NewReader(header))
	dec.DisallowUnknownFields()
	if _, err := dec.Token(); err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	var infos []namedInfo
	var metadata map[string]string
	seen := make(map[string]bool)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, nil, fmt.Errorf("header: %w", err)
		}
		name, _ := token.(string)
		if name == metadataKey {
			if metadata != nil {
				return nil, nil, errors.New("header: metadata occurs twice")
			}
			if err := dec.Decode(&metadata); err != nil {
				return nil, nil, fmt.Errorf("header: metadata: %w", err)
			}
			continue
		}
		if err := checkName(name, seen); err != nil {
			return nil, nil, err
		}
		if len(infos) == MaxTensors {
			return nil, nil, fmt.Errorf("more than %d tensors", MaxTensors)
		}
		e := namedInfo{name: name}
		if err := dec.Decode(&e.tensorInfo); err != nil {
			return nil, nil, fmt.Errorf("header: tensor %q: %w", name, err)
		}
		infos = append(infos, e)
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	if rest := header[dec.InputOffset():]; strings.Trim(string(rest), " ") != "" {
		return nil, nil, fmt.Errorf("header: %d bytes follow its end", len(rest))
	}
	return infos, metadata, nil
}

// checkLayout sorts infos by offset and checks that they fill exactly size
// bytes, each that is wanted with as many values as its shape says.
func checkLayout(infos []namedInfo, size int64, wanted func(name string) bool) error {
	for _, e := range infos {
		if wanted(e.name) && e.Type.size() == 0 {
			return fmt.Errorf("tensor %q is of type %.20q: F32, F16 and BF16 are supported, convert the file", e.name, e.Type)
		}
		if len(e.Offsets) != 2 || len(e.Shape) > maxRank {
			return fmt.Errorf("tensor %q: shape of rank %d with %d offsets", e.name, len(e.Shape), len(e.Offsets))
		}
	}
	slices.SortStableFunc(infos, func(a, b namedInfo) int { return cmp.Compare(a.Offsets[0], b.Offsets[0]) })
	at := int64(0)
	for _, e := range infos {
		n, err := compute.Elements(e.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", e.name, err)
		}
		from, to := e.Offsets[0], e.Offsets[1]
		if from != at || to < from || to > size {
			return fmt.Errorf("tensor %q at bytes [%d, %d): expected from %d on, in %d", e.name, from, to, at, size)
		}
		if want := int64(n) * e.Type.size(); wanted(e.name) && to-from != want {
			return fmt.Errorf("tensor %q of shape %v at bytes [%d, %d): expected %d bytes", e.name, e.Shape, from, to, want)
		}
		at = to
	}
	if at != size {
		return fmt.Errorf("tensors fill %d of %d bytes", at, size)
	}
	return nil
}
