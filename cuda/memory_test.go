package cuda

import (
	"errors"
	"testing"

	"dunlin/compute"
	"dunlin/cuda/driver"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/training"
)

// TestMemoryIsForetold plans a training on a card, makes a step that computes
// nothing, and compares what it took of the card with the plan.
func TestMemoryIsForetold(t *testing.T) {
	for _, preset := range []string{"pico", "nano", "nano-llama", "small-llama"} {
		for _, precision := range []compute.Precision{compute.FP32, compute.BF16} {
			shape, err := model.Preset(preset)
			if err != nil {
				t.Fatal(err)
			}
			const batch = 4
			d, err := New(&idle{}, Options{Precision: precision})
			if err != nil {
				t.Fatal(err)
			}
			constant := optimizer.Schedule{Peak: 1e-3, Shape: optimizer.Constant}
			cfg := training.TrainerConfig{
				Model: shape, Batch: batch, LR: constant, WeightDecay: constant, AdamW: optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8},
			}
			plan, err := cfg.Plan(d, training.Demand{Micros: 1})
			if err != nil {
				t.Fatal(err)
			}
			cfg.Room = plan.Room
			trainer, err := training.NewTrainer(d, cfg)
			if err != nil {
				t.Fatal(err)
			}
			rows := batch * shape.Context
			if _, err := trainer.Step(make([]int32, rows), make([]int32, rows), 1); err != nil {
				t.Fatal(err)
			}
			own := d.partial.bytes + d.delta.bytes + d.packed[0].bytes + d.packed[1].bytes + d.largest.bytes
			if foretold := int(d.Scratch(shape.Sizes(plan.Room.Batch * shape.Context))); own > foretold || foretold > 4*own+1<<19 {
				t.Errorf("%s in %s: the device takes %d bytes for itself, foretold were %d", preset, precision, own, foretold)
			}
			taken := 0
			for _, bytes := range d.memory.sizes {
				taken += bytes
			}
			if taken > int(plan.Bytes) || plan.Bytes > int64(taken)*3/2+1<<22 {
				t.Errorf("%s in %s: %d bytes of the card are taken, the plan said %d", preset, precision, taken, plan.Bytes)
			}
			if err := trainer.Close(); err != nil {
				t.Error(err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// narrow is a card with so much memory.
type narrow struct {
	idle
	left int
}

func (n *narrow) Memory() (free, total uint64, err error) { return uint64(n.left), 1 << 40, nil }

func (n *narrow) Alloc(bytes int) (driver.Pointer, error) {
	if bytes > n.left {
		return 0, &driver.Error{Code: driver.OutOfMemory, Call: "cuMemAlloc"}
	}
	n.left -= bytes
	return n.idle.Alloc(bytes)
}

// TestWhatIsMissingShowsAtOnce: a trainer on a card that lacks a byte of what its steps take for themselves is not made,
// so that there can be a smaller plan.
func TestWhatIsMissingShowsAtOnce(t *testing.T) {
	shape, err := model.Preset("nano")
	if err != nil {
		t.Fatal(err)
	}
	constant := optimizer.Schedule{Peak: 1e-3, Shape: optimizer.Constant}
	cfg := training.TrainerConfig{
		Model: shape, Batch: 2, LR: constant, WeightDecay: constant, AdamW: optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8},
	}
	const plenty = 1 << 30
	made := func(left int) (took int, err error) {
		card := &narrow{left: left}
		d, err := New(card, Options{Precision: compute.BF16})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		trainer, err := training.NewTrainer(d, cfg)
		if err != nil {
			return 0, err
		}
		took = left - card.left
		tokens := make([]int32, cfg.Batch*shape.Context)
		if _, err := trainer.Step(tokens, tokens, 1); err != nil {
			t.Fatal(err)
		}
		if later := left - card.left - took; later > 1<<16 {
			t.Errorf("a first step takes %d bytes more than the trainer took", later)
		}
		return took, trainer.Close()
	}
	took, err := made(plenty)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := made(took - 1); !errors.Is(err, compute.ErrMemory) {
		t.Errorf("with a byte too little: %v", err)
	}
}

// TestNextPlanKnowsWhatCameBack: what a trainer took that found too little memory is there for a smaller one, and the next
// plan may count on it.
func TestNextPlanKnowsWhatCameBack(t *testing.T) {
	shape, err := model.Preset("nano")
	if err != nil {
		t.Fatal(err)
	}
	constant := optimizer.Schedule{Peak: 1e-3, Shape: optimizer.Constant}
	cfg := training.TrainerConfig{
		Model: shape, Batch: 4, LR: constant, WeightDecay: constant, AdamW: optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8},
	}
	card := &narrow{left: 20 << 20}
	d, err := New(card, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	before, err := d.FreeMemory()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := training.NewTrainer(d, cfg); !errors.Is(err, compute.ErrMemory) {
		t.Fatalf("a trainer in 20 MiB: %v", err)
	}
	own := d.partial.bytes + d.delta.bytes
	if after, err := d.FreeMemory(); err != nil || before-after > int64(own)+2*granule || card.left > int(before)/2 {
		t.Errorf("%d bytes were free and %d are, %d of them not taken yet, %d are the device's own: %v", before, after, card.left, own, err)
	}
}
