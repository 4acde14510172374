package replica

import (
	"errors"
	"fmt"

	"dunlin/compress"
	"dunlin/wire"
)

// Blobs keeps bytes by content hash (wire.HashLeaf); package store does.
type Blobs interface {
	Put(data []byte) ([32]byte, error)
	Sync() error
	Get(hash [32]byte, limit int) ([]byte, error)
}

// Head names a saved global state: all of it is reached by hash from here.
type Head struct {
	Run       wire.Hash   `cbor:"1,keyasint"`
	Height    uint64      `cbor:"2,keyasint"` // of the newest entry that the state includes
	Fragments []SavedHead `cbor:"3,keyasint"` // in fragment order
}

// SavedHead is one fragment of a Head.
type SavedHead struct {
	_        struct{} `cbor:",toarray"`
	Version  uint64
	State    wire.Hash
	Manifest wire.Hash // address of the canonical bytes of its wire.Manifest; zero for a fragment of another stage
}

// ErrHead is wrapped by every error about a head that cannot be opened.
var ErrHead = errors.New("bad head of a saved state")

// Save makes the state durable (protocol, R8): slabs and manifests by content hash, then,
// once those survive a crash, publish with the bytes of the head, which must replace the
// head before it in one durable step. Only after Save returns may the peer report the
// height or delete older bytes. blobs lists every hash that the head needs.
func (v *View) Save(blobs Blobs, run wire.Hash, height uint64, publish func(head []byte) error) (needed []wire.Hash, err error) {
	head := Head{Run: run, Height: height}
	var buf []byte
	put := func(data []byte) (wire.Hash, error) {
		h, err := blobs.Put(data)
		needed = append(needed, h)
		return h, err
	}
	for i := range v.fragments {
		f := &v.fragments[i]
		if !f.held {
			head.Fragments = append(head.Fragments, SavedHead{Version: f.version, State: f.state})
			continue
		}
		var manifest wire.Manifest
		for s := range f.layout.Slabs() {
			buf = v.SlabBytes(buf[:0], i, s)
			h, err := put(buf)
			if err != nil {
				return nil, fmt.Errorf("save fragment %d, slab %d: %w", i, s, err)
			}
			manifest.Slabs = append(manifest.Slabs, h)
		}
		if root := wire.MerkleRoot(manifest.Slabs); root != f.state {
			return nil, fmt.Errorf("save fragment %d, version %d: %w", i, f.version, ErrCorrupt)
		}
		h, err := put(wire.Encode(&manifest))
		if err != nil {
			return nil, fmt.Errorf("save fragment %d, manifest: %w", i, err)
		}
		head.Fragments = append(head.Fragments, SavedHead{Version: f.version, State: f.state, Manifest: h})
	}
	if err := blobs.Sync(); err != nil {
		return nil, fmt.Errorf("save state at height %d: %w", height, err)
	}
	if err := publish(wire.Encode(&head)); err != nil {
		return nil, fmt.Errorf("save state at height %d: %w", height, err)
	}
	return needed, nil
}

// Save is View.Save of the state as it is now, which must be the state at that height.
func (r *Replica) Save(blobs Blobs, height uint64, publish func(head []byte) error) (needed []wire.Hash, err error) {
	return r.View().Save(blobs, r.run, height, publish)
}

// DecodeHead reads the bytes of a head and refuses those of another run.
func DecodeHead(b []byte, run wire.Hash) (*Head, error) {
	var h Head
	if err := wire.Decode(b, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHead, err)
	}
	if h.Run != run {
		return nil, fmt.Errorf("%w: it belongs to run %s, not %s: choose another data folder", ErrHead, h.Run.Short(), run.Short())
	}
	if len(h.Fragments) < 1 || len(h.Fragments) > wire.MaxFragments {
		return nil, fmt.Errorf("%w: %d fragments", ErrHead, len(h.Fragments))
	}
	return &h, nil
}

// Open restores a saved state from the bytes of its head, with the height it stands at.
func Open(spec *wire.RunSpec, head []byte, blobs Blobs) (r *Replica, height uint64, err error) {
	return OpenStage(spec, wire.AllStages, head, blobs)
}

// OpenStage is Open for a peer that holds one stage.
func OpenStage(spec *wire.RunSpec, stage int, head []byte, blobs Blobs) (r *Replica, height uint64, err error) {
	h, err := DecodeHead(head, spec.ID())
	if err != nil {
		return nil, 0, err
	}
	heads := make([]wire.FragmentHead, len(h.Fragments))
	manifests := make([]wire.Manifest, len(h.Fragments))
	held := spec.Holding(stage)
	for i, f := range h.Fragments {
		heads[i] = wire.FragmentHead{Version: f.Version, State: f.State}
		if i >= len(held) || !held[i] {
			continue // restore says when there are too many
		}
		b, err := blobs.Get(f.Manifest, wire.MaxMessage)
		if err != nil {
			return nil, 0, fmt.Errorf("open state at height %d: manifest of fragment %d: %w", h.Height, i, err)
		}
		if err := wire.Decode(b, &manifests[i]); err != nil {
			return nil, 0, fmt.Errorf("open state at height %d: manifest of fragment %d: %w", h.Height, i, err)
		}
	}
	r, err = RestoreStage(spec, stage, nil, heads, manifests, func(hash wire.Hash) ([]byte, error) {
		return blobs.Get(hash, 8*compress.MaxSlabValues)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("open state at height %d: %w", h.Height, err)
	}
	return r, h.Height, nil
}
