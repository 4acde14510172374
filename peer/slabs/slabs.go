package slabs

import (
	"sync"

	"dunlin/contribution"
	"dunlin/wire"
)

// Slabs keeps contributions in memory: this worker's own, served to owners
// until the next one of the fragment, and what this owner has pulled of
// others'. The transport reads it from its goroutines.
type Slabs struct {
	mu      sync.Mutex
	own     map[wire.Hash]*contribution.Contribution
	newest  map[int]wire.Hash // own, by fragment
	fetched map[wire.Hash]map[int][]byte
}

// New holds nothing yet.
func New() *Slabs {
	return &Slabs{own: map[wire.Hash]*contribution.Contribution{}, newest: map[int]wire.Hash{}, fetched: map[wire.Hash]map[int][]byte{}}
}

// KeepOwn replaces the fragment's contribution.
func (s *Slabs) KeepOwn(fragment int, c *contribution.Contribution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.own, s.newest[fragment])
	s.own[c.Root], s.newest[fragment] = c, c.Root
}

// Keep stores one verified slab of another worker.
func (s *Slabs) Keep(root wire.Hash, slab int, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetched[root] == nil {
		s.fetched[root] = map[int][]byte{}
	}
	s.fetched[root][slab] = frame
}

// Frame returns a slab, own or fetched, or nil.
func (s *Slabs) Frame(root wire.Hash, slab int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.own[root]; c != nil && slab < len(c.Frames) {
		return c.Frames[slab]
	}
	return s.fetched[root][slab]
}

// Serve returns a slab of an own contribution with its proof, or nil.
func (s *Slabs) Serve(root wire.Hash, slab int) *wire.Slab {
	s.mu.Lock()
	c := s.own[root]
	s.mu.Unlock()
	if c == nil || slab >= len(c.Frames) {
		return nil
	}
	return &wire.Slab{Frame: c.Frames[slab], Proof: wire.MerkleProof(c.Leaves, slab)}
}

// Drop forgets others' contributions.
func (s *Slabs) Drop(roots []wire.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range roots {
		delete(s.fetched, r)
	}
}
