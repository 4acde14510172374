package replica

import (
	"testing"

	"dunlin/wire"
)

func TestFlatStateSurvivesRestore(t *testing.T) {
	spec := &wire.RunSpec{
		Fragments: 1, Seed: 3, Contribution: "int8", Result: "int8",
		Outer:   wire.OuterSpec{LR: wire.FloatOf(0.7), Momentum: wire.FloatOf(0.9)},
		Tensors: []wire.TensorSpec{{Name: "w", Shape: []uint64{100}, Init: wire.InitNormal, Scale: wire.FloatOf(0.01)}},
	}
	r, err := NewFlat(spec, 24)
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Layout(0).Slabs(); n != 5 {
		t.Fatalf("%d slabs of 24 values for 100, want 5", n)
	}
	view := r.View()
	slabs := map[wire.Hash][]byte{}
	manifest := view.Manifest(0)
	for i, h := range manifest.Slabs {
		slabs[h] = view.SlabBytes(nil, 0, i)
	}
	get := func(h wire.Hash) ([]byte, error) { return slabs[h], nil }
	back, err := RestoreFlat(spec, 24, r.Heads(), []wire.Manifest{manifest}, get)
	if err != nil {
		t.Fatal(err)
	}
	if back.Hash() != r.Hash() {
		t.Fatalf("restored as %s, was %s", back.Hash(), r.Hash())
	}
	if _, err := RestoreFlat(spec, 20, r.Heads(), []wire.Manifest{manifest}, get); err == nil {
		t.Fatal("a manifest of another cut was restored")
	}
}
