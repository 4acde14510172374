package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// bundleFiles lists the files of small blobs.
func bundleFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "bundles", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func putMany(t *testing.T, d *Disk, from, to int) (hashes []Hash) {
	t.Helper()
	for i := from; i < to; i++ {
		hashes = append(hashes, mustPut(t, d, content(i)))
	}
	return hashes
}

func content(i int) []byte { return fmt.Appendf(nil, "content of blob %d", i) }

func TestSyncWritesSmallBlobsToOneFile(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, 0)
	hashes := putMany(t, d, 0, 50)
	if files := bundleFiles(t, dir); len(files) != 0 {
		t.Fatalf("%d files before Sync", len(files))
	}
	for range 2 { // the second has nothing to do
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if files := bundleFiles(t, dir); len(files) != 1 {
		t.Fatalf("%d files for 50 blobs", len(files))
	}
	for _, reopened := range []bool{false, true} {
		if reopened {
			d = open(t, dir, 0)
		}
		for i, h := range hashes {
			if got, err := d.Get(h, 0); err != nil || !bytes.Equal(got, content(i)) {
				t.Fatalf("reopened %v: got %q, %v", reopened, got, err)
			}
		}
	}
	// What is there is not written again.
	putMany(t, d, 0, 50)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	if files := bundleFiles(t, dir); len(files) != 1 {
		t.Fatalf("%d files after the same blobs were put again", len(files))
	}
}

// A crash before Sync loses what Put took, and nothing else.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, 0)
	kept := putMany(t, d, 0, 5)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	lost := putMany(t, d, 5, 9)
	if _, err := d.PutDurable([]byte("durable")); err != nil {
		t.Fatal(err)
	}
	more := putMany(t, d, 9, 12)
	if err := os.WriteFile(filepath.Join(dir, "tmp", "bundle-1"), []byte(batchMagic), 0o600); err != nil {
		t.Fatal(err)
	}
	d = open(t, dir, 0)
	for _, h := range append(kept, append(lost, HashLeaf([]byte("durable")))...) {
		if _, err := d.Get(h, 0); err != nil {
			t.Error(err)
		}
	}
	for _, h := range more {
		if _, err := d.Get(h, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("a blob that was never flushed: %v", err)
		}
	}
}

func TestAlteredBundleIsRefused(t *testing.T) {
	for name, alter := range map[string]func([]byte) []byte{
		"flipped data":    func(b []byte) []byte { b[len(b)-3] ^= 1; return b },
		"flipped hash":    func(b []byte) []byte { b[len(batchMagic)+4+2*bundleEntry+7] ^= 1; return b },
		"truncated":       func(b []byte) []byte { return b[:len(b)-5] },
		"truncated head":  func(b []byte) []byte { return b[:50] },
		"emptied":         func([]byte) []byte { return nil },
		"other magic":     func(b []byte) []byte { b[0]++; return b },
		"too many":        func(b []byte) []byte { binary.LittleEndian.PutUint32(b[len(batchMagic):], 1<<31); return b },
		"a length grown":  func(b []byte) []byte { b[len(batchMagic)+4+32]++; return b },
		"a length beyond": func(b []byte) []byte { b[len(batchMagic)+4+35] = 0xff; return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, dir, 0)
			hashes := putMany(t, d, 0, 3)
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
			path := bundleFiles(t, dir)[0]
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, alter(b), 0o600); err != nil {
				t.Fatal(err)
			}
			d = open(t, dir, 0)
			missing := 0
			for i, h := range hashes {
				got, err := d.Get(h, 0)
				if err == nil && !bytes.Equal(got, content(i)) {
					t.Fatalf("handed out %q", got)
				}
				if err != nil {
					missing++
					if _, err := d.Get(h, 0); !errors.Is(err, ErrNotFound) {
						t.Errorf("the damaged blob is still offered: %v", err)
					}
				}
			}
			if missing == 0 {
				t.Error("the damage was not noticed")
			}
			putMany(t, d, 0, 3)
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
			d = open(t, dir, 0)
			for i, h := range hashes {
				if got, err := d.Get(h, 0); err != nil || !bytes.Equal(got, content(i)) {
					t.Fatalf("after repair: %q, %v", got, err)
				}
			}
		})
	}
}

// checkDead compares the count of dead bytes with the bundles.
func checkDead(t *testing.T, d *Disk) {
	t.Helper()
	bundles := make(map[*bundle]struct{})
	for _, b := range d.idx.blobs {
		if b.in != nil {
			bundles[b.in] = struct{}{}
		}
	}
	for in := range d.full {
		bundles[in] = struct{}{}
	}
	if d.newest != nil {
		bundles[d.newest] = struct{}{}
	}
	var dead int64
	for in := range bundles {
		live := int64(0)
		for _, b := range in.blobs {
			live += b.size
		}
		if live != in.live {
			t.Errorf("%s: %d bytes live, counted %d", in.path, live, in.live)
		}
		dead += in.size - live
	}
	if dead != d.dead {
		t.Errorf("%d bytes of bundles are dead, counted %d", dead, d.dead)
	}
}

// The room of blobs that are gone is given back: a file goes with its last
// blob, one that is mostly dead is written anew without them, and once the quota
// is reached one of which an eighth is. Here a third of the blobs stays, so that
// no file goes by itself.
func TestDeadRoomInBundlesIsGivenBack(t *testing.T) {
	const quota, size, full = 200_000, 500, 10_000
	dir := t.TempDir()
	d := open(t, dir, quota)
	d.fullAt = full
	if _, err := d.Collect(); err != nil {
		t.Fatal(err)
	}
	var kept []Hash
	for i := range 1200 {
		h := mustPut(t, d, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, size/2))
		if i%3 == 0 && len(kept) < 200 {
			d.Pin("ledger", h)
			kept = append(kept, h)
		}
		if i%7 > 0 {
			continue
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		checkDead(t, d)
	}
	var onDisk int64
	for _, f := range bundleFiles(t, dir) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		onDisk += info.Size()
	}
	// A hundredth or so is heads; the newest bundle and one to come are not tidied.
	if onDisk > quota*8/7*11/10+2*full {
		t.Errorf("%d bytes on disk under a quota of %d", onDisk, quota)
	}
	for _, reopened := range []bool{false, true} {
		if reopened {
			d = open(t, dir, quota)
			checkDead(t, d)
		}
		for _, h := range kept {
			if got, err := d.Get(h, 0); err != nil || len(got) != size {
				t.Fatalf("reopened %v: a pinned blob: %d bytes, %v", reopened, len(got), err)
			}
		}
	}
}

func TestWrittenBlobsLeaveMemory(t *testing.T) {
	d := open(t, t.TempDir(), 0)
	var hashes []Hash
	for i := range 40 {
		b := make([]byte, smallBlob)
		b[0] = byte(i)
		hashes = append(hashes, mustPut(t, d, b))
		if d.unwritten > spillAbove+smallBlob {
			t.Fatalf("%d bytes wait in memory", d.unwritten)
		}
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	held := int64(0)
	for _, b := range d.idx.blobs {
		held += int64(len(b.data))
	}
	if held > cacheBytes || held != d.cachedBytes || d.unwritten != 0 {
		t.Errorf("%d bytes are in memory, counted %d and %d", held, d.cachedBytes, d.unwritten)
	}
	for i, h := range hashes {
		if got, err := d.Get(h, 0); err != nil || got[0] != byte(i) {
			t.Fatal(err)
		}
	}
}

// TestRandomHistoryWithCrashes compares a store that is opened anew now and
// then with a map of what was flushed.
func TestRandomHistoryWithCrashes(t *testing.T) {
	const seed = 5
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	d := open(t, dir, 20_000)
	d.fullAt = 4000
	durable, put := map[Hash][]byte{}, map[Hash][]byte{}
	for step := range 500 {
		checkDead(t, d)
		switch rng.IntN(12) {
		case 0:
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
			for h, b := range put {
				if d.Has(h) {
					durable[h] = b
				}
			}
		case 1:
			d = open(t, dir, 20_000)
			d.fullAt = 4000
			put = map[Hash][]byte{}
			for h, b := range durable {
				if got, err := d.Get(h, 0); err != nil || !bytes.Equal(got, b) {
					t.Fatalf("step %d: a flushed blob: %v", step, err)
				}
			}
			if _, err := d.Collect(); err != nil {
				t.Fatal(err)
			}
		default:
			b := bytes.Repeat([]byte{byte(rng.IntN(200))}, 100+rng.IntN(5)*100)
			h, err := d.Put(b)
			if err != nil {
				if !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
				continue
			}
			put[h] = b
			for h := range durable { // collection may have made room
				if !d.Has(h) {
					delete(durable, h)
				}
			}
		}
	}
}

// FuzzBundle puts arbitrary bytes where a bundle should be: opening takes them,
// and Get gives back exactly what a name stands for or refuses.
func FuzzBundle(f *testing.F) {
	data := []byte("content")
	h := HashLeaf(data)
	good := append([]byte(batchMagic), 1, 0, 0, 0)
	good = append(append(good, h[:]...), byte(len(data)), 0, 0, 0)
	f.Add(append(good, data...))
	f.Add(good)
	f.Add([]byte(batchMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, onDisk []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "bundles", fmt.Sprintf("%016x", 1))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, onDisk, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for h := range d.idx.blobs {
			if got, err := d.Get(h, 0); err == nil && HashLeaf(got) != h {
				t.Fatalf("handed out %q under the wrong name", got)
			}
		}
		if _, err := d.PutDurable(data); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Get(h, 0); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("got %q, %v", got, err)
		}
	})
}
