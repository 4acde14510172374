package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"dunlin/wire"
)

// file is the ledger's bolt database:
//
//	meta     format, run, term, fork
//	entries  height, 8 bytes big-endian -> record
//
// A record is the first 8 bytes of the SHA-256 of the canonical bytes of the
// certified entry, then those bytes: bolt does not notice altered values.
type file struct {
	db *bolt.DB
}

var (
	metaBucket  = []byte("meta")
	entryBucket = []byte("entries")
	formatKey   = []byte("format")
	runKey      = []byte("run")
	termKey     = []byte("term")
	forkKey     = []byte("fork")
)

const (
	fileFormat   = 1
	checksumSize = 8
	// pageSize is fixed so that a file means the same on every machine.
	pageSize = 4096
	// openTimeout is how long to wait for another process to let go.
	openTimeout = 500 * time.Millisecond
)

func openFile(path string, run wire.Hash) (*file, error) {
	if err := checkPages(path); err != nil {
		return nil, err
	}
	f := new(file)
	err := guarded(func() error {
		db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: openTimeout, PageSize: pageSize})
		if errors.Is(err, berrors.ErrTimeout) {
			return fmt.Errorf("another process has it open: stop that one first: %w", err)
		}
		f.db = db
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := f.identify(run); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// identify checks the header of a file, or writes it into a new one.
func (f *file) identify(run wire.Hash) error {
	fresh := false
	err := f.view(func(tx *bolt.Tx) error {
		meta, entries := tx.Bucket(metaBucket), tx.Bucket(entryBucket)
		if meta == nil && entries == nil {
			fresh = true
			return nil
		}
		if meta == nil || entries == nil {
			return fmt.Errorf("%w: a part of it is missing", ErrDamaged)
		}
		format, err := number(meta, formatKey)
		if err != nil {
			return err
		}
		if format != fileFormat {
			return fmt.Errorf("it has format %d, this program reads %d: use the release that wrote it", format, fileFormat)
		}
		if have := meta.Get(runKey); !bytes.Equal(have, run[:]) {
			return fmt.Errorf("it belongs to run %.4x…, not to %s: name another data folder", have, run.Short())
		}
		return nil
	})
	if err != nil || !fresh {
		return err
	}
	return f.update(func(tx *bolt.Tx) error { return create(tx, run) })
}

func create(tx *bolt.Tx, run wire.Hash) error {
	if name, _ := tx.Cursor().First(); name != nil {
		return fmt.Errorf("%w: it holds something else", ErrDamaged)
	}
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	_, err = tx.CreateBucket(entryBucket)
	return errors.Join(err, meta.Put(runKey, run[:]), putNumber(meta, formatKey, fileFormat))
}

func (f *file) close() error {
	return guarded(f.db.Close)
}

func (f *file) copyTo(w io.Writer) error {
	return f.view(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// each calls visit for every entry up to a height, ascending.
func (f *file) each(last uint64, visit func(height uint64, e *wire.Certified) error) error {
	return f.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(entryBucket).Cursor()
		for key, record := c.First(); key != nil; key, record = c.Next() {
			if len(key) != 8 {
				return fmt.Errorf("%w: entry with a key of %d bytes", ErrDamaged, len(key))
			}
			height := binary.BigEndian.Uint64(key)
			if height > last {
				return nil
			}
			e, err := decodeRecord(height, record)
			if err != nil {
				return err
			}
			if err := visit(height, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *file) get(height uint64) (*wire.Certified, error) {
	e, _, err := f.read(height)
	return e, err
}

// read returns an entry and the length of its bytes.
func (f *file) read(height uint64) (e *wire.Certified, size int, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		record := tx.Bucket(entryBucket).Get(heightKey(height))
		size = len(record)
		e, err = decodeRecord(height, record)
		return err
	})
	return e, size, err
}

// put stores entries, durably when it returns.
func (f *file) put(entries []wire.Certified) error {
	return f.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(entryBucket)
		b.FillPercent = 1 // heights only grow
		for i := range entries {
			if err := b.Put(heightKey(entries[i].Entry.Height), encodeRecord(&entries[i])); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *file) term() (term uint64, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		term, err = number(tx.Bucket(metaBucket), termKey)
		return err
	})
	return term, err
}

func (f *file) setTerm(term uint64) error {
	return f.update(func(tx *bolt.Tx) error { return putNumber(tx.Bucket(metaBucket), termKey, term) })
}

// fork returns the fork that an earlier process met, so that a restart does not
// forget it.
func (f *file) fork() (forked *ForkError, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(metaBucket).Get(forkKey)
		if b == nil {
			return nil
		}
		if len(b) != 72 {
			return fmt.Errorf("%w: note of a fork with %d bytes", ErrDamaged, len(b))
		}
		forked = &ForkError{Height: binary.BigEndian.Uint64(b), Ours: wire.Hash(b[8:40]), Theirs: wire.Hash(b[40:])}
		return nil
	})
	return forked, err
}

func (f *file) setFork(forked *ForkError) error {
	b := append(heightKey(forked.Height), forked.Ours[:]...)
	b = append(b, forked.Theirs[:]...)
	return f.update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(forkKey, b) })
}

func (f *file) view(read func(*bolt.Tx) error) error {
	return guarded(func() error { return f.db.View(read) })
}

func (f *file) update(write func(*bolt.Tx) error) error {
	return guarded(func() error { return f.db.Update(write) })
}

// guarded turns what bolt does with a damaged file, a panic or a fault in
// mapped memory, into an error.
func guarded(use func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return use()
}

func heightKey(height uint64) []byte { return binary.BigEndian.AppendUint64(nil, height) }

// number reads a counter, 0 when it is not there.
func number(b *bolt.Bucket, key []byte) (uint64, error) {
	v := b.Get(key)
	if v == nil {
		return 0, nil
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

func putNumber(b *bolt.Bucket, key []byte, n uint64) error { return b.Put(key, heightKey(n)) }

func encodeRecord(e *wire.Certified) []byte {
	body := wire.Encode(e)
	sum := sha256.Sum256(body)
	return append(sum[:checksumSize:checksumSize], body...)
}

func decodeRecord(height uint64, record []byte) (*wire.Certified, error) {
	if len(record) < checksumSize {
		return nil, fmt.Errorf("%w: entry %d is cut short or missing", ErrDamaged, height)
	}
	body := record[checksumSize:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:checksumSize], record[:checksumSize]) {
		return nil, fmt.Errorf("%w: entry %d has been altered", ErrDamaged, height)
	}
	e := new(wire.Certified)
	if err := wire.Decode(body, e); err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", ErrDamaged, height, err)
	}
	return e, nil
}
