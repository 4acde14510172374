package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/engine"
	"dunlin/peer/mailbox"
	"dunlin/wire"
)

// slow is an engine whose steps take a second.
type slow struct {
	engine.Engine
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
		e := &slow{}
		w := &Worker{
			spec: spec, engine: e, Orders: mailbox.New[any](), duty: 0.25, running: true, members: 1, started: time.Now(),
			leases: []wire.Range{{From: 0, To: 100}},
			report: func(r any) {
				if s, ok := r.(StepDone); ok {
					took = s.Took
				}
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.Run(ctx)
			close(ended)
		}()
		<-time.After(18 * time.Second) // steps end after 1, 5, 9, 13 and 17 seconds
		synctest.Wait()
		if e.steps != 5 || took.Round(time.Millisecond) != 4*time.Second {
			t.Errorf("%d steps in 18 s of %v each with their rest, want 5 of 4 s", e.steps, took)
		}
		w.Orders.Put(Halt{})
		synctest.Wait()
		if w.Orders.Take() != nil {
			t.Error("an order was left until the end of the rest")
		}
		<-time.After(20 * time.Second)
		synctest.Wait()
		if e.steps != 5 {
			t.Errorf("%d steps after the halt", e.steps-5)
		}
		cancel()
		<-ended
	})
}
