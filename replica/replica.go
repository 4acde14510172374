package replica

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"dunlin/compress"
	"dunlin/compute"
	"dunlin/optimizer"
	"dunlin/wire"
)

// Replica is the global state of a run on one peer. All methods may be called from
// several goroutines.
type Replica struct {
	spec   *wire.RunSpec
	run    wire.Hash
	outer  optimizer.Outer
	result compress.Codec
	room   Room

	mu        sync.RWMutex
	fragments []fragment
	tunings   wire.Tunings
}

// Govern takes in the settings entries of the log, in order, before versions that they govern are made.
func (r *Replica) Govern(entries ...*wire.Settings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range entries {
		r.tunings.Take(s)
	}
}

// Room gives a replica memory for outer momenta, which are touched by outer steps and checkpoints alone, so that they
// need not lie in the program's memory.
type Room interface {
	// Floats returns n zeros.
	Floats(n int) *Floats
}

// Floats are values that may be used only as long as what points to them is reachable: they may lie in memory that the
// garbage collector does not know.
type Floats struct{ Values []float32 }

// floats takes n zeros from the room, or from the program's memory where there is none.
func (r *Replica) floats(n int) *Floats {
	if r.room == nil {
		return &Floats{make([]float32, n)}
	}
	return r.room.Floats(n)
}

// fragment is the state of one fragment. weights and momentum are replaced, never
// written. Of a fragment that is not held only version and state are known.
type fragment struct {
	held     bool
	layout   *compress.Layout
	tensors  []int // indices in RunSpec.Tensors, in the layout's order
	version  uint64
	weights  []float32
	momentum *Floats
	state    wire.Hash // as the commit named it
}

// New returns state 0 of a run. The spec must be valid and is kept.
func New(spec *wire.RunSpec) (*Replica, error) { return NewStage(spec, wire.AllStages, nil) }

// NewStage is New for a peer that holds one stage, with momenta in room, or in memory where that is nil. State 0 of the
// other fragments is computed for its hash, one after the other, and dropped.
func NewStage(spec *wire.RunSpec, stage int, room Room) (*Replica, error) {
	return stateZero(spec, stage, layouts(spec), room)
}

// stateZero returns state 0 of a run whose fragments lie as layout says.
func stateZero(spec *wire.RunSpec, stage int, layout layoutFunc, room Room) (*Replica, error) {
	r, err := empty(spec, stage, layout, room)
	if err != nil {
		return nil, err
	}
	for i := range r.fragments {
		f := &r.fragments[i]
		if err := r.initialise(f); err != nil {
			return nil, fmt.Errorf("state 0 of fragment %d: %w", i, err)
		}
		if !f.held {
			f.weights, f.momentum = nil, nil
		}
	}
	return r, nil
}

// empty returns a replica without weights.
func empty(spec *wire.RunSpec, stage int, layout layoutFunc, room Room) (*Replica, error) {
	codec, err := compress.ByName(spec.Result)
	if err != nil {
		return nil, fmt.Errorf("codec of results: %w", err)
	}
	r := &Replica{
		spec: spec, run: spec.ID(), result: codec, room: room,
		outer:     optimizer.Outer{LearningRate: spec.Outer.LR.Value(), Momentum: spec.Outer.Momentum.Value()},
		fragments: make([]fragment, spec.Fragments), tunings: wire.NewTunings(spec.H, spec.Outer.LR),
	}
	if err := r.outer.Validate(); err != nil {
		return nil, err
	}
	for i, held := range spec.Holding(stage) {
		f := &r.fragments[i]
		f.held = held
		f.tensors = spec.FragmentTensors(i)
		if f.layout, err = layout(i); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Layout returns the layout of a fragment, a pure function of the RunSpec. Slabs are
// sized by the smaller of the two codecs, so that both encode one to compress.MinSlabBytes.
func Layout(spec *wire.RunSpec, f int) (*compress.Layout, error) {
	block := math.MaxInt
	for _, name := range []string{spec.Contribution, spec.Result} {
		codec, err := compress.ByName(name)
		if err != nil {
			return nil, fmt.Errorf("layout of fragment %d: %w", f, err)
		}
		block = min(block, compress.EncodedBlockBytes(codec))
	}
	var shapes []compress.Shape
	for _, i := range spec.FragmentTensors(f) {
		t := spec.Tensors[i]
		shapes = append(shapes, compress.Shape{Name: t.Name, Dims: extents(t.Shape), Corner: extents(t.Corner)})
	}
	l, err := compress.NewLayout(shapes, block)
	if err != nil {
		return nil, fmt.Errorf("layout of fragment %d: %w", f, err)
	}
	if l.Slabs() > wire.MaxSlabs {
		return nil, fmt.Errorf("layout of fragment %d: %d slabs, at most %d are allowed: choose more fragments", f, l.Slabs(), wire.MaxSlabs)
	}
	return l, nil
}

// extents are a spec's numbers as they index memory; none are nil.
func extents(of []uint64) []int {
	var out []int
	for _, d := range of {
		out = append(out, int(d))
	}
	return out
}

// initialise sets version 0: initial weights, momentum zero.
func (r *Replica) initialise(f *fragment) error {
	tensors := make([][]float32, len(f.tensors))
	for i, t := range f.tensors {
		var err error
		if tensors[i], err = initial(r.spec.Tensors[t], r.spec.Seed); err != nil {
			return err
		}
	}
	f.weights = make([]float32, f.layout.Values())
	f.momentum = &Floats{make([]float32, f.layout.Values())}
	if f.held {
		f.momentum = r.floats(f.layout.Values())
	}
	f.layout.Gather(f.weights, tensors)
	f.state = f.hash()
	return nil
}

// initial returns the first values of a tensor.
func initial(t wire.TensorSpec, seed uint64) ([]float32, error) {
	values := make([]float32, t.Size())
	switch t.Init {
	case wire.InitZero:
	case wire.InitOne:
		for i := range values {
			values[i] = 1
		}
	case wire.InitNormal:
		compute.Init(values, seed, t.Name, t.Scale.Value())
		compute.Outside(values, extents(t.Shape), extents(t.Corner), func(_ int, rest []float32) { clear(rest) })
	case wire.InitRows:
		compute.Outside(values, extents(t.Shape), extents(t.Corner), func(row int, rest []float32) {
			compute.InitRow(rest, seed, t.Name, row, t.Scale.Value())
		})
	default:
		return nil, fmt.Errorf("tensor %s: unknown initialisation %d", t.Name, t.Init)
	}
	for _, x := range values {
		if x-x != 0 {
			return nil, fmt.Errorf("tensor %s: scale %g makes values that are not finite", t.Name, t.Scale.Value())
		}
	}
	return values, nil
}

// Spec returns the run's RunSpec.
func (r *Replica) Spec() *wire.RunSpec { return r.spec }

// Fragments returns the number of fragments.
func (r *Replica) Fragments() int { return len(r.fragments) }

// Holds reports whether this peer has the weights of fragment f.
func (r *Replica) Holds(f int) bool { return r.fragments[f].held }

// Layout returns the layout of fragment f.
func (r *Replica) Layout(f int) *compress.Layout { return r.fragments[f].layout }

// Version returns the version that fragment f is at: the number of its commits.
func (r *Replica) Version(f int) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.fragments[f].version
}

// Weights returns fragment f's version and weights in block order. The slice is never
// written again and must not be written by the caller.
func (r *Replica) Weights(f int) (version uint64, weights []float32) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.fragments[f].version, r.fragments[f].weights
}

// Heads returns version and state hash of every fragment, as the commits named them.
func (r *Replica) Heads() []wire.FragmentHead {
	r.mu.RLock()
	defer r.mu.RUnlock()
	heads := make([]wire.FragmentHead, len(r.fragments))
	for i, f := range r.fragments {
		heads[i] = wire.FragmentHead{Version: f.version, State: f.state}
	}
	return heads
}

// Recompute returns Heads with the hash of every fragment that is held computed from
// memory, so that a bit that changed by itself shows. The cost is about 5 ns a parameter.
func (r *Replica) Recompute() []wire.FragmentHead {
	view := r.View()
	heads := view.Heads()
	for i := range view.fragments {
		if view.fragments[i].held {
			heads[i].State = view.fragments[i].hash()
		}
	}
	return heads
}

// Hash returns one hash of the state that is held, computed from memory: the Merkle root
// over its fragments' state hashes. Peers of one stage have equal hashes at one height.
func (r *Replica) Hash() wire.Hash { return r.HashHeld(r.Recompute()) }

// HashStages returns the hash of the state that the peers of each stage hold; heads are
// of all fragments.
func (r *Replica) HashStages(heads []wire.FragmentHead) []wire.Hash {
	out := make([]wire.Hash, r.spec.StageCount())
	for stage := range out {
		var held []wire.FragmentHead
		for f, h := range heads {
			if r.spec.StageOf(f) == stage {
				held = append(held, h)
			}
		}
		out[stage] = HashHeads(held)
	}
	return out
}

// HashHeld returns the Merkle root over heads, one a fragment, of the fragments that are held.
func (r *Replica) HashHeld(heads []wire.FragmentHead) wire.Hash {
	var held []wire.FragmentHead
	for i := range r.fragments {
		if r.fragments[i].held {
			held = append(held, heads[i])
		}
	}
	return HashHeads(held)
}

// HashHeads returns the Merkle root over the state hashes of heads, in fragment order.
func HashHeads(heads []wire.FragmentHead) wire.Hash {
	leaves := make([]wire.Hash, len(heads))
	for i, h := range heads {
		leaves[i] = h.State
	}
	return wire.MerkleRoot(leaves)
}

// ErrCorrupt says that the state in memory no longer has the hash that its commit
// named. The peer must stop contributing and repair itself by replay.
var ErrCorrupt = errors.New("replica does not match its own state hash")

// Check recomputes every hash and compares it with what the commits named.
func (r *Replica) Check() error {
	view := r.View()
	for i := range view.fragments {
		f := &view.fragments[i]
		if !f.held {
			continue
		}
		if got := f.hash(); got != f.state {
			return fmt.Errorf("fragment %d, version %d: hash %s, want %s: %w", i, f.version, got.Short(), f.state.Short(), ErrCorrupt)
		}
	}
	return nil
}

// CopyTo copies fragment f's weights into tensors, one slice a tensor in the order of
// Layout(f).Shapes.
func (r *Replica) CopyTo(f int, tensors [][]float32) error {
	_, weights := r.Weights(f)
	l := r.Layout(f)
	if err := l.Check(tensors); err != nil {
		return fmt.Errorf("copy fragment %d: %w", f, err)
	}
	l.Scatter(tensors, weights)
	return nil
}

// Tensors returns a copy of the weights that are held as named tensors, in the RunSpec's order.
func (r *Replica) Tensors() []compute.Tensor { return r.View().Tensors() }

// Tensors is Replica.Tensors of the view's state.
func (v *View) Tensors() []compute.Tensor {
	out := make([]compute.Tensor, v.tensors)
	for i := range v.fragments {
		f := &v.fragments[i]
		if !f.held {
			continue
		}
		data := make([][]float32, len(f.tensors))
		for j, t := range f.tensors {
			shape := f.layout.Shapes()[j]
			data[j] = make([]float32, shape.Values())
			out[t] = compute.Tensor{Name: shape.Name, Shape: shape.Dims, Data: data[j]}
		}
		f.layout.Scatter(data, f.weights)
	}
	return slices.DeleteFunc(out, func(t compute.Tensor) bool { return t.Data == nil })
}

// View is the state at one moment. It does not change, and costs no memory of its own
// but what later commits replace: a donor serves a joiner from one.
type View struct {
	fragments []fragment
	tensors   int // of the whole model
}

// View returns the state as it is now.
func (r *Replica) View() *View {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return &View{fragments: slices.Clone(r.fragments), tensors: len(r.spec.Tensors)}
}
