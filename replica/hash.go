package replica

import (
	"crypto/sha256"
	"encoding/binary"

	"dunlin/wire"
)

//go:generate go run -C ../compute/cpu/_asm . replica ../../../replica

// slabHasher computes leaves of the state tree, two at a time where the processor can, without allocation a slab.
type slabHasher struct {
	buf [2][]byte
}

const (
	shaBlock     = 64   // bytes
	hashedValues = 4096 // values turned into bytes at a time, which stay in the cache for the hash
)

// leaves computes leaf i of a fragment and the one behind it, if there is one.
func (h *slabHasher) leaves(leaves []wire.Hash, f *fragment, i int) {
	var parts [2]slabState
	count := min(2, len(leaves)-i)
	for j := range count {
		from, to := f.layout.SlabValues(i + j)
		parts[j] = slabState{f.weights[from:to], f.momentum.Values[from:to]}
	}
	if count == 2 && pairs && len(parts[0][0]) == len(parts[1][0]) {
		leaves[i], leaves[i+1] = h.pair(parts)
		return
	}
	for j := range count {
		leaves[i+j] = h.leaf(parts[j])
	}
}

// slabState is weights and momentum of a slab.
type slabState [2][]float32

// leaf returns H(0x00 ‖ weights ‖ momentum), the hash of a slab's state bytes.
func (h *slabHasher) leaf(s slabState) (leaf wire.Hash) {
	d := sha256.New()
	d.Write([]byte{0})
	for _, values := range s {
		for len(values) > 0 {
			n := min(len(values), hashedValues)
			h.buf[0] = appendFloats(h.buf[0][:0], values[:n])
			d.Write(h.buf[0])
			values = values[n:]
		}
	}
	d.Sum(leaf[:0])
	return leaf
}

// pair returns the leaves of two slabs of one length.
func (h *slabHasher) pair(slabs [2]slabState) (a, b wire.Hash) {
	states := [2][8]uint32{shaStart, shaStart}
	for j := range h.buf {
		h.buf[j] = append(h.buf[j][:0], 0)
	}
	length := 1 + 8*len(slabs[0][0])
	for part := range slabs[0] {
		for at := 0; at < len(slabs[0][part]); at += hashedValues {
			for j, s := range slabs {
				h.buf[j] = appendFloats(h.buf[j], s[part][at:min(at+hashedValues, len(s[part]))])
			}
			h.blocks(&states)
		}
	}
	for j := range h.buf { // FIPS 180-4, section 5.1.1
		h.buf[j] = append(h.buf[j], 0x80)
		for len(h.buf[j])%shaBlock != shaBlock-8 {
			h.buf[j] = append(h.buf[j], 0)
		}
		h.buf[j] = binary.BigEndian.AppendUint64(h.buf[j], uint64(8*length))
	}
	h.blocks(&states)
	return digest(&states[0]), digest(&states[1])
}

// blocks hashes the whole blocks of both buffers and keeps the rest.
func (h *slabHasher) blocks(states *[2][8]uint32) {
	n := len(h.buf[0]) / shaBlock
	if n == 0 {
		return
	}
	sha256Pair(states, h.buf[0], h.buf[1], n)
	for j := range h.buf {
		h.buf[j] = append(h.buf[j][:0], h.buf[j][n*shaBlock:]...)
	}
}

// shaStart is SHA-256's first state (FIPS 180-4, section 5.3.3) in the order of sha256PairSHA: words F, E, B, A, H, G, D, C.
var shaStart = [8]uint32{0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372}

func digest(state *[8]uint32) (out wire.Hash) {
	for i, at := range [8]int{3, 2, 7, 6, 1, 0, 5, 4} {
		binary.BigEndian.PutUint32(out[4*i:], state[at])
	}
	return out
}
