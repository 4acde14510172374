package store

import (
	"cmp"
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

// Small blobs are written many to a file, so that a barrier costs one flush,
// however many there are: a round ends in dozens of them.
const (
	smallBlob   = 1 << 20  // up to this size blobs are bundled
	spillAbove  = 16 << 20 // bytes of small blobs that may wait in memory for Sync
	cacheBytes  = 16 << 20 // bytes of small blobs kept in memory after it
	bundleFull  = 4 << 20  // and this is what a bundle grows to
	tidyAtOnce  = 4        // bundles that are written anew in one flush because the disk is full
	batchMagic  = "dunlinb1"
	batchHead   = len(batchMagic) + 4
	bundleEntry = 32 + 4 // hash, length
	maxBatch    = 1 << 16
)

// bundle is one file of small blobs, a sequence of batches, one for each flush:
//
//	magic "dunlinb1" · count (4) · count × (hash (32) · length (4)) · the blobs' bytes, in that order
//
// with numbers in little-endian. Only the process that made a file adds to it;
// what a crash left at its end is found out by the blobs' hashes.
type bundle struct {
	path  string
	file  *os.File // open for the next batch; nil when no more are taken
	end   int64    // where the next batch goes
	size  int64    // of all blobs in it
	live  int64    // of those that are still in the store
	blobs map[Hash]*blob
}

// sparse reports whether most of the file is blobs that are gone.
func (b *bundle) sparse() bool { return b.live < b.size/2 }

// holed reports whether an eighth of the file is, which is worth a copy of the
// rest once the quota is reached.
func (b *bundle) holed() bool { return b.live < b.size/8*7 }

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

// scanBundle takes in one bundle, up to the first batch that is not whole. A
// file without any blob is removed.
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
	for at := int64(0); at < info.Size(); {
		next, err := d.scanBatch(in, f, at, info.Size())
		if err != nil {
			return err
		}
		if next == 0 {
			break
		}
		at = next
	}
	if len(in.blobs) == 0 {
		return os.Remove(path)
	}
	d.full[in] = struct{}{}
	d.dead += in.size - in.live
	return nil
}

// scanBatch takes in the batch at an offset and returns where the next one
// begins, or 0 when there can be none.
func (d *Disk) scanBatch(in *bundle, f io.ReaderAt, at, size int64) (next int64, err error) {
	head := make([]byte, batchHead)
	if n, err := f.ReadAt(head, at); n < len(head) || string(head[:len(batchMagic)]) != batchMagic {
		return 0, ignoreShort(err)
	}
	count := int64(binary.LittleEndian.Uint32(head[len(batchMagic):]))
	at += int64(batchHead)
	if count > maxBatch || at+count*bundleEntry > size {
		return 0, nil
	}
	entries := make([]byte, count*bundleEntry)
	if n, err := f.ReadAt(entries, at); n < len(entries) {
		return 0, ignoreShort(err)
	}
	at += int64(len(entries))
	for ; len(entries) > 0; entries = entries[bundleEntry:] {
		h, length := Hash(entries[:32]), int64(binary.LittleEndian.Uint32(entries[32:]))
		if length > smallBlob || at+length > size {
			return 0, nil
		}
		in.size += length
		if _, known := d.idx.blobs[h]; !known {
			b := d.idx.add(h, length)
			b.in, b.at, b.durable = in, at, true
			in.live += length
			in.blobs[h] = b
		}
		at += length
	}
	return at, nil
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

// append makes the items durable as one batch at the end of the newest bundle,
// or of a new one, and returns it and where their bytes begin. The blobs'
// places are not set yet. The caller holds d.flushing.
func (d *Disk) append(items []item) (in *bundle, at int64, err error) {
	length := batchHead + len(items)*bundleEntry
	for _, i := range items {
		length += len(i.data)
	}
	batch := make([]byte, 0, length) // one buffer and one write: few calls are what counts
	batch = append(batch, batchMagic...)
	batch = binary.LittleEndian.AppendUint32(batch, uint32(len(items)))
	for _, i := range items {
		batch = append(batch, i.hash[:]...)
		batch = binary.LittleEndian.AppendUint32(batch, uint32(len(i.data)))
	}
	at = int64(len(batch))
	for _, i := range items {
		batch = append(batch, i.data...)
	}
	fresh := d.newest == nil
	if fresh {
		if err := d.openBundle(); err != nil {
			return nil, 0, err
		}
	}
	in = d.newest
	at += in.end
	_, err = in.file.WriteAt(batch, in.end)
	if err == nil {
		err = in.file.Sync()
	}
	if err == nil && fresh {
		err = SyncDir(d.bundles())
	}
	if err != nil {
		return nil, 0, errors.Join(err, d.closeBundle()) // its end is not known any more
	}
	in.end += int64(len(batch))
	if in.end >= d.fullAt {
		err = d.closeBundle()
	}
	return in, at, err
}

// openBundle makes the file that the next batches go to.
func (d *Disk) openBundle() error {
	d.mu.Lock()
	d.last++
	path := filepath.Join(d.bundles(), fmt.Sprintf("%016x", d.last))
	d.mu.Unlock()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	d.newest = &bundle{path: path, file: f, blobs: make(map[Hash]*blob)}
	return nil
}

// closeBundle has the newest bundle take no more batches.
func (d *Disk) closeBundle() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.newest
	err := in.file.Close()
	d.newest, in.file = nil, nil
	if in.end == 0 { // nothing in it counts
		return errors.Join(err, os.Remove(in.path))
	}
	d.full[in] = struct{}{}
	return err
}

// flushSmall writes what waits in memory, and what is left of bundles that are
// mostly dead, to the newest bundle. The caller holds d.flushing, so nothing else
// writes bundles meanwhile.
func (d *Disk) flushSmall() error {
	d.mu.Lock()
	items, thin, err := d.gather()
	d.mu.Unlock()
	for err == nil && len(items) > 0 {
		n := min(len(items), maxBatch)
		in, at, failed := d.append(items[:n])
		if failed != nil {
			return fmt.Errorf("sync %d blobs: %w", len(items), failed)
		}
		d.mu.Lock()
		err = d.settle(in, at, items[:n])
		d.mu.Unlock()
		items = items[n:]
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, in := range thin {
		_, still := d.full[in]
		delete(d.full, in) // what is left in it is damaged
		if still && len(in.blobs) == 0 {
			errs = append(errs, d.unlink(in))
		}
	}
	return errors.Join(errs...)
}

// tidy lists the bundles to write anew: those of which most is gone, and where
// blobs and what is left of others would exceed the quota, the emptiest. The
// caller holds d.mu.
func (d *Disk) tidy() []*bundle {
	var thin, holed []*bundle
	over := d.idx.over(d.dead)
	for in := range d.full {
		switch {
		case in.sparse():
			thin = append(thin, in)
			over -= in.size - in.live
		case in.holed():
			holed = append(holed, in)
		}
	}
	slices.SortFunc(holed, func(a, b *bundle) int { return cmp.Compare(a.live*b.size, b.live*a.size) })
	for _, in := range holed[:min(len(holed), tidyAtOnce)] {
		if over > 0 {
			thin = append(thin, in)
			over -= in.size - in.live
		}
	}
	return thin
}

// gather lists what the next batch should hold, and the bundles that are empty then. The caller holds d.mu.
func (d *Disk) gather() (items []item, thin []*bundle, err error) {
	for h, b := range d.waiting {
		items = append(items, item{h, b, b.data})
	}
	thin = d.tidy()
	for _, in := range thin {
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

// settle gives the blobs of a new batch their place. The caller holds d.mu.
func (d *Disk) settle(in *bundle, at int64, items []item) error {
	var errs []error
	for _, i := range items {
		size := int64(len(i.data))
		in.size += size
		d.dead += size
		if d.idx.blobs[i.hash] == i.blob { // not removed meanwhile
			if i.blob.in != nil {
				errs = append(errs, d.leave(i.hash, i.blob))
			}
			i.blob.in, i.blob.at, i.blob.durable = in, at, true
			in.blobs[i.hash] = i.blob
			in.live += size
			d.dead -= size
			if d.waiting[i.hash] == i.blob {
				delete(d.waiting, i.hash)
				d.unwritten -= size
				d.remember(i.hash, i.blob)
			}
		}
		at += size
	}
	return errors.Join(errs...)
}

// leave takes a blob out of its bundle, whose file goes with its last one, once
// it takes no more. The caller holds d.mu.
func (d *Disk) leave(h Hash, b *blob) error {
	in := b.in
	b.in = nil
	delete(in.blobs, h)
	in.live -= b.size
	d.dead += b.size
	if len(in.blobs) > 0 || in.file != nil {
		return nil
	}
	return d.unlink(in)
}

// unlink deletes an empty bundle's file, unless it is gone. The caller holds d.mu.
func (d *Disk) unlink(in *bundle) error {
	delete(d.full, in)
	d.dead -= in.size
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
