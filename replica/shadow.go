package replica

import (
	"errors"
	"fmt"
	"runtime"

	"dunlin/compress"
	"dunlin/optimizer"
	"dunlin/wire"
)

var (
	// ErrStale says that the version something was made for is not the head of its fragment.
	ErrStale = errors.New("base version is not the head of the fragment")
	// ErrOther says that a commit names another result than the one prepared.
	ErrOther = errors.New("commit names another result")
	// ErrDiverged says that this peer computes another state than the commit names, or
	// held another one before it. The peer must stop contributing, repair itself by
	// replay, and say so.
	ErrDiverged = errors.New("replica has diverged from the run")
)

// Shadow is the state that a result would lead to. It is not visible until promoted.
type Shadow struct {
	fragment int
	base     uint64
	result   wire.Hash
	null     bool
	next     fragment
}

// Fragment returns the fragment that the shadow belongs to.
func (s *Shadow) Fragment() int { return s.fragment }

// Base returns the version that the shadow was computed from.
func (s *Shadow) Base() uint64 { return s.base }

// State returns the state hash that results.
func (s *Shadow) State() wire.Hash { return s.next.state }

// Result returns the Merkle root over the result's frames.
func (s *Shadow) Result() wire.Hash { return s.result }

// Null reports whether the result would have made a weight that is not finite: then
// the commit changes nothing but the version (protocol, R9).
func (s *Shadow) Null() bool { return s.null }

// Drop gives the shadow's memory back; it cannot be promoted afterwards.
func (s *Shadow) Drop() { s.next = fragment{} }

// Prepare decodes a result of fragment f, one frame a slab, and computes what the outer
// step makes of version base, without touching the visible state. It fails with ErrStale
// when base is not the head, and with compress.ErrFrame when a frame is bad. Memory: one
// copy of the fragment's weights and momentum, until the shadow is promoted or dropped.
func (r *Replica) Prepare(f int, base uint64, frames [][]byte) (*Shadow, error) {
	if f < 0 || f >= len(r.fragments) {
		return nil, fmt.Errorf("prepare fragment %d: the run has %d", f, len(r.fragments))
	}
	r.mu.RLock()
	from := r.fragments[f]
	_, rate := r.tunings.At(f, base+1)
	r.mu.RUnlock()
	if !from.held {
		return nil, fmt.Errorf("prepare fragment %d: it belongs to another stage than this peer's", f)
	}
	outer := optimizer.Outer{LearningRate: rate.Value(), Momentum: r.outer.Momentum}
	if from.version != base {
		return nil, fmt.Errorf("prepare fragment %d from version %d, at %d: %w", f, base, from.version, ErrStale)
	}
	if len(frames) != from.layout.Slabs() {
		return nil, fmt.Errorf("prepare fragment %d: %d frames for %d slabs", f, len(frames), from.layout.Slabs())
	}
	s := &Shadow{fragment: f, base: base}
	results := make([]wire.Hash, len(frames))
	for i, frame := range frames {
		results[i] = wire.HashLeaf(frame)
	}
	s.result = wire.MerkleRoot(results)
	next, finite, err := r.step(outer, &from, frames)
	if err != nil {
		return nil, fmt.Errorf("prepare fragment %d, version %d: %w", f, base, err)
	}
	s.next = next
	if !finite {
		s.null = true
		s.next = from
		s.next.state = from.hash()
	}
	s.next.version = base + 1
	return s, nil
}

// SlabError says that a slab's frame, whose bytes are those named, is none of the result's codec: its owner made it so.
type SlabError struct {
	Slab  int
	Cause error
}

func (e *SlabError) Error() string { return fmt.Sprintf("slab %d: %v", e.Slab, e.Cause) }
func (e *SlabError) Unwrap() error { return e.Cause }

// step makes the outer step by pairs of slabs, so that they are decoded, stepped and
// hashed while they are in the cache. finite is false when the result must not be applied.
func (r *Replica) step(outer optimizer.Outer, from *fragment, frames [][]byte) (next fragment, finite bool, err error) {
	next = *from
	next.weights = make([]float32, len(from.weights))
	next.momentum = r.floats(len(from.weights))
	leaves := make([]wire.Hash, len(frames))
	gradient := make([]float32, slabLen(from.layout, 0))
	var h slabHasher
	finite = true
	for i, frame := range frames {
		a, b := from.layout.SlabValues(i)
		g := gradient[:b-a]
		if err := r.result.Decode(g, frame); err != nil {
			return fragment{}, false, &SlabError{i, err}
		}
		from.layout.ZeroPadding(g, i)
		from.layout.ZeroResting(g, i)
		finite = outer.Step(next.weights[a:b], next.momentum.Values[a:b], from.weights[a:b], from.momentum.Values[a:b], g) && finite
		if i%2 == 1 || i == len(frames)-1 {
			h.leaves(leaves, &next, i&^1)
		}
	}
	runtime.KeepAlive(from.momentum)
	runtime.KeepAlive(next.momentum)
	next.state = wire.MerkleRoot(leaves)
	return next, finite, nil
}

func slabLen(l *compress.Layout, i int) int {
	from, to := l.SlabValues(i)
	return to - from
}

// Promote makes a shadow the visible state because of a commit. It fails, and changes
// nothing, with ErrStale when the commit's base is not the head of its fragment, ErrOther
// when it names another result than the shadow's, and ErrDiverged when a state hash
// differs.
func (r *Replica) Promote(s *Shadow, c *wire.Commit) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.next.weights == nil || c.Fragment != uint64(s.fragment) || c.Result != s.result {
		return fmt.Errorf("promote fragment %d, version %d, result %s: %w", s.fragment, s.base, s.result.Short(), ErrOther)
	}
	f := &r.fragments[s.fragment]
	if c.Base != f.version || s.base != f.version {
		return fmt.Errorf("promote fragment %d, commit from version %d, at %d: %w", s.fragment, c.Base, f.version, ErrStale)
	}
	if c.BaseState != f.state {
		return fmt.Errorf("fragment %d, version %d: state %s, the run has %s: %w", s.fragment, f.version, f.state.Short(), c.BaseState.Short(), ErrDiverged)
	}
	if c.State != s.next.state {
		return fmt.Errorf("fragment %d, version %d: state %s, the run has %s: %w", s.fragment, s.next.version, s.next.state.Short(), c.State.Short(), ErrDiverged)
	}
	*f = s.next
	s.Drop()
	return nil
}

// Follow notes a commit of a fragment that this replica does not hold.
func (r *Replica) Follow(c *wire.Commit) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Fragment >= uint64(len(r.fragments)) || r.fragments[c.Fragment].held {
		return fmt.Errorf("follow a commit of fragment %d: it is not one of another stage", c.Fragment)
	}
	f := &r.fragments[c.Fragment]
	if c.Base != f.version {
		return fmt.Errorf("follow fragment %d, commit from version %d, at %d: %w", c.Fragment, c.Base, f.version, ErrStale)
	}
	f.version, f.state = c.Base+1, c.State
	return nil
}

// Apply is Prepare and Promote: the replay of one commit. The frames are those that the
// commit's result root names, in slab order.
func (r *Replica) Apply(c *wire.Commit, frames [][]byte) error {
	if c.Fragment >= uint64(len(r.fragments)) {
		return fmt.Errorf("apply a commit of fragment %d: the run has %d", c.Fragment, len(r.fragments))
	}
	s, err := r.Prepare(int(c.Fragment), c.Base, frames)
	if err != nil {
		return err
	}
	if err := r.Promote(s, c); err != nil {
		s.Drop()
		return err
	}
	return nil
}
