package parquet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/parquet-go/parquet-go"

	"dunlin/data"
)

// documents are the values of one column.
type documents struct {
	file   *os.File
	groups []parquet.RowGroup // not begun yet
	column int

	pages  parquet.Pages       // of the row group at work, nil between two
	page   parquet.Page        // at work, nil between two
	values parquet.ValueReader // of the page
	buf    [64]parquet.Value
	ready  []parquet.Value // of buf, not given yet
}

// Open opens a column of strings; column is its name, with dots inside structures.
// It implements data.OpenDocuments.
func Open(path, column string) (_ data.Documents, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	defer damaged(&err)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkFooter(f, info.Size()); err != nil {
		return nil, fmt.Errorf("not a whole Parquet file: %w: fetch it again", err)
	}
	p, err := parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("not a whole Parquet file: %w: fetch it again", err)
	}
	leaf, ok := p.Schema().Lookup(strings.Split(column, ".")...)
	if !ok {
		return nil, fmt.Errorf("no column %q: name the column that holds the text with --field (there are: %s)", column, columns(p.Schema()))
	}
	if kind := leaf.Node.Type().Kind(); kind != parquet.ByteArray || leaf.MaxRepetitionLevel > 0 {
		return nil, fmt.Errorf("column %q holds %s, one text a row is needed: name another with --field (there are: %s)", column, leaf.Node, columns(p.Schema()))
	}
	return &documents{file: f, groups: p.RowGroups(), column: leaf.ColumnIndex}, nil
}

func columns(s *parquet.Schema) string {
	var names []string
	for _, path := range s.Columns() {
		names = append(names, strings.Join(path, "."))
	}
	if len(names) > 8 {
		names = append(names[:8], "…")
	}
	return strings.Join(names, ", ")
}

// damaged turns a panic of the library, which trusts some lengths in a file, into
// an error.
func damaged(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("a damaged Parquet file: %v", r)
	}
}

// Skip implements data.Documents.
func (d *documents) Skip(n int64) (err error) {
	defer damaged(&err)
	for len(d.groups) > 0 && n >= d.groups[0].NumRows() {
		n -= d.groups[0].NumRows()
		d.groups = d.groups[1:]
	}
	if n == 0 {
		return nil
	}
	if len(d.groups) == 0 {
		return io.ErrUnexpectedEOF
	}
	d.begin()
	return d.pages.SeekToRow(n)
}

// begin opens the next row group.
func (d *documents) begin() {
	d.pages = d.groups[0].ColumnChunks()[d.column].Pages()
	d.groups = d.groups[1:]
}

// Next implements data.Documents. A row without a value gives an empty document.
func (d *documents) Next(dst []byte) (_ []byte, err error) {
	defer damaged(&err)
	for len(d.ready) == 0 {
		if err := d.read(); err != nil {
			return dst, err
		}
	}
	v := d.ready[0]
	d.ready = d.ready[1:]
	if v.IsNull() {
		return dst, nil
	}
	return append(dst, v.ByteArray()...), nil
}

// read fills ready from the page at work, or goes to the next one.
func (d *documents) read() error {
	switch {
	case d.pages == nil && len(d.groups) == 0:
		return io.EOF
	case d.pages == nil:
		d.begin()
	case d.page == nil:
		page, err := d.pages.ReadPage()
		if errors.Is(err, io.EOF) {
			err = d.pages.Close()
			d.pages = nil
			return err
		}
		if err != nil {
			return err
		}
		d.page, d.values = page, page.Values()
	default:
		n, err := d.values.ReadValues(d.buf[:])
		d.ready = d.buf[:n]
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			// Values of the page are no longer in use.
			parquet.Release(d.page)
			d.page = nil
		}
	}
	return nil
}

// Close implements data.Documents.
func (d *documents) Close() error {
	var err error
	if d.page != nil {
		parquet.Release(d.page)
	}
	if d.pages != nil {
		err = d.pages.Close()
	}
	return errors.Join(err, d.file.Close())
}
