package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Small blobs are written many to a file, so that a barrier costs two flushes,
// however many there are: a round ends in dozens of them.
const (
	smallBlob   = 1 << 20  // up to this size blobs are bundled
	spillAbove  = 16 << 20 // bytes of small blobs that may wait in memory for Sync
	cacheBytes  = 16 << 20 // bytes of small blobs kept in memory after it
	bundleMagic = "dunlinb1"
	bundleEntry = 32 + 4 // hash, length
	maxBundled  = 1 << 16
)

// bundle is one file of small blobs:
//
//	magic "dunlinb1" · count (4) · count × (hash (32) · length (4)) · the blobs' bytes, in that order
//
// with numbers in little-endian. It is complete on disk before it has its name.
type bundle struct {
	path  string
	size  int64 // of all blobs in it
	live  int64 // of those that are still in the store
	blobs map[Hash]*blob
}

// sparse reports whether most of the file is blobs that are gone.
func (b *bundle) sparse() bool { return b.live < b.size/2 }

func (d *Disk) bundles() string { return filepath.Join(d.root, "bundles") }

// scanBundles fills the index from the heads of bundles; content is checked by
// Get. Files that are no bundles are left alone.
func (d *Disk) scanBundles() error {
	entries, err := os.ReadDir(d.bundles())
	if err != nil {
		return err
	}
	// Newest first: where a blob is twice, the older copy was damaged, or the
	// process ended between the two halves of tidying.
	for _, e := range slices.Backward(entries) {
		number, err := strconv.ParseUint(e.Name(), 16, 64)
		if err != nil || len(e.Name()) != 16 || !e.Type().IsRegular() {
			continue
		}
		d.last = max(d.last, number)
		if err := d.scanBundle(filepath.Join(d.bundles(), e.Name())); err != nil {
			return err
		}
	}
	// A name that is seen may not be durable yet; what it names is.
	return SyncDir(d.bundles())
}

// scanBundle takes in one bundle. Blobs that a damaged head promises beyond the
// end of the file are not there; a file without any is removed.
func (d *Disk) scanBundle(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	in := &bundle{path: path, blobs: make(map[Hash]*blob)}
	head, at, err := readHead(f, info.Size())
	if err != nil {
		return err
	}
	for ; len(head) > 0; head = head[bundleEntry:] {
		h, size := Hash(head[:32]), int64(binary.LittleEndian.Uint32(head[32:]))
		if size > smallBlob || at+size > info.Size() {
			break
		}
		in.size += size
		if _, known := d.idx.blobs[h]; !known {
			b := d.idx.add(h, size)
			b.in, b.at, b.durable = in, at, true
			in.live += size
			in.blobs[h] = b
		}
		at += size
	}
	if len(in.blobs) == 0 {
		return os.Remove(path)
	}
	if in.sparse() {
		d.thin[in] = struct{}{}
	}
	return nil
}

// readHead returns the entries of a bundle's head and where its data begin.
func readHead(f io.Reader, size int64) (entries []byte, at int64, err error) {
	head := make([]byte, len(bundleMagic)+4)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:len(bundleMagic)]) != bundleMagic {
		return nil, 0, ignoreShort(err)
	}
	count := int64(binary.LittleEndian.Uint32(head[len(bundleMagic):]))
	at = int64(len(head)) + count*bundleEntry
	if count > maxBundled || at > size {
		return nil, 0, nil
	}
	entries = make([]byte, count*bundleEntry)
	_, err = io.ReadFull(f, entries)
	return entries, at, err
}

func ignoreShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// item is a small blob on its way into a bundle.
type item struct {
	hash Hash
	blob *blob
	data []byte
}

// writeBundle makes the items durable in one new file and returns it. The
// blobs' places in it are not set yet.
func (d *Disk) writeBundle(number uint64, items []item) (*bundle, error) {
	head := make([]byte, 0, len(bundleMagic)+4+len(items)*bundleEntry)
	head = append(head, bundleMagic...)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(items)))
	for _, i := range items {
		head = append(head, i.hash[:]...)
		head = binary.LittleEndian.AppendUint32(head, uint32(len(i.data)))
	}
	f, err := os.CreateTemp(d.tmp(), "bundle-")
	if err != nil {
		return nil, err
	}
	// One buffer and one write: the items are small and few calls are what counts.
	for _, i := range items {
		head = append(head, i.data...)
	}
	_, err = f.Write(head)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	path := filepath.Join(d.bundles(), fmt.Sprintf("%016x", number))
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	if err := SyncDir(d.bundles()); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &bundle{path: path, blobs: make(map[Hash]*blob, len(items))}, nil
}

// flushSmall writes what waits in memory, and what is left of bundles that are
// mostly dead, to a new bundle. The caller holds d.flushing, so nothing else
// writes bundles meanwhile.
func (d *Disk) flushSmall() error {
	d.mu.Lock()
	items, thin, err := d.gather()
	d.last++
	number := d.last
	d.mu.Unlock()
	if err != nil || len(items) == 0 {
		return err
	}
	for len(items) > 0 {
		n := min(len(items), maxBundled)
		in, err := d.writeBundle(number, items[:n])
		if err != nil {
			return fmt.Errorf("sync %d blobs: %w", len(items), err)
		}
		d.mu.Lock()
		err = d.settle(in, items[:n])
		d.last++
		number = d.last
		d.mu.Unlock()
		if err != nil {
			return err
		}
		items = items[n:]
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, in := range thin {
		delete(d.thin, in)
	}
	return nil
}

// gather lists what a new bundle should hold. The caller holds d.mu.
func (d *Disk) gather() (items []item, thin []*bundle, err error) {
	for h, b := range d.waiting {
		items = append(items, item{h, b, b.data})
	}
	for in := range d.thin {
		thin = append(thin, in)
		for h, b := range in.blobs {
			data, err := d.read(b)
			if errors.Is(err, fs.ErrNotExist) || err == nil && HashLeaf(data) != h {
				continue // Get will find and say so
			}
			if err != nil {
				return nil, nil, fmt.Errorf("tidy bundle: %w", err)
			}
			items = append(items, item{h, b, data})
		}
	}
	return items, thin, nil
}

// settle gives the blobs of a new bundle their place. The caller holds d.mu.
func (d *Disk) settle(in *bundle, items []item) error {
	at := int64(len(bundleMagic) + 4 + len(items)*bundleEntry)
	var errs []error
	for _, i := range items {
		size := int64(len(i.data))
		in.size += size
		if d.idx.blobs[i.hash] == i.blob { // not removed meanwhile
			if i.blob.in != nil {
				errs = append(errs, d.leave(i.hash, i.blob))
			}
			i.blob.in, i.blob.at, i.blob.durable = in, at, true
			in.blobs[i.hash] = i.blob
			in.live += size
			if d.waiting[i.hash] == i.blob {
				delete(d.waiting, i.hash)
				d.unwritten -= size
				d.remember(i.hash, i.blob)
			}
		}
		at += size
	}
	if len(in.blobs) == 0 {
		errs = append(errs, os.Remove(in.path))
	}
	return errors.Join(errs...)
}

// leave takes a blob out of its bundle, whose file goes with its last one. The
// caller holds d.mu.
func (d *Disk) leave(h Hash, b *blob) error {
	in := b.in
	b.in = nil
	delete(in.blobs, h)
	in.live -= b.size
	if len(in.blobs) > 0 {
		if in.sparse() {
			d.thin[in] = struct{}{}
		}
		return nil
	}
	delete(d.thin, in)
	if err := os.Remove(in.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove bundle: %w", err)
	}
	return nil
}

// remember keeps a small blob's bytes in memory for a while after they were
// written: results are read by others right after. The caller holds d.mu.
func (d *Disk) remember(h Hash, b *blob) {
	d.cached = append(d.cached, h)
	d.cachedBytes += b.size
	for d.cachedBytes > cacheBytes {
		old := d.cached[0]
		d.cached = d.cached[1:]
		if c, ok := d.idx.blobs[old]; ok && c.data != nil && d.waiting[old] != c {
			d.cachedBytes -= c.size
			c.data = nil
		}
	}
}

// read returns the bytes of a blob in a bundle, unchecked. The caller holds d.mu.
func (d *Disk) read(b *blob) ([]byte, error) {
	f, err := os.Open(b.in.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, b.size)
	n, err := f.ReadAt(data, b.at)
	return data[:n], ignoreShort(err)
}
