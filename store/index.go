package store

import (
	"cmp"
	"fmt"
	"slices"
)

// index is the bookkeeping that both stores share: what is there, what is
// pinned, what was used when, and what may go. It is not safe for concurrent
// use; its store holds the lock.
type index struct {
	quota      int64
	collecting bool // the owners' pins are in place, so making room is allowed
	bytes      int64
	clock      uint64 // counts uses; a blob's last use orders collection
	blobs      map[Hash]*blob
	pins       map[string]map[Hash]struct{} // owner -> hashes
	pinned     map[Hash]int                 // hash -> number of owners
}

type blob struct {
	size int64
	used uint64
	// A blob found by Open is neither: its bytes may have been cut short by a
	// crash, and a Get may be answered from memory that no disk has seen.
	verified bool // the bytes were seen to match the hash
	durable  bool // they were flushed by this process
	// Of small blobs on disk.
	data []byte  // their bytes, while they wait for a bundle and a while after; nil otherwise
	in   *bundle // the file they are in; nil for other blobs and before the first flush
	at   int64   // where in it
}

func newIndex(quota int64) index {
	return index{
		quota:  quota,
		blobs:  make(map[Hash]*blob),
		pins:   make(map[string]map[Hash]struct{}),
		pinned: make(map[Hash]int),
	}
}

func (x *index) add(h Hash, size int64) *blob {
	x.clock++
	b := &blob{size: size, used: x.clock}
	x.blobs[h] = b
	x.bytes += size
	return b
}

func (x *index) drop(h Hash) {
	if b, ok := x.blobs[h]; ok {
		x.bytes -= b.size
		delete(x.blobs, h)
	}
}

// touch marks a use and reports whether the blob is there.
func (x *index) touch(h Hash) (*blob, bool) {
	b, ok := x.blobs[h]
	if ok {
		x.clock++
		b.used = x.clock
	}
	return b, ok
}

func (x *index) pin(owner string, hashes []Hash) {
	set := x.pins[owner]
	if set == nil {
		set = make(map[Hash]struct{}, len(hashes))
		x.pins[owner] = set
	}
	for _, h := range hashes {
		if _, ok := set[h]; !ok {
			set[h] = struct{}{}
			x.pinned[h]++
		}
	}
}

func (x *index) unpin(owner string, hashes []Hash) {
	set := x.pins[owner]
	if len(hashes) == 0 {
		for h := range set {
			x.release(h)
		}
		delete(x.pins, owner)
		return
	}
	for _, h := range hashes {
		if _, ok := set[h]; ok {
			delete(set, h)
			x.release(h)
		}
	}
	if len(set) == 0 {
		delete(x.pins, owner)
	}
}

func (x *index) release(h Hash) {
	if x.pinned[h]--; x.pinned[h] == 0 {
		delete(x.pinned, h)
	}
}

// over is the number of bytes above the quota if extra bytes were added.
func (x *index) over(extra int64) int64 {
	if x.quota <= 0 {
		return 0
	}
	return max(0, x.bytes+extra-x.quota)
}

// victims lists unpinned blobs, longest unused first, whose sizes add up to at
// least need, or as far as they go.
func (x *index) victims(need int64) []Hash {
	if need <= 0 {
		return nil
	}
	var free []Hash
	for h := range x.blobs {
		if x.pinned[h] == 0 {
			free = append(free, h)
		}
	}
	slices.SortFunc(free, func(a, b Hash) int { return cmp.Compare(x.blobs[a].used, x.blobs[b].used) })
	for i, h := range free {
		if need -= x.blobs[h].size; need <= 0 {
			return free[:i+1]
		}
	}
	return free
}

// makeRoom frees space for extra bytes through remove, or fails with ErrFull
// without having removed anything.
func (x *index) makeRoom(extra int64, remove func(Hash) error) error {
	need := x.over(extra)
	if need == 0 {
		return nil
	}
	var gone []Hash
	if x.collecting {
		gone = x.victims(need)
	}
	left := need
	for _, h := range gone {
		left -= x.blobs[h].size
	}
	if left > 0 {
		return fmt.Errorf("%w: %d bytes of %d are used and kept, %d more do not fit: allow more with --disk",
			ErrFull, x.bytes, x.quota, extra)
	}
	_, err := x.removeAll(gone, remove)
	return err
}

func (x *index) removeAll(hashes []Hash, remove func(Hash) error) (freed int64, err error) {
	for _, h := range hashes {
		if err := remove(h); err != nil {
			return freed, err
		}
		freed += x.blobs[h].size
		x.drop(h)
	}
	return freed, nil
}

func (x *index) usage() Usage {
	u := Usage{Blobs: len(x.blobs), Bytes: x.bytes, Quota: x.quota}
	for h := range x.pinned {
		if b, ok := x.blobs[h]; ok {
			u.Pinned += b.size
		}
	}
	return u
}
