package contribution

import (
	"encoding/binary"
	"math"

	"dunlin/compress"
	"dunlin/wire"
)

// Owner sums slabs and, where the run says so, keeps error feedback for them
// (protocol, R10): what encoding a mean left out is added, times β, to the next mean
// of the slab. With e before, the mean m and the frame's values r:
//
//	a = βe + m;  r = decode(encode(a));  e' = a − r
//
// e' counts once a commit has that frame as its slab's result; a sum that no commit
// took leaves e as it was. e is empty (zero) at the start, after a commit of another
// owner's sum, and after a restart. It keeps memory of its own: one goroutine at a time.
type Owner struct {
	self   wire.PeerID
	summer *Summer
	decay  float32 // β; 0 keeps none
	slabs  map[slabKey]*residual
}

type slabKey struct{ fragment, slab uint64 }

// residual is one slab's error feedback and what sums since would make of it.
type residual struct {
	version uint64 // of the fragment that e belongs to
	e       []float32
	hash    wire.Hash // of e
	tried   []attempted
}

// attempted is the error feedback after one sum of the version that follows.
type attempted struct {
	frame wire.Hash // of the result
	e     []float32
	hash  wire.Hash
}

// keepTried bounds the sums of one slab and version that are remembered: a commit is
// always of the newest attempt.
const keepTried = 2

// Work says what a sum is for.
type Work struct {
	Fragment, Slab uint64
	Base           uint64 // version that the round starts from
	Values         int    // of the slab
}

// NewOwner makes the owner's side of a peer. decay is β, 0 for no error feedback.
func NewOwner(self wire.PeerID, contribution, result compress.Codec, decay float32) *Owner {
	return &Owner{self: self, summer: NewSummer(contribution, result), decay: decay, slabs: make(map[slabKey]*residual)}
}

// Sum is Summer.Sum with the owner's error feedback. It changes none: a commit does.
func (o *Owner) Sum(w Work, shares []Share) (Sum, error) {
	if o.decay == 0 {
		return o.summer.Sum(w.Values, shares)
	}
	key := slabKey{w.Fragment, w.Slab}
	r := o.slabs[key]
	if r == nil || r.version != w.Base { // a commit in between is not known: nothing can be claimed
		r = &residual{version: w.Base}
		o.slabs[key] = r
	}
	sum, e, err := o.summer.SumWith(r.e, o.decay, w.Values, shares)
	if err != nil {
		return sum, err
	}
	sum.Before, sum.After = r.hash, HashValues(e)
	if len(r.tried) == keepTried {
		r.tried = append(r.tried[:0], r.tried[1:]...)
	}
	r.tried = append(r.tried, attempted{wire.HashLeaf(sum.Frame), e, sum.After})
	return sum, nil
}

// Settle takes in a commit of a fragment's version base: the sums that it names become
// part of the error feedback, every other one is forgotten, and so is what the owner
// knew of slabs that another summed.
func (o *Owner) Settle(fragment, base uint64, table *wire.CommitTable) {
	for i := range table.Slabs {
		row := &table.Slabs[i]
		key := slabKey{fragment, row.Slab}
		r := o.slabs[key]
		if r == nil {
			continue
		}
		delete(o.slabs, key)
		if row.Owner != o.self || r.version != base {
			continue
		}
		for _, t := range r.tried {
			if t.frame == row.Hash && t.hash == row.After {
				o.slabs[key] = &residual{version: base + 1, e: t.e, hash: t.hash}
			}
		}
	}
}

// HashValues returns the hash by which commits name error feedback: of the values as
// float32, little-endian.
func HashValues(values []float32) wire.Hash {
	b := make([]byte, 0, 4*len(values))
	for _, x := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return wire.HashLeaf(b)
}
