package replica

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

// TestSlabsAreHashedAsAlone compares both ways of hashing with crypto/sha256 over a slab's bytes.
func TestSlabsAreHashedAsAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	var h slabHasher
	for _, n := range []int{1, 2, 6, 7, 8, 15, 16, 4095, 4096, 4097, 16384, 49152, 3*4096 + 31} {
		var slabs [2]slabState
		for j := range slabs {
			slabs[j] = slabState{make([]float32, n), make([]float32, n)}
			for _, part := range slabs[j] {
				for i := range part {
					part[i] = float32(rng.NormFloat64())
				}
			}
		}
		var want [2][32]byte
		for j, s := range slabs {
			want[j] = sha256.Sum256(appendSlab([]byte{0}, s[0], s[1]))
			if got := h.leaf(s); got != want[j] {
				t.Errorf("slab of %d values: hash %x, want %x", n, got, want[j])
			}
		}
		if !pairs {
			continue
		}
		if a, b := h.pair(slabs); a != want[0] || b != want[1] {
			t.Errorf("two slabs of %d values: hashes %x and %x, want %x and %x", n, a, b, want[0], want[1])
		}
	}
	if !pairs {
		t.Log("this processor hashes slabs one by one")
	}
}

// BenchmarkLeaves hashes two slabs of 49,152 values; bytes are those hashed.
func BenchmarkLeaves(b *testing.B) {
	s := slabState{make([]float32, 49152), make([]float32, 49152)}
	var h slabHasher
	b.Run("alone", func(b *testing.B) {
		b.SetBytes(2 * 8 * 49152)
		for b.Loop() {
			h.leaf(s)
			h.leaf(s)
		}
	})
	b.Run("pair", func(b *testing.B) {
		if !pairs {
			b.Skip("this processor hashes slabs one by one")
		}
		b.SetBytes(2 * 8 * 49152)
		for b.Loop() {
			h.pair([2]slabState{s, s})
		}
	})
}
