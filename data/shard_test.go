package data

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"dunlin/store"
)

func TestShardsRoundTrip(t *testing.T) {
	for _, width := range []int{1, 2, 4} {
		most := ShardTokens(width)
		for _, n := range []int{1, 1000, most, most + 1, 3 * most} {
			s := store.NewMemory(0)
			tokens := counting(n * width)
			names, err := PackShards(tokens, width, s.Put)
			if err != nil {
				t.Fatal(err)
			}
			if want := (n + most - 1) / most; len(names) != want {
				t.Fatalf("%d tokens in %d shards, want %d", n, len(names), want)
			}
			get := func(h store.Hash) ([]byte, error) { return s.Get(h, MaxShard) }
			got, err := OpenShards(names, width, get)
			if err != nil || !bytes.Equal(got, tokens) {
				t.Fatalf("%d bytes of tokens came back as %d, %v", n*width, len(got), err)
			}
			if _, err := OpenShards(names, 8/width-1, get); err == nil || !strings.Contains(err.Error(), "tokens take") {
				t.Errorf("shards of %d bytes a token were read as others: %v", width, err)
			}
		}
	}
}

func TestShardGolden(t *testing.T) {
	var shard []byte
	names, err := PackShards([]byte("hello"), 1, func(b []byte) (store.Hash, error) {
		shard = bytes.Clone(b)
		return store.HashLeaf(b), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(shard); got != "444e4c5401010000"+"0500000000000000"+"68656c6c6f" {
		t.Fatalf("shard bytes %s", got)
	}
	if names[0] != store.HashLeaf(shard) {
		t.Fatal("the shard is not named by its leaf hash")
	}
}

func TestOpenShardsRefusesWrongBytes(t *testing.T) {
	s := store.NewMemory(0)
	names, err := PackShards([]byte("some tokens"), 1, s.Put)
	if err != nil {
		t.Fatal(err)
	}
	altered := func(h store.Hash) ([]byte, error) {
		b, err := s.Get(h, 0)
		b[len(b)-1] ^= 1
		return b, err
	}
	if _, err := OpenShards(names, 1, altered); !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("altered shard: %v", err)
	}
	missing := func(h store.Hash) ([]byte, error) { return s.Get(store.Hash{}, 0) }
	if _, err := OpenShards(names, 1, missing); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("missing shard: %v", err)
	}
	if _, err := OpenShards(make([]store.Hash, MaxBytes/MaxShard+2), 1, missing); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Fatalf("too many shards: %v", err)
	}
}

func TestPackShardsReportsAFullStore(t *testing.T) {
	if _, err := PackShards(counting(1000), 1, store.NewMemory(100).Put); !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
}

// FuzzOpenShard reads arbitrary bytes as a shard: what is accepted is exactly
// what PackShards writes.
func FuzzOpenShard(f *testing.F) {
	f.Add([]byte("DNLT\x01\x01\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00hello"))
	f.Add([]byte("DNLT\x01\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xffhello"))
	f.Add([]byte("DNLT\x01\x02\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00four"))
	f.Add([]byte("DNLT\x01\x04\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00four"))
	f.Add([]byte("DNLT\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, shard []byte) {
		tokens, width, err := OpenShard(shard)
		if err != nil {
			return
		}
		_, err = PackShards(tokens, width, func(again []byte) (store.Hash, error) {
			if !bytes.Equal(again, shard) {
				t.Fatalf("accepted %x, which packs as %x", shard, again)
			}
			return store.Hash{}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
