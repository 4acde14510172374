package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// stores runs one test body on every implementation of the contract.
func stores(t *testing.T, quota int64, body func(t *testing.T, s Store)) {
	t.Run("memory", func(t *testing.T) { body(t, NewMemory(quota)) })
	t.Run("disk", func(t *testing.T) {
		d, err := Open(t.TempDir(), quota)
		if err != nil {
			t.Fatal(err)
		}
		body(t, d)
	})
	t.Run("one file a blob", func(t *testing.T) {
		d, err := openDisk(t.TempDir(), quota, -1)
		if err != nil {
			t.Fatal(err)
		}
		body(t, d)
	})
}

func mustPut(t *testing.T, s Store, data []byte) Hash {
	t.Helper()
	h, err := s.Put(data)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestPutThenGetGivesTheBytes(t *testing.T) {
	stores(t, 0, func(t *testing.T, s Store) {
		for _, data := range [][]byte{{}, {0}, []byte("hello"), bytes.Repeat([]byte{7}, 1<<16)} {
			h := mustPut(t, s, data)
			if h != HashLeaf(data) {
				t.Fatalf("address of %d bytes is not their leaf hash", len(data))
			}
			got, err := s.Get(h, len(data))
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("get %d bytes: %d bytes, %v", len(data), len(got), err)
			}
			if !s.Has(h) {
				t.Fatal("a stored blob is missing")
			}
		}
		if u := s.Usage(); u.Blobs != 4 || u.Bytes != 1<<16+6 {
			t.Fatalf("usage %+v", u)
		}
		mustPut(t, s, []byte("hello"))
		if u := s.Usage(); u.Blobs != 4 {
			t.Fatalf("the same bytes were counted twice: %+v", u)
		}
	})
}

func TestGetHandsOutACopy(t *testing.T) {
	stores(t, 0, func(t *testing.T, s Store) {
		data := []byte("original")
		h := mustPut(t, s, data)
		data[0] = 'X'
		got, err := s.Get(h, 0)
		if err != nil {
			t.Fatal(err)
		}
		got[1] = 'Y'
		again, err := s.Get(h, 0)
		if err != nil || string(again) != "original" {
			t.Fatalf("got %q, %v", again, err)
		}
	})
}

func TestGetIsBounded(t *testing.T) {
	stores(t, 0, func(t *testing.T, s Store) {
		h := mustPut(t, s, make([]byte, 100))
		if _, err := s.Get(h, 99); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("a blob over the caller's bound: %v", err)
		}
		if _, err := s.Get(Hash{1}, 0); !errors.Is(err, ErrNotFound) {
			t.Fatalf("an unknown hash: %v", err)
		}
		if _, err := s.Put(make([]byte, MaxBlob+1)); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("a blob over MaxBlob: %v", err)
		}
	})
}

func TestCollectionKeepsPinnedAndRecentlyUsed(t *testing.T) {
	stores(t, 300, func(t *testing.T, s Store) {
		var h [3]Hash
		for i := range h {
			h[i] = mustPut(t, s, bytes.Repeat([]byte{byte(i)}, 100))
		}
		s.Pin("ledger", h[0])
		if _, err := s.Put(bytes.Repeat([]byte{9}, 100)); !errors.Is(err, ErrFull) {
			t.Fatalf("before the first Collect nothing may go: %v", err)
		}
		if freed, err := s.Collect(); err != nil || freed != 0 {
			t.Fatalf("collect under the quota freed %d, %v", freed, err)
		}
		if _, err := s.Get(h[1], 0); err != nil { // now h[2] is the longest unused
			t.Fatal(err)
		}
		mustPut(t, s, bytes.Repeat([]byte{9}, 100))
		if !s.Has(h[0]) || !s.Has(h[1]) || s.Has(h[2]) {
			t.Fatal("not the longest unused, unpinned blob was removed")
		}
		if u := s.Usage(); u.Bytes != 300 || u.Pinned != 100 {
			t.Fatalf("usage %+v", u)
		}
	})
}

func TestFullStoreRemovesNothing(t *testing.T) {
	stores(t, 250, func(t *testing.T, s Store) {
		a := mustPut(t, s, bytes.Repeat([]byte{1}, 100))
		b := mustPut(t, s, bytes.Repeat([]byte{2}, 100))
		s.Pin("hold", a)
		if _, err := s.Collect(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(make([]byte, 200)); !errors.Is(err, ErrFull) {
			t.Fatalf("200 bytes beside 100 pinned of 250: %v", err)
		}
		if !s.Has(a) || !s.Has(b) {
			t.Fatal("a refused Put removed a blob")
		}
	})
}

func TestPinsCountOwners(t *testing.T) {
	stores(t, 100, func(t *testing.T, s Store) {
		data := make([]byte, 100)
		h := HashLeaf(data)
		s.Pin("a", h) // before it arrives
		s.Pin("a", h) // twice is once
		s.Pin("b", h)
		mustPut(t, s, data)
		if _, err := s.Collect(); err != nil {
			t.Fatal(err)
		}
		s.Unpin("a", h)
		if _, err := s.Put([]byte{1}); !errors.Is(err, ErrFull) {
			t.Fatalf("the other owner's pin was dropped: %v", err)
		}
		s.Unpin("b")
		if _, err := s.Put([]byte{1}); err != nil {
			t.Fatalf("all pins are gone: %v", err)
		}
		if s.Has(h) {
			t.Fatal("the unpinned blob still takes room")
		}
	})
}

// A random history is compared with a model that knows only maps.
func TestRandomHistoryAgreesWithModel(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	stores(t, 2000, func(t *testing.T, s Store) {
		rng := rand.New(rand.NewPCG(seed, 0))
		content := map[Hash][]byte{}
		pins := map[string]map[Hash]bool{"a": {}, "b": {}}
		if _, err := s.Collect(); err != nil {
			t.Fatal(err)
		}
		for step := range 2000 {
			data := bytes.Repeat([]byte{byte(rng.IntN(40))}, 1+rng.IntN(4)*50)
			h := HashLeaf(data)
			owner := []string{"a", "b"}[rng.IntN(2)]
			switch rng.IntN(5) {
			case 0, 1:
				if _, err := s.Put(data); err == nil {
					content[h] = data
				} else if !errors.Is(err, ErrFull) {
					t.Fatalf("step %d: %v", step, err)
				}
			case 2:
				got, err := s.Get(h, 0)
				if err == nil && !bytes.Equal(got, content[h]) {
					t.Fatalf("step %d: wrong bytes", step)
				}
			case 3:
				if s.Has(h) && len(pins[owner]) < 3 {
					s.Pin(owner, h)
					pins[owner][h] = true
				}
			case 4:
				s.Unpin(owner, h)
				delete(pins[owner], h)
			}
			for _, set := range pins {
				for p := range set {
					if !s.Has(p) {
						t.Fatalf("step %d: a pinned blob went", step)
					}
				}
			}
			if u := s.Usage(); u.Bytes > u.Quota {
				t.Fatalf("step %d: %d bytes over the quota %d", step, u.Bytes, u.Quota)
			}
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	stores(t, 4000, func(t *testing.T, s Store) {
		if _, err := s.Collect(); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		errs := make(chan error, 8)
		for w := range 8 {
			wg.Go(func() {
				for i := range 60 {
					data := []byte(fmt.Sprintf("blob %d of all", (w+i)%50))
					h, err := s.Put(data)
					if err != nil {
						errs <- err
						return
					}
					got, err := s.Get(h, 0)
					if err == nil && !bytes.Equal(got, data) || err != nil && !errors.Is(err, ErrNotFound) {
						errs <- fmt.Errorf("get: %q, %w", got, err)
						return
					}
					if i%20 == 0 {
						if err := s.Sync(); err != nil {
							errs <- err
							return
						}
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			t.Error(err)
		}
	})
}
