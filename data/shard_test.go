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
	for _, n := range []int{1, 1000, MaxShard - ShardHeader, MaxShard - ShardHeader + 1, 3 * MaxShard} {
		s := store.NewMemory(0)
		tokens := counting(n)
		names, err := PackShards(tokens, s.Put)
		if err != nil {
			t.Fatal(err)
		}
		const most = MaxShard - ShardHeader
		if want := (n + most - 1) / most; len(names) != want {
			t.Fatalf("%d tokens in %d shards, want %d", n, len(names), want)
		}
		got, err := OpenShards(names, func(h store.Hash) ([]byte, error) { return s.Get(h, MaxShard) })
		if err != nil || !bytes.Equal(got, tokens) {
			t.Fatalf("%d tokens came back as %d, %v", n, len(got), err)
		}
	}
}

func TestShardGolden(t *testing.T) {
	var shard []byte
	names, err := PackShards([]byte("hello"), func(b []byte) (store.Hash, error) {
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
	names, err := PackShards([]byte("some tokens"), s.Put)
	if err != nil {
		t.Fatal(err)
	}
	altered := func(h store.Hash) ([]byte, error) {
		b, err := s.Get(h, 0)
		b[len(b)-1] ^= 1
		return b, err
	}
	if _, err := OpenShards(names, altered); !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("altered shard: %v", err)
	}
	missing := func(h store.Hash) ([]byte, error) { return s.Get(store.Hash{}, 0) }
	if _, err := OpenShards(names, missing); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("missing shard: %v", err)
	}
	if _, err := OpenShards(make([]store.Hash, MaxBytes/MaxShard+2), missing); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Fatalf("too many shards: %v", err)
	}
}

func TestPackShardsReportsAFullStore(t *testing.T) {
	if _, err := PackShards(counting(1000), store.NewMemory(100).Put); !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
}

// FuzzOpenShard reads arbitrary bytes as a shard: what is accepted is exactly
// what PackShards writes.
func FuzzOpenShard(f *testing.F) {
	f.Add([]byte("DNLT\x01\x01\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00hello"))
	f.Add([]byte("DNLT\x01\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xffhello"))
	f.Add([]byte("DNLT\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, shard []byte) {
		tokens, err := OpenShard(shard)
		if err != nil {
			return
		}
		_, err = PackShards(tokens, func(again []byte) (store.Hash, error) {
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
