package training

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"dunlin/compute/cpu/cputest"
	"dunlin/model"
)

// TestProfileCountsAllOperations compares the operations that a profile counts with those that a model's shape says, and
// the time of its parts with that of the whole, by a clock that moves on whenever it is looked at.
func TestProfileCountsAllOperations(t *testing.T) {
	for _, preset := range []string{"pico", "pico-llama"} {
		cfg := soloConfig(t, 1, "unused").Trainer
		var err error
		if cfg.Model, err = model.Preset(preset); err != nil {
			t.Fatal(err)
		}
		var now time.Duration
		clock := func() time.Duration { now += time.Millisecond; return now }
		p, err := MeasureProfile(t.Context(), cputest.Device(t), cfg, 0, clock)
		if err != nil {
			t.Fatal(err)
		}
		var flop float64
		calls := 0
		for _, o := range p.Operations {
			flop += o.FLOP
			calls += o.Calls
			if o.Time != time.Duration(o.Calls)*time.Millisecond || o.FLOP == 0 && o.Bytes == 0 {
				t.Errorf("%s: %+v", preset, o)
			}
		}
		want := cfg.Model.FLOPPerToken(cfg.Model.Context) * float64(cfg.Batch*cfg.Model.Context)
		if p.Steps != 1 || math.Abs(flop/want-1) > 1e-9 {
			t.Errorf("%s: %d steps of %g operations, want %g", preset, p.Steps, flop, want)
		}
		if p.Step != time.Duration(2*calls+1)*time.Millisecond {
			t.Errorf("%s: a step of %d operations takes %v", preset, calls, p.Step)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := MeasureProfile(ended, cputest.Device(t), soloConfig(t, 1, "unused").Trainer, 0, func() time.Duration { return 0 }); !errors.Is(err, context.Canceled) {
		t.Errorf("a profile that was ended: %v", err)
	}
}
