package data

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Order is the sequence in which a run reads its windows: one keyed
// permutation of [0, N) per epoch, computed at any position in constant time
// and memory. It is integer arithmetic only and the same on every machine; a
// lease is a range of its positions (protocol, R3b).
type Order struct {
	Seed uint64
	N    int // windows in an epoch, at least 1
}

// Validate says what is wrong with an order.
func (o Order) Validate() error {
	if o.N < 1 {
		return fmt.Errorf("data order over %d windows: at least 1 is needed", o.N)
	}
	return nil
}

// At returns the window at position pos = epoch·N + i. Over one epoch every
// window occurs once. The order must be valid.
func (o Order) At(pos uint64) int {
	n := uint64(o.N)
	p := o.permutation(pos / n)
	return int(p.apply(pos % n))
}

// feistelRounds mixes even the smallest domains, where few bits are swapped.
const feistelRounds = 8

// permutation is a balanced Feistel network over 2·half bits, the smallest such
// domain that holds n. Values that fall at or above n are sent through again
// (cycle walking), fewer than four times on average.
type permutation struct {
	n    uint64
	half uint
	keys [feistelRounds]uint64
}

func (o Order) permutation(epoch uint64) permutation {
	p := permutation{
		n:    uint64(o.N),
		half: uint(max(1, (bits.Len64(uint64(o.N)-1)+1)/2)),
	}
	text := append([]byte("dunlin/1/order"), 0)
	text = binary.LittleEndian.AppendUint64(text, o.Seed)
	text = binary.LittleEndian.AppendUint64(text, epoch)
	key := sha256.Sum256(text)
	for r := range p.keys {
		// Four 64-bit words of the hash serve eight rounds; mix tells them apart.
		p.keys[r] = binary.LittleEndian.Uint64(key[8*(r%4):]) + uint64(r)*0x9e3779b97f4a7c15
	}
	return p
}

func (p *permutation) apply(x uint64) uint64 {
	for x = p.encrypt(x); x >= p.n; x = p.encrypt(x) {
	}
	return x
}

func (p *permutation) encrypt(x uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	left, right := x>>p.half, x&mask
	for _, k := range p.keys {
		left, right = right, left^(mix(right+k)&mask)
	}
	return left<<p.half | right
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit
// reaches every output bit.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
