package peer

import (
	"sync"

	"dunlin/contribution"
	"dunlin/wire"
)

// slabs keeps contributions in memory: this worker's own, served to owners
// until the next one of the fragment, and what this owner has pulled of
// others'. The transport reads it from its goroutines.
type slabs struct {
	mu      sync.Mutex
	own     map[wire.Hash]*contribution.Contribution
	newest  map[int]wire.Hash // own, by fragment
	fetched map[wire.Hash]map[int][]byte
}

func newSlabs() *slabs {
	return &slabs{own: map[wire.Hash]*contribution.Contribution{}, newest: map[int]wire.Hash{}, fetched: map[wire.Hash]map[int][]byte{}}
}

// keepOwn replaces the fragment's contribution.
func (s *slabs) keepOwn(fragment int, c *contribution.Contribution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.own, s.newest[fragment])
	s.own[c.Root], s.newest[fragment] = c, c.Root
}

// keep stores one verified slab of another worker.
func (s *slabs) keep(root wire.Hash, slab int, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetched[root] == nil {
		s.fetched[root] = map[int][]byte{}
	}
	s.fetched[root][slab] = frame
}

// frame returns a slab, own or fetched, or nil.
func (s *slabs) frame(root wire.Hash, slab int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.own[root]; c != nil && slab < len(c.Frames) {
		return c.Frames[slab]
	}
	return s.fetched[root][slab]
}

// serve returns a slab of an own contribution with its proof, or nil.
func (s *slabs) serve(root wire.Hash, slab int) *wire.Slab {
	s.mu.Lock()
	c := s.own[root]
	s.mu.Unlock()
	if c == nil || slab >= len(c.Frames) {
		return nil
	}
	return &wire.Slab{Frame: c.Frames[slab], Proof: wire.MerkleProof(c.Leaves, slab)}
}

// drop forgets others' contributions.
func (s *slabs) drop(roots []wire.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range roots {
		delete(s.fetched, r)
	}
}
