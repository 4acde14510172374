package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
)

// Disk is a Store in a folder: small blobs many to a file in bundles/, the
// others one to a file, blobs/<2 hex>/<64 hex>, and tmp/ for files being
// written. One process owns the folder at a time; the caller holds the lock of
// the data folder.
type Disk struct {
	root string

	flushing sync.Mutex // one flush at a time: a second finds the first's work done
	newest   *bundle    // that batches are added to, or nil; changed under flushing alone

	mu        sync.Mutex
	idx       index
	pending   map[Hash]*blob       // files put since Open and not yet flushed
	waiting   map[Hash]*blob       // small blobs in memory that no bundle has yet
	unwritten int64                // their bytes
	full      map[*bundle]struct{} // bundles that take no more batches
	dead      int64                // bytes in bundles of blobs that are gone
	last      uint64               // number of the newest bundle
	small     int                  // blobs up to this size are bundled
	fullAt    int64                // a bundle of this size takes no more batches

	cached      []Hash // small blobs kept in memory after they were written, oldest first
	cachedBytes int64
}

var _ Store = (*Disk)(nil)

// Open opens or makes the store in folder root with a quota in bytes (0: no
// limit). Files left behind by a crash are removed; files that are not blobs
// are left alone.
func Open(root string, quota int64) (*Disk, error) { return openDisk(root, quota, smallBlob) }

func openDisk(root string, quota int64, small int) (*Disk, error) {
	d := &Disk{
		root: root, idx: newIndex(quota), pending: make(map[Hash]*blob), waiting: make(map[Hash]*blob), full: make(map[*bundle]struct{}),
		small: small, fullAt: bundleFull,
	}
	if err := os.RemoveAll(d.tmp()); err != nil {
		return nil, fmt.Errorf("open store: clean temporary files: %w", err)
	}
	for _, dir := range []string{d.tmp(), d.blobs(), d.bundles()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open store: make folder: %w", err)
		}
	}
	if err := errors.Join(d.scan(), d.scanBundles(), SyncDir(d.root)); err != nil {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	return d, nil
}

func (d *Disk) tmp() string   { return filepath.Join(d.root, "tmp") }
func (d *Disk) blobs() string { return filepath.Join(d.root, "blobs") }

func (d *Disk) path(h Hash) string {
	name := hex.EncodeToString(h[:])
	return filepath.Join(d.blobs(), name[:2], name)
}

// scan fills the index from file names and sizes; content is checked by Get.
func (d *Disk) scan() error {
	return filepath.WalkDir(d.blobs(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		h, ok := parseName(e.Name())
		if !ok || path != d.path(h) {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Size() > MaxBlob {
			return os.Remove(path)
		}
		d.idx.add(h, info.Size())
		return nil
	})
}

func parseName(name string) (Hash, bool) {
	var h Hash
	if len(name) != 2*len(h) {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(name))
	return h, err == nil
}

// Put implements Store.
func (d *Disk) Put(data []byte) (Hash, error) {
	if err := checkSize(len(data)); err != nil {
		return Hash{}, err
	}
	h := HashLeaf(data)
	if len(data) <= d.small {
		return h, d.putSmall(h, data)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	b, known := d.idx.touch(h)
	if !known {
		if err := d.idx.makeRoom(int64(len(data)), d.remove); err != nil {
			return Hash{}, err
		}
	}
	if !known || !b.verified {
		if err := d.write(h, data); err != nil {
			return Hash{}, fmt.Errorf("put %s: %w", short(h), err)
		}
		d.idx.drop(h) // of a blob found by Open, the size may have been wrong too
		b = d.idx.add(h, int64(len(data)))
		b.verified = true
	}
	if !b.durable {
		d.pending[h] = b
	}
	return h, nil
}

// putSmall keeps a small blob in memory until the next flush, or makes one when
// too much waits.
func (d *Disk) putSmall(h Hash, data []byte) error {
	d.mu.Lock()
	b, known := d.idx.touch(h)
	var err error
	switch {
	case known && b.verified:
	case known: // found by Open, perhaps damaged: these bytes take its place
		if err = d.remove(h); err == nil {
			d.idx.drop(h)
			d.wait(h, data)
		}
	default:
		if err = d.idx.makeRoom(int64(len(data)), d.remove); err == nil {
			d.wait(h, data)
		}
	}
	spill := d.unwritten > spillAbove
	d.mu.Unlock()
	if err != nil || !spill {
		return err
	}
	return d.Sync()
}

// wait adds a small blob that no bundle has yet. The caller holds d.mu.
func (d *Disk) wait(h Hash, data []byte) {
	b := d.idx.add(h, int64(len(data)))
	b.verified, b.data = true, bytes.Clone(data)
	if b.data == nil {
		b.data = []byte{}
	}
	d.waiting[h] = b
	d.unwritten += b.size
}

func (d *Disk) write(h Hash, data []byte) error {
	f, err := os.CreateTemp(d.tmp(), "blob-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		path := d.path(h)
		err = os.Rename(f.Name(), path)
		if errors.Is(err, fs.ErrNotExist) { // the first blob of this folder
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				err = os.Rename(f.Name(), path)
			}
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// PutDurable implements Store.
func (d *Disk) PutDurable(data []byte) (Hash, error) {
	h, err := d.Put(data)
	if err != nil {
		return Hash{}, err
	}
	d.flushing.Lock()
	defer d.flushing.Unlock()
	d.mu.Lock()
	dirty := make(map[Hash]*blob, 1)
	if b, ok := d.pending[h]; ok {
		dirty[h] = b
	}
	_, waits := d.waiting[h]
	d.mu.Unlock()
	if waits {
		return h, d.flushSmall()
	}
	return h, d.flush(dirty)
}

// Sync implements Store. Other calls go on while it waits for the disk.
func (d *Disk) Sync() error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	d.mu.Lock()
	dirty := maps.Clone(d.pending)
	d.mu.Unlock()
	return errors.Join(d.flushSmall(), d.flush(dirty))
}

// flush makes blobs and the folders that name them durable. A blob counts as
// flushed only after its folder is, so a failure leaves it pending.
func (d *Disk) flush(dirty map[Hash]*blob) error {
	if len(dirty) == 0 {
		return nil
	}
	dirs := map[string]struct{}{d.blobs(): {}}
	for h := range dirty {
		err := syncFile(d.path(h))
		if errors.Is(err, fs.ErrNotExist) { // collected meanwhile
			continue
		}
		if err != nil {
			return fmt.Errorf("sync %s: %w", short(h), err)
		}
		dirs[filepath.Dir(d.path(h))] = struct{}{}
	}
	for dir := range dirs {
		if err := SyncDir(dir); err != nil {
			return fmt.Errorf("sync store folder: %w", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for h, b := range dirty {
		if d.pending[h] == b { // not removed and put again meanwhile
			delete(d.pending, h)
			b.durable = true
		}
	}
	return nil
}

// Get implements Store.
func (d *Disk) Get(h Hash, limit int) ([]byte, error) {
	d.mu.Lock()
	b, ok := d.idx.touch(h)
	var f *os.File
	var err error
	if ok && b.size <= bound(limit) && (b.data != nil || b.in != nil) {
		defer d.mu.Unlock()
		return d.getSmall(h, b)
	}
	if ok && b.size <= bound(limit) {
		f, err = os.Open(d.path(h)) // opened under the lock: collection cannot come between
		if errors.Is(err, fs.ErrNotExist) {
			d.idx.drop(h)
			ok = false
		}
	}
	d.mu.Unlock()
	switch {
	case !ok:
		return nil, fmt.Errorf("get %s: %w", short(h), ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("get %s: %w", short(h), err)
	case f == nil:
		return nil, fmt.Errorf("get %s: %w: %d bytes, at most %d asked for", short(h), ErrTooLarge, b.size, bound(limit))
	}
	defer f.Close()
	// One byte more than expected shows a file that has grown.
	data, err := io.ReadAll(io.LimitReader(f, b.size+1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", short(h), err)
	}
	if HashLeaf(data) != h {
		return nil, d.discard(h, b)
	}
	d.mu.Lock()
	b.verified = true
	d.mu.Unlock()
	return data, nil
}

// getSmall returns a small blob from memory or out of its bundle. The caller
// holds d.mu.
func (d *Disk) getSmall(h Hash, b *blob) ([]byte, error) {
	if b.data != nil {
		return append([]byte{}, b.data...), nil
	}
	data, err := d.read(b)
	if errors.Is(err, fs.ErrNotExist) {
		err = d.remove(h)
		d.idx.drop(h)
		return nil, errors.Join(fmt.Errorf("get %s: %w", short(h), ErrNotFound), err)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", short(h), err)
	}
	if HashLeaf(data) != h {
		return nil, d.discarded(h, b)
	}
	b.verified = true
	return data, nil
}

// discard removes a blob whose bytes are wrong, so that it can be fetched anew.
func (d *Disk) discard(h Hash, b *blob) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.discarded(h, b)
}

func (d *Disk) discarded(h Hash, b *blob) error {
	var err error
	if d.idx.blobs[h] == b { // not put again meanwhile
		err = d.remove(h)
		d.idx.drop(h)
	}
	return errors.Join(fmt.Errorf("get %s: %w: removed it, fetch it again from another holder", short(h), ErrCorrupt), err)
}

// remove deletes a blob's file; the caller holds the lock and keeps the index.
func (d *Disk) remove(h Hash) error {
	if b := d.idx.blobs[h]; b != nil && (b.data != nil || b.in != nil) {
		return d.removeSmall(h, b)
	}
	delete(d.pending, h)
	if err := os.Remove(d.path(h)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// removeSmall takes a small blob out of memory and out of its bundle.
func (d *Disk) removeSmall(h Hash, b *blob) error {
	switch {
	case d.waiting[h] == b:
		delete(d.waiting, h)
		d.unwritten -= b.size
	case b.data != nil:
		d.cachedBytes -= b.size // its name among the cached ones goes with its turn
	}
	b.data = nil
	if b.in == nil {
		return nil
	}
	return d.leave(h, b)
}

// Has implements Store.
func (d *Disk) Has(h Hash) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.idx.blobs[h]
	return ok
}

// Pin implements Store.
func (d *Disk) Pin(owner string, hashes ...Hash) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idx.pin(owner, hashes)
}

// Unpin implements Store.
func (d *Disk) Unpin(owner string, hashes ...Hash) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idx.unpin(owner, hashes)
}

// Collect implements Store.
func (d *Disk) Collect() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idx.collecting = true
	return d.idx.removeAll(d.idx.victims(d.idx.over(0)), d.remove)
}

// Usage implements Store.
func (d *Disk) Usage() Usage {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.idx.usage()
}
