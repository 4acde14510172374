package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"dunlin/wire"
)

// readBack opens a file and returns its entries after a full check.
func readBack(path string) ([]wire.Certified, error) {
	l, err := Open(path, testRules(1), nil)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if _, err := l.Verify(); err != nil {
		return nil, err
	}
	return l.Range(1, 1<<20)
}

// Whatever byte is altered, the file is refused or still says the same: no
// damage passes for another history.
func TestAlteredFileIsRefusedOrTheSame(t *testing.T) {
	const seed = 17
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	all := written(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged.db")
	refused := 0
	for range 250 {
		b := bytes.Clone(whole)
		at := rng.IntN(len(b))
		if b[at] == 0 && rng.IntN(4) > 0 { // most zeros are unused space
			continue
		}
		b[at] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(damaged, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readBack(damaged)
		if err != nil {
			refused++
		} else if !same(got, all) {
			t.Fatalf("byte %d: another history of %d entries was accepted", at, len(got))
		}
	}
	if refused < 15 {
		t.Fatalf("only %d damaged files were refused", refused)
	}
}

func TestCutFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	all := written(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged.db")
	for n := 1; n < len(whole); n += 1021 {
		if err := os.WriteFile(damaged, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readBack(damaged)
		if err == nil && !same(got, all) {
			t.Fatalf("%d of %d bytes: another history was accepted", n, len(whole))
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

// An entry replaced inside the file by a well-formed one, checksum and all, is
// found by the links; a forged signature by Verify.
func TestForgedRecordsAreFound(t *testing.T) {
	for name, forge := range map[string]func(e *wire.Certified){
		"payload": func(e *wire.Certified) { e.Entry = wire.NewEntry(e.Entry.Run, 2, e.Entry.Prev, 1, admit(2, 66)) },
		"height":  func(e *wire.Certified) { e.Entry.Height = 3 },
		"cert":    func(e *wire.Certified) { e.Certs[0].Sig[3] ^= 1 },
	} {
		path := filepath.Join(t.TempDir(), "ledger.db")
		all := written(t, path)
		e := all[1]
		e.Certs = append([]wire.Attestation(nil), e.Certs...)
		forge(&e)
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(entryBucket).Put(heightKey(2), encodeRecord(&e)) })
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := readBack(path); err == nil {
			t.Errorf("%s: the forged entry was accepted", name)
		}
	}
}

// Each of these made bolt crash the process or lose entries; the walk over the
// pages finds them first.
func TestBrokenPagesAreFoundBeforeBoltMapsThem(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	w := newWorld(t, 1)
	for slot := range wire.Slot(120) { // several pages, hence branches and free pages
		w.must(admit(slot+1, 1))
	}
	l := openLog(t, path)
	for i := range w.all {
		if i%20 == 0 {
			if _, err := l.Append(w.all[i : i+20]...); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustClose(t, l)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := walkPages(bytes.NewReader(whole), int64(len(whole))); err != nil {
		t.Fatalf("a good file is refused: %v", err)
	}
	put64 := binary.LittleEndian.PutUint64
	p := &pages{in: bytes.NewReader(whole)}
	a, errA := p.meta(0)
	b, errB := p.meta(1)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if b.transaction > a.transaction {
		a = b
	}
	free, branch := int(a.freelist)*pageSize, 0
	for at := 2 * pageSize; at < len(whole); at += pageSize {
		if h := parseHeader(whole[at:]); h.flags == branchPage && h.id == uint64(at/pageSize) {
			branch = at
		}
	}
	if branch == 0 || parseHeader(whole[free:]).count == 0 {
		t.Fatal("the file is too small to have branches and free pages")
	}
	for name, damage := range map[string]func(b []byte){
		"page below itself":        func(b []byte) { put64(b[branch+pageHeaderSize+8:], uint64(branch/pageSize)) },
		"child out of range":       func(b []byte) { put64(b[branch+pageHeaderSize+8:], 1<<40) },
		"child is a header":        func(b []byte) { put64(b[branch+pageHeaderSize+8:], 1) },
		"key out of the page":      func(b []byte) { b[branch+pageHeaderSize+3] = 0x7f },
		"huge overflow":            func(b []byte) { b[branch+15] = 0x7f },
		"free list names a branch": func(b []byte) { put64(b[free+pageHeaderSize:], uint64(branch/pageSize)) },
		"free list too long":       func(b []byte) { b[free+10], b[free+11] = 0xff, 0xfe },
		"huge free list":           func(b []byte) { b[free+10], b[free+11] = 0xff, 0xff; put64(b[free+pageHeaderSize:], 1<<50) },
		"header checksum":          func(b []byte) { b[pageHeaderSize+60] ^= 1 },
	} {
		b := bytes.Clone(whole)
		damage(b)
		if err := walkPages(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestFileOfSomethingElseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a ledger\n"), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, testRules(1), nil); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "other.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, testRules(1), nil); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}

// FuzzOpen alters a ledger file: it writes patch at a place and cuts the file.
// Open and Verify refuse or give entries that the coordinator signed.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "ledger.db")
	var all []wire.Certified
	l, err := Open(path, testRules(1), testKey(0))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := l.RaiseTerm(0); err != nil {
		f.Fatal(err)
	}
	for slot := range wire.Slot(30) {
		e, err := l.Propose(admit(slot+1, 1))
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, *e)
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{}, uint32(len(whole)))
	f.Add(uint32(4096), []byte{0xff}, uint32(len(whole)))
	f.Add(uint32(3*4096+16), []byte{2, 0, 0, 0}, uint32(len(whole)))
	f.Add(uint32(0), []byte("DNLT"), uint32(100))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, size uint32) {
		b := bytes.Clone(whole)
		copy(b[int(at)%len(b):], patch)
		b = b[:min(int(size), len(b))]
		path := filepath.Join(t.TempDir(), "ledger.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readBack(path)
		if err != nil {
			return
		}
		if len(got) > len(all) || !same(got, all[:len(got)]) {
			t.Fatalf("accepted %d entries that nobody signed", len(got))
		}
	})
}
