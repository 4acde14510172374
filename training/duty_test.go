package training

import (
	"context"
	"errors"
	"testing"
	"time"

	"dunlin/compute/cpu/cputest"
)

func TestDuty(t *testing.T) {
	for _, c := range []struct {
		duty Duty
		rest time.Duration
	}{{0, 0}, {1, 0}, {0.5, time.Second}, {0.25, 3 * time.Second}, {0.01, 99 * time.Second}} {
		if err := c.duty.Validate(); err != nil {
			t.Error(err)
		}
		if got := c.duty.Rest(time.Second); (got - c.rest).Abs() > time.Microsecond {
			t.Errorf("duty %v rests %v after a second, want %v", c.duty, got, c.rest)
		}
	}
	for _, d := range []Duty{-1, 0.001, 1.5} {
		if d.Validate() == nil {
			t.Errorf("duty %v was taken", d)
		}
	}
}

// TestSoloRests stops a training in its first rest.
func TestSoloRests(t *testing.T) {
	cfg := soloConfig(t, 1000, t.TempDir())
	cfg.Duty = leastDuty
	solo, err := NewSolo(cputest.Device(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer solo.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = solo.Run(ctx)
	var stopped *Stopped
	if !errors.As(err, &stopped) || stopped.Step > 1 {
		t.Errorf("%v, want it stopped after at most a step", err)
	}
}
