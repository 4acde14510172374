package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of a file's footer.
const (
	maxFooter = 64 << 20 // bytes
	maxDepth  = 32       // of structures in it
)

var errFooter = errors.New("its footer is damaged")

// checkFooter walks over a file's footer (Thrift's compact protocol, as
// parquet.thrift prescribes) and checks every length against the bytes that are
// left. The library takes memory by these lengths before it looks.
func checkFooter(r io.ReaderAt, size int64) error {
	var end [8]byte
	if size < 12 {
		return fmt.Errorf("%d bytes are no Parquet file", size)
	}
	if _, err := r.ReadAt(end[:], size-8); err != nil {
		return err
	}
	if magic := string(end[4:]); magic != "PAR1" {
		return fmt.Errorf("it ends with %.8q, a Parquet file that is not encrypted ends with \"PAR1\"", magic)
	}
	n := int64(binary.LittleEndian.Uint32(end[:]))
	if n > size-12 || n > maxFooter {
		return errFooter
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, size-8-n); err != nil {
		return err
	}
	w := walker{b: b}
	w.structure(0)
	if w.failed {
		return errFooter
	}
	return nil
}

// walker passes over values of the compact protocol.
type walker struct {
	b      []byte // not seen yet
	failed bool
}

func (w *walker) fail() {
	w.b, w.failed = nil, true
}

func (w *walker) skip(n uint64) {
	if n > uint64(len(w.b)) {
		w.fail()
		return
	}
	w.b = w.b[n:]
}

func (w *walker) byte() byte {
	if len(w.b) == 0 {
		w.fail()
		return 0
	}
	c := w.b[0]
	w.b = w.b[1:]
	return c
}

func (w *walker) varint() uint64 {
	v, n := binary.Uvarint(w.b)
	if n <= 0 {
		w.fail()
		return 0
	}
	w.b = w.b[n:]
	return v
}

// Types of the compact protocol.
const (
	typeStop = iota
	typeTrue
	typeFalse
	typeI8
	typeI16
	typeI32
	typeI64
	typeDouble
	typeBinary
	typeList
	typeSet
	typeMap
	typeStruct
	typeUUID
)

func (w *walker) structure(depth int) {
	for !w.failed {
		head := w.byte()
		kind := head & 15
		if kind == typeStop {
			return
		}
		if head>>4 == 0 {
			w.varint() // the field's number, when it is not the difference to the last
		}
		if kind != typeTrue && kind != typeFalse {
			w.value(kind, depth+1)
		}
	}
}

func (w *walker) value(kind byte, depth int) {
	if depth > maxDepth {
		w.fail()
		return
	}
	switch kind {
	case typeTrue, typeFalse, typeI8:
		w.skip(1)
	case typeI16, typeI32, typeI64:
		w.varint()
	case typeDouble:
		w.skip(8)
	case typeBinary:
		w.skip(w.varint())
	case typeList, typeSet:
		head := w.byte()
		n := uint64(head >> 4)
		if n == 15 {
			n = w.varint()
		}
		w.values(n, depth, head&15)
	case typeMap:
		n := w.varint()
		if n > 0 {
			kinds := w.byte()
			w.values(n, depth, kinds>>4, kinds&15)
		}
	case typeStruct:
		w.structure(depth)
	case typeUUID:
		w.skip(16)
	default:
		w.fail()
	}
}

// values passes over n values of each kind; each takes at least one byte.
func (w *walker) values(n uint64, depth int, kinds ...byte) {
	if n > uint64(len(w.b)) {
		w.fail()
		return
	}
	for ; n > 0 && !w.failed; n-- {
		for _, kind := range kinds {
			w.value(kind, depth+1)
		}
	}
}
