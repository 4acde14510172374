package engine

import (
	"errors"
	"math"
	"strings"
	"testing"

	"dunlin/compute/cpu/cputest"
	"dunlin/data"
	"dunlin/model"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/training"
)

// TestWorkerFitsItsMemory: a worker with less memory than a step's windows need reads the same windows in parts.
func TestWorkerFitsItsMemory(t *testing.T) {
	spec, text := recipetest.Spec(t, func(r *recipe.Run) {
		var err error
		if r.Model, err = model.Preset("pico"); err != nil {
			t.Fatal(err)
		}
		text := []byte(strings.Repeat("func f(x int) int { return x + 1 }\n", 4000))
		r.Corpus = &data.Corpus{Train: text, HeldOut: text[:4096]}
	})
	free, err := WorkerPlan(spec, cputest.Device(t), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	least := new(training.MemoryError)
	if _, err := WorkerPlan(spec, cputest.Device(t), 1<<20, 1<<20); !errors.As(err, &least) {
		t.Fatalf("a plan in 1 MB: %v", err)
	}
	tight, err := WorkerPlan(spec, cputest.Device(t), least.Least, 1<<20)
	if err != nil || tight.Bytes >= free.Bytes || tight.Passes < 2 {
		t.Fatalf("%+v within %d bytes, %+v without a limit: %v", tight, least.Least, free, err)
	}
	var losses [2][]float64
	for i, p := range []training.Plan{free, tight} {
		e, err := NewLocal(spec, cputest.Device(t), text, false, "", p.Room)
		if err != nil {
			t.Fatal(err)
		}
		e.trainer.Model().Init(1)
		positions := make([]uint64, spec.Data.Batch)
		for step := range 4 {
			for j := range positions {
				positions[j] = uint64(step*len(positions) + j)
			}
			loss, err := e.Step(positions, 0.5)
			if err != nil {
				t.Fatal(err)
			}
			losses[i] = append(losses[i], loss)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	for i, loss := range losses[0] {
		if math.Abs(loss-losses[1][i]) > 1e-4 || losses[0][3] >= losses[0][0] {
			t.Errorf("losses %v with all memory, %v with little", losses[0], losses[1])
		}
	}
}
