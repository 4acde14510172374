package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"

	"dunlin/wire"
)

// ErrState is wrapped by every error about state bytes that cannot be restored.
var ErrState = errors.New("bad state")

// appendSlab appends the state bytes of a slab: weights, then momentum.
func appendSlab(dst []byte, weights, momentum []float32) []byte {
	return appendFloats(appendFloats(dst, weights), momentum)
}

// hash returns the state hash, computed from memory.
func (f *fragment) hash() wire.Hash {
	return wire.MerkleRoot(f.leaves())
}

// leaves returns the hash of every slab's state, computed from memory.
func (f *fragment) leaves() []wire.Hash {
	leaves := make([]wire.Hash, f.layout.Slabs())
	var h slabHasher
	for i := 0; i < len(leaves); i += 2 {
		h.leaves(leaves, f, i)
	}
	runtime.KeepAlive(f.momentum)
	return leaves
}

// Heads returns version and state hash of every fragment, as the commits named them.
func (v *View) Heads() []wire.FragmentHead {
	heads := make([]wire.FragmentHead, len(v.fragments))
	for i, f := range v.fragments {
		heads[i] = wire.FragmentHead{Version: f.version, State: f.state}
	}
	return heads
}

// StateHash returns fragment f's state hash, computed from memory; the fragment must be held.
func (v *View) StateHash(f int) wire.Hash { return v.fragments[f].hash() }

// Manifest returns the hashes of fragment f's slabs, computed from memory. Their
// Merkle root is the state hash.
func (v *View) Manifest(f int) wire.Manifest {
	return wire.Manifest{Slabs: v.fragments[f].leaves()}
}

// SlabBytes appends the state bytes of slab i of fragment f to dst: content whose hash
// is the slab's leaf.
func (v *View) SlabBytes(dst []byte, f, i int) []byte {
	from, to := v.fragments[f].layout.SlabValues(i)
	momentum := v.fragments[f].momentum
	dst = appendSlab(dst, v.fragments[f].weights[from:to], momentum.Values[from:to])
	runtime.KeepAlive(momentum)
	return dst
}

// Restore builds a replica from a checkpoint: heads as a certified entry names them,
// one manifest a fragment, and get, which returns the bytes of a slab by hash. All of
// it may come from strangers: every hash is checked, and bytes that no replica could
// hold (values that are not finite, padding that is not +0) are refused with ErrState.
func Restore(spec *wire.RunSpec, heads []wire.FragmentHead, manifests []wire.Manifest, get func(wire.Hash) ([]byte, error)) (*Replica, error) {
	return RestoreStage(spec, wire.AllStages, nil, heads, manifests, get)
}

// RestoreStage is Restore for a peer that holds one stage, as NewStage: manifests of other fragments
// are not looked at.
func RestoreStage(spec *wire.RunSpec, stage int, room Room, heads []wire.FragmentHead, manifests []wire.Manifest, get func(wire.Hash) ([]byte, error)) (*Replica, error) {
	return restore(spec, stage, layouts(spec), room, heads, manifests, get)
}

func restore(spec *wire.RunSpec, stage int, layout layoutFunc, room Room, heads []wire.FragmentHead, manifests []wire.Manifest, get func(wire.Hash) ([]byte, error)) (*Replica, error) {
	r, err := empty(spec, stage, layout, room)
	if err != nil {
		return nil, err
	}
	if len(heads) != len(r.fragments) || len(manifests) != len(r.fragments) {
		return nil, fmt.Errorf("restore: %w: %d heads and %d manifests, the run has %d fragments", ErrState, len(heads), len(manifests), len(r.fragments))
	}
	for i := range r.fragments {
		f := &r.fragments[i]
		f.version, f.state = heads[i].Version, heads[i].State
		if !f.held {
			continue
		}
		if err := r.restore(f, manifests[i].Slabs, get); err != nil {
			return nil, fmt.Errorf("restore fragment %d: %w", i, err)
		}
	}
	return r, nil
}

func (r *Replica) restore(f *fragment, leaves []wire.Hash, get func(wire.Hash) ([]byte, error)) error {
	if len(leaves) != f.layout.Slabs() {
		return fmt.Errorf("%w: manifest of %d slabs, want %d", ErrState, len(leaves), f.layout.Slabs())
	}
	if root := wire.MerkleRoot(leaves); root != f.state {
		return fmt.Errorf("%w: the manifest's root is %s, the state hash %s", ErrState, root.Short(), f.state.Short())
	}
	f.weights = make([]float32, f.layout.Values())
	f.momentum = r.floats(f.layout.Values())
	for i, leaf := range leaves {
		bytes, err := get(leaf)
		if err != nil {
			return fmt.Errorf("slab %d: %w", i, err)
		}
		if err := f.setSlab(i, leaf, bytes); err != nil {
			return fmt.Errorf("slab %d: %w", i, err)
		}
	}
	return nil
}

// setSlab checks the state bytes of a slab and takes them over.
func (f *fragment) setSlab(i int, leaf wire.Hash, bytes []byte) error {
	from, to := f.layout.SlabValues(i)
	n := to - from
	if len(bytes) != 8*n {
		return fmt.Errorf("%w: %d bytes, want %d", ErrState, len(bytes), 8*n)
	}
	if wire.HashLeaf(bytes) != leaf {
		return fmt.Errorf("%w: the bytes do not match their hash %s", ErrState, leaf.Short())
	}
	parts := slabState{f.weights[from:to], f.momentum.Values[from:to]}
	for k, part := range parts {
		if !readFloats(part, bytes[4*n*k:]) {
			return fmt.Errorf("%w: a value is not finite", ErrState)
		}
		f.layout.ZeroPadding(part, i)
	}
	// Zeroed padding changes the hash exactly when it was not +0 before.
	var h slabHasher
	got := h.leaf(parts)
	runtime.KeepAlive(f.momentum)
	if got != leaf {
		return fmt.Errorf("%w: padding is not zero", ErrState)
	}
	return nil
}

// readFloats fills dst and says whether all values are finite.
func readFloats(dst []float32, bytes []byte) bool {
	finite := true
	for i := range dst {
		x := math.Float32frombits(binary.LittleEndian.Uint32(bytes[4*i:]))
		finite = finite && x-x == 0
		dst[i] = x
	}
	return finite
}
