package training

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/compute/cpu/cputest"
	"dunlin/model"
	"dunlin/optimizer"
)

// optimizers are one of each kind.
func optimizers() []optimizer.Config {
	adam := optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1}
	return []optimizer.Config{
		adam,
		optimizer.MuonConfig{Momentum: 0.95, Every: 1, AdamW: adam},
		optimizer.LAMBConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-6, Clip: 1},
		optimizer.SGDConfig{Momentum: 0.9, Clip: 1},
		optimizer.RMSPropConfig{Alpha: 0.95, Eps: 1e-8, Clip: 1},
		optimizer.AdaGradConfig{Start: 0.1, Clip: 1},
	}
}

// counting counts what a device allocates.
type counting struct {
	*cpu.Device
	bytes int64
}

func (c *counting) Alloc(n int) (compute.Buffer, error) {
	c.bytes += 4 * int64(n)
	return c.Device.Alloc(n)
}

func (c *counting) AllocInts(n int) (compute.Ints, error) {
	c.bytes += 4 * int64(n)
	return c.Device.AllocInts(n)
}

// TestPlanKnowsWhatIsAllocated compares what plans predict with what a trainer then takes, for every optimizer and
// limits between the most and the least.
func TestPlanKnowsWhatIsAllocated(t *testing.T) {
	for _, preset := range []string{"nano", "nano-llama"} {
		for _, inner := range optimizers() {
			cfg := soloConfig(t, 1, "unused").Trainer
			shape, err := model.Preset(preset)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Model, cfg.Batch, cfg.Inner = shape, 8, inner
			least := new(MemoryError)
			if _, err := cfg.Plan(cputest.Device(t), Demand{Limit: 1, Micros: 2}); !errors.As(err, &least) {
				t.Fatalf("a plan in one byte: %v", err)
			}
			most := plan(t, cfg, Demand{Micros: 2})
			for _, limit := range []int64{0, least.Least, (least.Least + most.Bytes) / 2} {
				p := plan(t, cfg, Demand{Limit: limit, Micros: 2})
				if limit > 0 && p.Bytes > limit {
					t.Errorf("%s, %s: %d bytes planned, %d are allowed", preset, inner.Name(), p.Bytes, limit)
				}
				c := &counting{Device: cputest.Device(t)}
				cfg.Room = p.Room
				tr, err := NewTrainer(c, cfg)
				if err != nil {
					t.Fatal(err)
				}
				planned := p.Model - scratch(c, cfg.Model.Sizes(p.Room.Batch*cfg.Model.Context))
				if off := float64(planned-c.bytes) / float64(c.bytes); off < 0 || off > 0.02 {
					t.Errorf("%s, %s, %v: %d bytes planned for the model, it takes %d", preset, inner.Name(), p, planned, c.bytes)
				}
				if err := tr.Close(); err != nil {
					t.Error(err)
				}
				cfg.Room = model.Room{}
			}
		}
	}
}

func plan(t *testing.T, cfg TrainerConfig, d Demand) Plan {
	t.Helper()
	p, err := cfg.Plan(cputest.Device(t), d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPlanPrefersSpeed walks from much memory to little: no step may be faster than the one before it, and what is
// planned uses the memory there is.
func TestPlanPrefersSpeed(t *testing.T) {
	cfg := soloConfig(t, 1, "unused").Trainer
	cfg.Model, _ = model.Preset("gpt2")
	cfg.Model.Context, cfg.Batch = 256, 4
	free := plan(t, cfg, Demand{Micros: 1})
	if free.Passes != 1 || free.Extra != 0 || !free.Room.Lend || free.Room.Kept != model.KeptProducts {
		t.Errorf("without a limit: %+v", free)
	}
	before := free
	limit := before.Bytes
	for ; ; limit -= 20e6 {
		p, err := cfg.Plan(cputest.Device(t), Demand{Limit: limit, Micros: 1})
		if least := new(MemoryError); errors.As(err, &least) {
			if least.Least <= limit || least.Least > before.Bytes {
				t.Errorf("%v, but a plan takes %d", err, before.Bytes)
			}
			if p, err := cfg.Plan(cputest.Device(t), Demand{Limit: least.Least, Micros: 1}); err != nil || p.Bytes != least.Least {
				t.Errorf("the least that works gives %+v, %v", p, err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.Bytes > limit || p.Extra < before.Extra {
			t.Errorf("within %d: %+v after %+v", limit, p, before)
		}
		before = p
	}
	if limit > 2.15e9 || before.Extra > 0.3 {
		t.Errorf("gpt2 at 4 windows fits into no less than %d bytes, at an extra of %.2f", limit, before.Extra)
	}
	if p := plan(t, cfg, Demand{Limit: 2.3e9, Used: 30e6, Micros: 1}); p.Extra > 0.05 {
		t.Errorf("gpt2 within 2.3 GB: %+v", p)
	}
	if p := plan(t, cfg, Demand{Limit: 2.3e9, Used: 30e6, Micros: 2}); p.Room.Lend {
		t.Errorf("gradients that two micro-batches add up in lend their memory: %+v", p)
	}
}

// TestPlansTrainAlike makes steps in every plan. Those of one pass have the bits of one that keeps everything; those
// of several come near.
func TestPlansTrainAlike(t *testing.T) {
	cfg := soloConfig(t, 1, "unused").Trainer
	cfg.Inner = optimizer.SGDConfig{Momentum: 0.9, Clip: 1} // AdamW makes much of gradients that are nearly zero
	rng := rand.New(rand.NewPCG(8, 8))
	tokens := make([]int32, 3*cfg.Batch*cfg.Model.Context)
	for i := range tokens {
		tokens[i] = rng.Int32N(256)
	}
	for _, micros := range []int{1, 3} {
		ours := tokens[:micros*cfg.Batch*cfg.Model.Context]
		steps := func(room model.Room) ([]float32, StepResult) {
			cfg.Room = room
			tr, err := NewTrainer(cputest.Device(t), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			tr.Model().Init(1)
			var r StepResult
			for range 3 {
				if r, err = tr.Step(ours, ours, 0.5); err != nil {
					t.Fatal(err)
				}
			}
			return slices.Clone(tr.Model().Params().Host), r
		}
		want, told := steps(model.Room{})
		for _, batch := range []int{1, 2, 4} {
			for kept := model.KeptProducts; kept <= model.KeptInput; kept++ {
				got, r := steps(model.Room{Batch: batch, Kept: kept, Lend: micros*cfg.Batch == batch})
				if batch == cfg.Batch && (!slices.Equal(got, want) || r != told) {
					t.Errorf("%d micro-batches, %v computed again: other bits", micros, kept)
				}
				if d := largest(got, want); d > 1e-7 || math.Abs(r.Loss-told.Loss) > 1e-6 || math.Abs(r.FirstNorm/told.FirstNorm-1) > 1e-4 || math.Abs(r.Norm/told.Norm-1) > 1e-4 {
					t.Errorf("%d micro-batches, passes of %d, %v computed again: weights differ by %g; %+v, want %+v", micros, batch, kept, d, r, told)
				}
			}
		}
	}
	cfg.Room = model.Room{Batch: 2, Lend: true}
	tr, err := NewTrainer(cputest.Device(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	ours := tokens[:cfg.Batch*cfg.Model.Context]
	if _, err := tr.Step(ours, ours, 0.5); err == nil || !strings.Contains(err.Error(), "lend") {
		t.Errorf("two passes with lent gradients: %v", err)
	}
	cfg.Room = model.Room{Batch: 3}
	if err := cfg.Validate(); err == nil {
		t.Error("passes of 3 in a micro-batch of 4 accepted")
	}
}

// largest returns the largest difference.
func largest(a, b []float32) float64 {
	most := 0.0
	for i := range a {
		most = max(most, math.Abs(float64(a[i]-b[i])))
	}
	return most
}

// roomy is a device with so many bytes of its own free.
type roomy struct {
	compute.Device
	free int64
}

func (r roomy) FreeMemory() (int64, error) { return r.free, nil }

// A device with memory of its own bounds the plan by what is free there; what the process has resident is elsewhere.
func TestPlanFitsTheDevicesOwnMemory(t *testing.T) {
	cfg := soloConfig(t, 1, "unused").Trainer
	shape, err := model.Preset("nano")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Model, cfg.Batch = shape, 16
	host := Demand{Used: 1 << 30, Beside: 1 << 30, Micros: 1}
	wide, err := cfg.Plan(roomy{cputest.Device(t), 8 << 30}, host)
	if err != nil {
		t.Fatal(err)
	}
	if wide.Passes != 1 || !wide.Apart || wide.Bytes > 1<<30 || !strings.HasSuffix(wide.String(), "on the card") {
		t.Errorf("plenty of room: %v", wide)
	}
	const free = 64<<20 + 40e6
	tight, err := cfg.Plan(roomy{cputest.Device(t), free}, host)
	if err != nil {
		t.Fatal(err)
	}
	if tight.Passes < 2 || tight.Bytes > free {
		t.Errorf("%d bytes free: %v", int64(free), tight)
	}
	host.Limit = 35e6
	if bound, err := cfg.Plan(roomy{cputest.Device(t), 8 << 30}, host); err != nil || bound.Bytes > host.Limit {
		t.Errorf("a limit below what is free: %v, %v", bound, err)
	}
	var short *MemoryError
	if _, err := cfg.Plan(roomy{cputest.Device(t), 1000}, Demand{}); !errors.As(err, &short) {
		t.Errorf("a full device: %v", err)
	}
}
