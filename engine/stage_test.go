package engine

import (
	"slices"
	"testing"

	"dunlin/model"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/wire"
)

// threeStages is a run of a small model in three stages whose activations lose nothing.
func threeStages(t *testing.T, batch, micro int) (*wire.RunSpec, []byte) {
	t.Helper()
	return recipetest.Spec(t, func(r *recipe.Run) { r.Stages, r.Activation, r.Batch, r.Micro = 3, "fp32", batch, micro })
}

// TestStageForgetsWhatDoesNotCount drops a gradient and adds another: the step is
// that of the other alone.
func TestStageForgetsWhatDoesNotCount(t *testing.T) {
	spec, _ := threeStages(t, 2, 1)
	run := func(dropped bool) []float32 {
		e, err := NewStage(spec, 1, device(t), false, "", model.Room{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		recipetest.Fill(t, spec, e.Live())
		back := func(micro uint64, seed float32) wire.StageKey {
			values := make([]float32, 8*16)
			for i := range values {
				values[i] = seed * float32(i%7)
			}
			frame, err := e.codec.Encode(nil, values)
			if err != nil {
				t.Fatal(err)
			}
			key := wire.StageKey{Trainer: 1, Micro: micro, Stage: 1, Attempt: 1}
			if _, _, err := e.Backward(key, &wire.Cargo{Windows: []wire.Range{{From: 0, To: 1}}, Input: frame, Gradient: frame}); err != nil {
				t.Fatal(err)
			}
			return key
		}
		if dropped {
			e.Drop(back(7, 3))
		}
		for micro := range uint64(2) {
			if err := e.Add(back(micro, float32(micro+1))); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Apply(0.1); err != nil {
			t.Fatal(err)
		}
		if e.Apply(0.1) == nil {
			t.Error("a step on no gradient is made")
		}
		return slices.Clone(e.stage.Params().Host)
	}
	if !slices.Equal(run(false), run(true)) {
		t.Error("a dropped gradient leaves something behind")
	}
}

// TestStageRefusesForeignBytes gives an engine what no trainer sends.
func TestStageRefusesForeignBytes(t *testing.T) {
	spec, _ := threeStages(t, 2, 1)
	for stage := range spec.StageCount() {
		e, err := NewStage(spec, stage, device(t), false, "", model.Room{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		for name, c := range map[string]*wire.Cargo{
			"nothing": {}, "too many windows": {Windows: []wire.Range{{From: 0, To: 1 << 59}}},
			"short": {Windows: []wire.Range{{From: 0, To: 1}}, Input: make([]byte, 3), Gradient: make([]byte, 3)},
			"noise": {Windows: []wire.Range{{From: 0, To: 1}}, Input: make([]byte, 12+4*128), Gradient: make([]byte, 12+4*128)},
		} {
			if _, _, err := e.Backward(wire.StageKey{}, c); err == nil {
				t.Errorf("stage %d, %s: no error", stage, name)
			}
		}
	}
}
