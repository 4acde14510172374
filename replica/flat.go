package replica

import (
	"dunlin/compress"
	"dunlin/wire"
)

// layoutFunc returns the layout of a fragment.
type layoutFunc func(f int) (*compress.Layout, error)

func layouts(spec *wire.RunSpec) layoutFunc {
	return func(f int) (*compress.Layout, error) { return Layout(spec, f) }
}

// FlatLayout is Layout for simulated peers: the fragment is one 1-D tensor, cut into
// slabs of slabValues values (compress.NewFlatLayout).
func FlatLayout(spec *wire.RunSpec, f, slabValues int) (*compress.Layout, error) {
	tensor := &spec.Tensors[spec.FragmentTensors(f)[0]]
	return compress.NewFlatLayout(tensor.Name, tensor.Size(), slabValues)
}

// NewFlat is New for simulated peers, whose fragments have FlatLayout.
func NewFlat(spec *wire.RunSpec, slabValues int) (*Replica, error) {
	return stateZero(spec, wire.AllStages, flat(spec, slabValues), nil)
}

// RestoreFlat is Restore for simulated peers.
func RestoreFlat(spec *wire.RunSpec, slabValues int, heads []wire.FragmentHead, manifests []wire.Manifest, get func(wire.Hash) ([]byte, error)) (*Replica, error) {
	return restore(spec, wire.AllStages, flat(spec, slabValues), nil, heads, manifests, get)
}

func flat(spec *wire.RunSpec, slabValues int) layoutFunc {
	return func(f int) (*compress.Layout, error) { return FlatLayout(spec, f, slabValues) }
}
