package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Hash is the address of a blob. It is an alias for the array type, so a hash
// of package wire is accepted wherever a Hash is, without conversion.
type Hash = [sha256.Size]byte

// MaxBlob is the largest blob a store takes or gives, in bytes. The biggest
// unit that travels is a slab of a checkpoint, well below it.
const MaxBlob = 64 << 20

// Errors that callers branch on.
var (
	// ErrNotFound says that the store has no blob of that hash.
	ErrNotFound = errors.New("not in the store")
	// ErrCorrupt says that the bytes on disk no longer match their hash. The
	// blob has been removed and can be fetched again from another holder.
	ErrCorrupt = errors.New("bytes do not match their hash")
	// ErrFull says that the quota is reached and nothing may be removed.
	ErrFull = errors.New("store is full")
	// ErrTooLarge says that a blob is larger than MaxBlob or than the caller's
	// bound.
	ErrTooLarge = errors.New("blob is too large")
)

// Store holds blobs by content hash. All methods may be called from several
// goroutines at once.
type Store interface {
	// Put stores data (at most MaxBlob bytes) and returns its address. Storing
	// the same bytes again costs nothing. Until Sync the bytes need not survive
	// a crash.
	Put(data []byte) (Hash, error)
	// PutDurable is Put and Sync of this blob.
	PutDurable(data []byte) (Hash, error)
	// Sync returns when everything put before it survives a crash of the
	// machine.
	Sync() error
	// Get returns a copy of a blob of at most limit bytes (limit < 1: MaxBlob).
	// It fails with ErrNotFound, ErrTooLarge, or ErrCorrupt.
	Get(h Hash, limit int) ([]byte, error)
	// Has reports whether a blob is there, without reading it.
	Has(h Hash) bool
	// Pin keeps blobs for owner until Unpin. Pinning a hash that is not there
	// yet is allowed: it protects the blob from the moment it arrives. A hash
	// may have many owners and is counted once for each.
	Pin(owner string, hashes ...Hash)
	// Unpin drops owner's pins of hashes, or all of them when none is named.
	Unpin(owner string, hashes ...Hash)
	// Collect removes unpinned blobs, longest unused first, until the quota
	// holds, and returns the bytes freed. The first call is the owners' word
	// that their pins are in place; from then on Put makes room by itself.
	Collect() (int64, error)
	// Usage tells how much is stored.
	Usage() Usage
}

// Usage is a store's occupancy.
type Usage struct {
	Blobs  int   // number of blobs
	Bytes  int64 // sum of their sizes
	Pinned int64 // bytes that at least one owner pins
	Quota  int64 // the limit in bytes, 0 when there is none
}

// HashLeaf returns the address of data: SHA-256(0x00 ‖ data), the leaf hash of
// the run's Merkle trees (docs/formats.md).
func HashLeaf(data []byte) Hash {
	d := sha256.New()
	d.Write([]byte{0})
	d.Write(data)
	var h Hash
	d.Sum(h[:0])
	return h
}

// short is a hash as error messages show it.
func short(h Hash) string { return hex.EncodeToString(h[:6]) }

// checkSize refuses a blob that no reader would accept.
func checkSize(n int) error {
	if n > MaxBlob {
		return fmt.Errorf("put %d bytes: %w: at most %d", n, ErrTooLarge, MaxBlob)
	}
	return nil
}

// bound turns a caller's limit into the one that holds.
func bound(limit int) int64 {
	if limit < 1 || limit > MaxBlob {
		return MaxBlob
	}
	return int64(limit)
}
