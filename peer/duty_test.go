package peer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/wire"
)

func TestDuty(t *testing.T) {
	for _, c := range []struct {
		duty Duty
		rest time.Duration
	}{{0, 0}, {1, 0}, {0.5, time.Second}, {0.25, 3 * time.Second}, {0.01, 99 * time.Second}} {
		if err := c.duty.Validate(); err != nil {
			t.Error(err)
		}
		if got := c.duty.rest(time.Second); (got - c.rest).Abs() > time.Microsecond {
			t.Errorf("duty %v rests %v after a second, want %v", c.duty, got, c.rest)
		}
	}
	for _, d := range []Duty{-1, 0.001, 1.5} {
		if d.Validate() == nil {
			t.Errorf("duty %v was taken", d)
		}
	}
}

// slow is an engine whose steps take a second.
type slow struct {
	Engine
	steps int
}

func (s *slow) Step([]uint64, float64) (float64, error) {
	<-time.After(time.Second)
	s.steps++
	return 0, nil
}

// TestWorkerRests lets a worker with a duty of a quarter train for 18 seconds of virtual time, then halts it while it
// rests: orders do not wait for the end of a rest.
func TestWorkerRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := &wire.RunSpec{}
		spec.Data.Batch, spec.Model.Context, spec.TokenBudget = 1, 8, 1000
		var took time.Duration
		engine := &slow{}
		w := &worker{
			spec: spec, engine: engine, orders: newMailbox[any](), duty: 0.25, running: true, members: 1, started: time.Now(),
			leases: []wire.Range{{From: 0, To: 100}},
			report: func(r any) {
				if s, ok := r.(stepDone); ok {
					took = s.took
				}
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.run(ctx)
			close(ended)
		}()
		<-time.After(18 * time.Second) // steps end after 1, 5, 9, 13 and 17 seconds
		synctest.Wait()
		if engine.steps != 5 || took.Round(time.Millisecond) != 4*time.Second {
			t.Errorf("%d steps in 18 s of %v each with their rest, want 5 of 4 s", engine.steps, took)
		}
		w.orders.put(halt{})
		synctest.Wait()
		if w.orders.take() != nil {
			t.Error("an order was left until the end of the rest")
		}
		<-time.After(20 * time.Second)
		synctest.Wait()
		if engine.steps != 5 {
			t.Errorf("%d steps after the halt", engine.steps-5)
		}
		cancel()
		<-ended
	})
}

// TestSoloRests stops a training in its first rest.
func TestSoloRests(t *testing.T) {
	cfg := soloConfig(t, 1000, t.TempDir())
	cfg.Duty = leastDuty
	solo, err := NewSolo(device(t), cfg)
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
