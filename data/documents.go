package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxDocument bounds a document of JSON lines or Parquet, in bytes. Text files
// are read in stretches and may be of any length.
const MaxDocument = 16 << 20

// Documents are the documents of one Parquet file, in order. Package
// data/parquet makes them: its library reaches the network, which this package
// must not.
type Documents interface {
	// Next appends the next document to dst. It fails with io.EOF after the last.
	Next(dst []byte) ([]byte, error)
	// Skip passes over the first n documents; it is called before Next.
	Skip(n int64) error
	Close() error
}

// OpenDocuments opens a column of strings of a Parquet file.
type OpenDocuments func(path, column string) (Documents, error)

// position is where reading goes on: in which input, behind how many of its
// decompressed bytes or rows, on which line.
type position struct {
	Input  int   `json:"input"`
	Offset int64 `json:"offset"`
	Line   int64 `json:"line"`
}

// source gives one input in units: a document, or a stretch of a long text.
type source interface {
	// next appends a unit to dst and says whether it is the last of its document.
	next(dst []byte) (text []byte, last bool, err error)
	position() (offset, line int64)
	bytesRead() int64 // on disk
	close() error
}

// unitReader reads the units of all inputs.
type unitReader struct {
	inputs  []input
	field   string
	parquet OpenDocuments
	noNUL   bool // tokens are bytes, of which NUL ends a text

	index int
	now   source // of inputs[index], nil before it is opened
	start position
	done  int64 // bytes on disk of the inputs before index
}

func newUnitReader(inputs []input, field string, parquet OpenDocuments, noNUL bool, start position) (*unitReader, error) {
	if start.Input < 0 || start.Input > len(inputs) || start.Offset < 0 || start.Line < 0 {
		return nil, errors.New("the place to go on from does not exist")
	}
	r := &unitReader{inputs: inputs, field: field, parquet: parquet, noNUL: noNUL, index: start.Input, start: start}
	for _, in := range inputs[:start.Input] {
		r.done += in.size
	}
	return r, nil
}

// next appends the next unit to dst. It fails with io.EOF behind the last.
func (r *unitReader) next(dst []byte) (text []byte, last bool, err error) {
	for r.index < len(r.inputs) {
		in := r.inputs[r.index]
		if r.now == nil {
			if r.now, err = r.open(in); err != nil {
				return dst, false, err
			}
			r.start = position{Input: r.index + 1}
		}
		text, last, err = r.now.next(dst)
		if !errors.Is(err, io.EOF) {
			return text, last, err
		}
		if err := r.now.close(); err != nil {
			return dst, false, fmt.Errorf("read %s: %w", in.path, err)
		}
		r.now = nil
		r.done += in.size
		r.index++
	}
	return dst, false, io.EOF
}

func (r *unitReader) open(in input) (source, error) {
	var offset, line int64
	if r.start.Input == r.index {
		offset, line = r.start.Offset, r.start.Line
	}
	if in.format == formatParquet {
		return openParquetSource(in, r.field, r.parquet, r.noNUL, offset)
	}
	s, err := openStream(in.path)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		if err := s.skip(offset); err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: go on behind byte %d: %w", in.path, offset, err), s.Close())
		}
	}
	if in.format == formatJSONL {
		return &lineSource{stream: s, path: in.path, field: r.field, noNUL: r.noNUL, offset: offset, line: line}, nil
	}
	return &textSource{stream: s, path: in.path, target: stretchOf(in.size), offset: offset}, nil
}

func (r *unitReader) position() position {
	if r.now == nil {
		if r.start.Input == r.index {
			return r.start
		}
		return position{Input: r.index}
	}
	offset, line := r.now.position()
	return position{Input: r.index, Offset: offset, Line: line}
}

func (r *unitReader) bytesRead() int64 {
	if r.now == nil {
		return r.done
	}
	return r.done + r.now.bytesRead()
}

func (r *unitReader) close() error {
	if r.now == nil {
		return nil
	}
	return r.now.close()
}

// textSource reads a text file, which is one document, in stretches. It cuts
// where tokens do not change by it; see cutPlace.
type textSource struct {
	*stream
	path   string
	target int
	buf    []byte // read and not yet given
	offset int64
	ended  bool
}

// A stretch is a fortieth of a file, so that a small one has some to hold out,
// within these bounds in bytes; it may grow by stretchSlack until a place to cut
// is found.
const (
	minStretch   = 256
	maxStretch   = 16 << 10
	stretchSlack = 64 << 10
	lineSlack    = 4 << 10 // for a place between two lines
)

func stretchOf(size int64) int { return int(min(max(size/40, minStretch), maxStretch)) }

func (t *textSource) next(dst []byte) ([]byte, bool, error) {
	if err := t.fill(); err != nil {
		return dst, false, fmt.Errorf("read %s: %w%s", t.path, err, cutShort(err))
	}
	n := len(t.buf)
	if n == 0 {
		return dst, false, io.EOF
	}
	if !t.ended || n > t.target+t.target/2 {
		n = cutPlace(t.buf, t.target)
	}
	text := t.buf[:n]
	if err := checkText(text); err != nil {
		return dst, false, fmt.Errorf("%s, behind byte %d, is %w: convert it to UTF-8 text or leave it out", t.path, t.offset, err)
	}
	if t.offset == 0 {
		text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	}
	dst = append(dst, text...)
	t.buf = append(t.buf[:0], t.buf[n:]...)
	t.offset += int64(n)
	return dst, t.ended && len(t.buf) == 0, nil
}

// fill reads as far as a stretch may reach, so that where it is cut depends on
// the text alone.
func (t *textSource) fill() error {
	if t.buf == nil {
		t.buf = make([]byte, 0, t.target+stretchSlack)
	}
	for !t.ended && len(t.buf) < cap(t.buf) {
		n, err := t.Read(t.buf[len(t.buf):cap(t.buf)])
		t.buf = t.buf[:len(t.buf)+n]
		switch {
		case errors.Is(err, io.EOF):
			t.ended = true
		case err != nil:
			return err
		}
	}
	return nil
}

func (t *textSource) position() (offset, line int64) { return t.offset, 0 }
func (t *textSource) bytesRead() int64               { return t.read.n }
func (t *textSource) close() error                   { return t.Close() }

// byteOrderMark is what some editors write in front of UTF-8.
const byteOrderMark = "\ufeff"

// cutShort explains the error of a compressed file that ends early.
func cutShort(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ": the file is cut short, fetch it again"
	}
	return ""
}

// cutPlace returns where text is cut, from target on: behind a line break that
// stands alone between two characters or, when there is none for long, before a
// blank that stands alone between two ASCII letters. By every pattern a piece ends
// there, so tokens are the same as without the cut. Text that has no such place is
// cut between two characters before its end.
func cutPlace(text []byte, target int) int {
	lines := min(len(text)-1, target+lineSlack)
	for i := target; i < lines; i++ {
		if loneBreak(text, i) {
			return i
		}
	}
	for i := target; i < len(text)-1; i++ {
		if text[i] == ' ' && letter(text[i-1]) && letter(text[i+1]) || loneBreak(text, i) {
			return i
		}
	}
	i := len(text) - 1
	for back := 0; back < utf8.UTFMax-1 && i > 1 && !utf8.RuneStart(text[i]); back++ {
		i--
	}
	return i
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// loneBreak reports whether a line break ends at i with no space at its sides.
func loneBreak(text []byte, i int) bool {
	if i < 2 || text[i-1] != '\n' {
		return false
	}
	before, _ := utf8.DecodeLastRune(text[:i-1])
	class, _ := classOf(text[i:])
	return !unicode.IsSpace(before) && class != classSpace
}

// lineSource reads documents from a field of JSON objects, one a line.
type lineSource struct {
	*stream
	path   string
	field  string
	noNUL  bool
	buf    []byte
	offset int64
	line   int64
}

func (l *lineSource) next(dst []byte) ([]byte, bool, error) {
	for {
		line, err := l.readLine()
		if err != nil {
			return dst, false, err
		}
		line = bytes.TrimSpace(line)
		if l.line == 1 {
			line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte(byteOrderMark)))
		}
		if len(line) == 0 {
			continue
		}
		text, err := fieldOf(line, l.field)
		if err != nil {
			return dst, false, fmt.Errorf("%s:%d: %w", l.path, l.line, err)
		}
		if text == "" {
			continue
		}
		if l.noNUL && strings.IndexByte(text, 0) >= 0 {
			return dst, false, fmt.Errorf("%s:%d: %w", l.path, l.line, errNUL)
		}
		return append(dst, text...), true, nil
	}
}

// errNUL refuses what would read as the end of a text.
var errNUL = errors.New("the document holds a NUL, which ends a text in byte tokens: remove it, or take another tokenizer")

// maxLine leaves room for escapes and other fields.
const maxLine = 4 * MaxDocument

// readLine returns the next line, which is valid until the next call.
func (l *lineSource) readLine() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.ReadSlice('\n')
		l.buf = append(l.buf, part...)
		switch {
		case len(l.buf) > maxLine:
			return nil, fmt.Errorf("%s:%d: a line of more than %d MiB: cut the document", l.path, l.line+1, maxLine>>20)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(l.buf) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%s:%d: %w%s", l.path, l.line+1, err, cutShort(err))
		}
		l.offset += int64(len(l.buf))
		l.line++
		return l.buf, nil
	}
}

func (l *lineSource) position() (offset, line int64) { return l.offset, l.line }
func (l *lineSource) bytesRead() int64               { return l.read.n }
func (l *lineSource) close() error                   { return l.Close() }

// fieldOf returns the text in a field of a JSON object.
func fieldOf(line []byte, field string) (string, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		if line[0] != '{' {
			return "", errors.New("not a JSON object: JSON lines hold one object a line")
		}
		return "", fmt.Errorf("not a JSON object: %w", err)
	}
	value, ok := object[field]
	if !ok {
		return "", fmt.Errorf("no field %q: name the field that holds the text with --field (there are: %s)", field, fields(object))
	}
	var text *string
	if err := json.Unmarshal(value, &text); err != nil || text == nil {
		return "", fmt.Errorf("field %q holds %.20s, a text is needed", field, value)
	}
	if len(*text) > MaxDocument {
		return "", fmt.Errorf("a document of %d bytes, at most %d are allowed: cut it", len(*text), MaxDocument)
	}
	return *text, nil
}

func fields(object map[string]json.RawMessage) string {
	names := slices.Sorted(maps.Keys(object))
	if len(names) > 8 {
		names = append(names[:8], "…")
	}
	return strings.Join(names, ", ")
}

// rowSource reads documents from a column of a Parquet file.
type rowSource struct {
	Documents
	path  string
	noNUL bool
	row   int64
}

func openParquetSource(in input, column string, open OpenDocuments, noNUL bool, row int64) (source, error) {
	if open == nil {
		return nil, fmt.Errorf("open %s: this program was built without a Parquet reader", in.path)
	}
	d, err := open(in.path, column)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", in.path, err)
	}
	if err := d.Skip(row); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: go on behind row %d: %w", in.path, row, err), d.Close())
	}
	return &rowSource{Documents: d, path: in.path, noNUL: noNUL, row: row}, nil
}

func (r *rowSource) next(dst []byte) ([]byte, bool, error) {
	for {
		n := len(dst)
		text, err := r.Next(dst)
		if errors.Is(err, io.EOF) {
			return dst, false, err
		}
		if err != nil {
			return dst, false, fmt.Errorf("%s, row %d: %w", r.path, r.row+1, err)
		}
		r.row++
		if len(text)-n > MaxDocument {
			return dst, false, fmt.Errorf("%s, row %d: a document of %d bytes, at most %d are allowed: cut it", r.path, r.row, len(text)-n, MaxDocument)
		}
		if r.noNUL && bytes.IndexByte(text[n:], 0) >= 0 {
			return dst, false, fmt.Errorf("%s, row %d: %w", r.path, r.row, errNUL)
		}
		if len(text) > n {
			return text, true, nil
		}
	}
}

func (r *rowSource) position() (offset, line int64) { return r.row, 0 }
func (r *rowSource) bytesRead() int64               { return 0 } // unknown within a file
func (r *rowSource) close() error                   { return r.Close() }
