package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// checkPages walks a bolt file (format 2) before bolt maps it into memory. Bolt
// trusts what it finds there: a page that points at itself overflows its stack
// and a wrong free list makes it overwrite entries, neither of which can be
// recovered from. A file that is not there or empty is a new one.
func checkPages(path string) error {
	in, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	if err := walkPages(in, info.Size()); err != nil {
		return fmt.Errorf("%w: %w: move it away and fetch the ledger again from a peer", ErrDamaged, err)
	}
	return nil
}

const (
	pageHeaderSize = 16
	metaSize       = 64
	elementSize    = 16 // of branches and of leaves
	bucketSize     = 16 // root page and sequence
	maxDepth       = 16

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10
	bucketFlag   = 0x01
)

// pages is one walk.
type pages struct {
	in   io.ReaderAt
	high uint64          // page ids are below
	used map[uint64]bool // pages that something refers to
}

func walkPages(in io.ReaderAt, size int64) error {
	p := &pages{in: in, used: map[uint64]bool{0: true, 1: true}}
	var newest meta
	for id := range uint64(2) {
		m, err := p.meta(id)
		if err != nil {
			return err
		}
		if m.transaction >= newest.transaction {
			newest = m
		}
	}
	if newest.high < 3 || newest.high > uint64(size)/pageSize {
		return fmt.Errorf("%d pages in %d bytes", newest.high, size)
	}
	p.high = newest.high
	if err := p.tree(newest.root, span{}, 0, true); err != nil {
		return err
	}
	return p.free(newest.freelist)
}

// meta is one of the two header pages.
type meta struct {
	root, freelist, high, transaction uint64
}

// meta reads a header page. Both are whole in any file that bolt has written,
// since each fits one sector.
func (p *pages) meta(id uint64) (meta, error) {
	var b [pageHeaderSize + metaSize]byte
	if _, err := p.in.ReadAt(b[:], int64(id)*pageSize); err != nil {
		return meta{}, fmt.Errorf("header page %d: %w", id, err)
	}
	body := b[pageHeaderSize:]
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(body[at:]) }
	sum := fnv.New64a()
	sum.Write(body[:metaSize-8])
	head := parseHeader(b[:])
	if head.id != id || head.flags != metaPage || sum.Sum64() != word(56) ||
		binary.LittleEndian.Uint32(body) != 0xED0CDAED || binary.LittleEndian.Uint32(body[4:]) != 2 ||
		binary.LittleEndian.Uint32(body[8:]) != pageSize {
		return meta{}, fmt.Errorf("header page %d is not a ledger's", id)
	}
	return meta{root: word(16), freelist: word(32), high: word(40), transaction: word(48)}, nil
}

type pageHeader struct {
	id       uint64
	flags    uint16
	count    uint16
	overflow uint32
}

func parseHeader(b []byte) pageHeader {
	return pageHeader{
		id:       binary.LittleEndian.Uint64(b),
		flags:    binary.LittleEndian.Uint16(b[8:]),
		count:    binary.LittleEndian.Uint16(b[10:]),
		overflow: binary.LittleEndian.Uint32(b[12:]),
	}
}

// load reads a page with its overflow and takes its numbers.
func (p *pages) load(id uint64) (pageHeader, []byte, error) {
	if id < 2 || id >= p.high {
		return pageHeader{}, nil, fmt.Errorf("page %d of %d", id, p.high)
	}
	var b [pageHeaderSize]byte
	if _, err := p.in.ReadAt(b[:], int64(id)*pageSize); err != nil {
		return pageHeader{}, nil, fmt.Errorf("page %d: %w", id, err)
	}
	h := parseHeader(b[:])
	if h.id != id || uint64(h.overflow) >= p.high-id {
		return h, nil, fmt.Errorf("page %d says it is page %d with %d more", id, h.id, h.overflow)
	}
	for n := id; n <= id+uint64(h.overflow); n++ {
		if p.used[n] {
			return h, nil, fmt.Errorf("page %d is used twice", n)
		}
		p.used[n] = true
	}
	body := make([]byte, (int(h.overflow)+1)*pageSize)
	if _, err := p.in.ReadAt(body, int64(id)*pageSize); err != nil {
		return h, nil, fmt.Errorf("page %d: %w", id, err)
	}
	return h, body, nil
}

// span is the half-open range of keys that a page may hold; nil is unbounded.
type span struct{ from, to []byte }

// tree checks the page and all below it. Only the root tree holds buckets.
func (p *pages) tree(id uint64, keys span, depth int, buckets bool) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d is %d levels deep", id, depth)
	}
	h, body, err := p.load(id)
	if err != nil {
		return err
	}
	switch h.flags {
	case leafPage:
		return p.leaf(h, body, keys, depth, buckets)
	case branchPage:
		return p.branch(h, body, keys, depth, buckets)
	}
	return fmt.Errorf("page %d has type %#x", id, h.flags)
}

func (p *pages) branch(h pageHeader, body []byte, keys span, depth int, buckets bool) error {
	if h.count == 0 {
		return fmt.Errorf("page %d has no branches", h.id)
	}
	children := make([]uint64, h.count)
	bounds := make([][]byte, h.count)
	for i := range int(h.count) {
		at := pageHeaderSize + i*elementSize
		e, err := field(body, at, elementSize)
		if err != nil {
			return fmt.Errorf("page %d: %w", h.id, err)
		}
		children[i] = binary.LittleEndian.Uint64(e[8:])
		bounds[i], err = field(body, at+int(binary.LittleEndian.Uint32(e)), int(binary.LittleEndian.Uint32(e[4:])))
		if err != nil {
			return fmt.Errorf("page %d: %w", h.id, err)
		}
	}
	if err := ascending(bounds, keys); err != nil {
		return fmt.Errorf("page %d: %w", h.id, err)
	}
	for i, child := range children {
		below := span{bounds[i], keys.to}
		if i+1 < len(bounds) {
			below.to = bounds[i+1]
		}
		if err := p.tree(child, below, depth+1, buckets); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) leaf(h pageHeader, body []byte, keys span, depth int, buckets bool) error {
	names := make([][]byte, h.count)
	for i := range int(h.count) {
		at := pageHeaderSize + i*elementSize
		e, err := field(body, at, elementSize)
		if err != nil {
			return fmt.Errorf("page %d: %w", h.id, err)
		}
		word := func(at int) int { return int(binary.LittleEndian.Uint32(e[at:])) }
		key, err := field(body, at+word(4), word(8))
		if err != nil {
			return fmt.Errorf("page %d: %w", h.id, err)
		}
		value, err := field(body, at+word(4)+word(8), word(12))
		if err != nil {
			return fmt.Errorf("page %d: %w", h.id, err)
		}
		names[i] = key
		isBucket := word(0) == bucketFlag
		if isBucket != buckets || word(0)&^bucketFlag != 0 {
			return fmt.Errorf("page %d: element of type %#x", h.id, word(0))
		}
		if isBucket {
			if err := p.bucket(value, depth+1); err != nil {
				return fmt.Errorf("bucket %q: %w", key, err)
			}
		}
	}
	if err := ascending(names, keys); err != nil {
		return fmt.Errorf("page %d: %w", h.id, err)
	}
	return nil
}

// bucket checks a bucket: a tree of its own or, while small, one leaf inside
// the value.
func (p *pages) bucket(value []byte, depth int) error {
	if len(value) < bucketSize {
		return fmt.Errorf("header of %d bytes", len(value))
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return p.tree(root, span{}, depth, false)
	}
	inline := value[bucketSize:]
	if len(inline) < pageHeaderSize {
		return fmt.Errorf("inline page of %d bytes", len(inline))
	}
	h := parseHeader(inline)
	if h.flags != leafPage {
		return fmt.Errorf("inline page of type %#x", h.flags)
	}
	return p.leaf(h, inline, span{}, depth, false)
}

// free checks the list of free pages against those in use.
func (p *pages) free(id uint64) error {
	h, body, err := p.load(id)
	if err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	if h.flags != freelistPage {
		return fmt.Errorf("free list on a page of type %#x", h.flags)
	}
	ids := body[pageHeaderSize:]
	count := uint64(h.count)
	if count == 0xFFFF { // the true count comes first
		count = binary.LittleEndian.Uint64(ids)
		ids = ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("free list of %d pages in %d bytes", count, len(ids))
	}
	last := uint64(1)
	for i := range count {
		n := binary.LittleEndian.Uint64(ids[8*i:])
		if n <= last || n >= p.high || p.used[n] {
			return fmt.Errorf("free list: page %d after %d is in use or does not exist", n, last)
		}
		last = n
	}
	return nil
}

// field returns b[at:at+n] when it is there.
func field(b []byte, at, n int) ([]byte, error) {
	if at < 0 || n < 0 || at > len(b) || n > len(b)-at {
		return nil, fmt.Errorf("%d bytes at %d of %d", n, at, len(b))
	}
	return b[at : at+n], nil
}

// ascending checks that keys stand in order and inside their span.
func ascending(keys [][]byte, within span) error {
	for i, k := range keys {
		if len(k) == 0 || (i > 0 && bytes.Compare(k, keys[i-1]) <= 0) ||
			(within.from != nil && bytes.Compare(k, within.from) < 0) ||
			(within.to != nil && bytes.Compare(k, within.to) >= 0) {
			return fmt.Errorf("key %d, %.20x, is out of order", i, k)
		}
	}
	return nil
}
