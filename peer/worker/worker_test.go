package worker

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/compute"
	"dunlin/engine"
	"dunlin/peer/mailbox"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/replica"
	"dunlin/wire"
)

// slow is an engine whose steps take a second.
type slow struct {
	engine.Engine
	steps atomic.Int64
}

func (s *slow) Step([]uint64, float64) (float64, error) {
	<-time.After(time.Second)
	s.steps.Add(1)
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
		if e.steps.Load() != 5 || took.Round(time.Millisecond) != 4*time.Second {
			t.Errorf("%d steps in 18 s of %v each with their rest, want 5 of 4 s", e.steps.Load(), took)
		}
		w.Orders.Put(Halt{})
		synctest.Wait()
		if w.Orders.Take() != nil {
			t.Error("an order was left until the end of the rest")
		}
		<-time.After(20 * time.Second)
		synctest.Wait()
		if e.steps.Load() != 5 {
			t.Errorf("%d steps after the halt", e.steps.Load()-5)
		}
		cancel()
		<-ended
	})
}

// fragile is an engine whose device is lost in the first step. What is pushed while it is lost goes nowhere, and it comes
// back with weights of zero.
type fragile struct {
	slow
	live [][]float32
	lost atomic.Bool
}

func (f *fragile) Live() [][]float32 { return f.live }
func (f *fragile) Pull([]int) error  { return nil }
func (f *fragile) Push([]int) error  { return nil }
func (f *fragile) Name() string      { return "fragile" }

func (f *fragile) Reopen() error {
	f.lost.Store(false)
	for _, tensor := range f.live {
		clear(tensor)
	}
	return nil
}

func (f *fragile) Step(positions []uint64, progress float64) (float64, error) {
	if f.steps.Load() == 0 {
		<-time.After(time.Second)
		f.steps.Store(1)
		f.lost.Store(true)
		return 0, compute.ErrLost
	}
	return f.slow.Step(positions, progress)
}

// TestAReopenedDeviceWaitsForWeights: weights that were on their way as the device was lost are not in it once it is back.
func TestAReopenedDeviceWaitsForWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec, _ := recipetest.Spec(t, func(*recipe.Run) {})
		configs, err := recipe.Contributions(spec)
		if err != nil {
			t.Fatal(err)
		}
		r, err := replica.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		begin := Begin{Slot: 1, Leases: []wire.Range{{From: 0, To: 100 * spec.Data.Batch}}}
		for f := range r.Fragments() {
			version, weights := r.Weights(f)
			begin.Versions, begin.Weights = append(begin.Versions, version), append(begin.Weights, weights)
		}
		e := &fragile{}
		for _, tensor := range spec.Tensors {
			e.live = append(e.live, make([]float32, tensor.Size()))
		}
		back := false
		w := New(spec, e, configs, 0, func(ev any) {
			_, is := ev.(DeviceBack)
			back = back || is
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.Run(ctx)
			close(ended)
		}()
		w.Orders.Put(begin)
		<-time.After(time.Second / 2)
		w.Orders.Put(begin) // it is found as the step fails
		<-time.After(time.Second)
		if !e.lost.Load() {
			t.Fatal("the device was not lost")
		}
		<-time.After(2 * firstPatience)
		w.Orders.Put(Resume{})
		<-time.After(10 * time.Second)
		synctest.Wait()
		if !back || e.steps.Load() != 1 {
			t.Errorf("the device is back: %v; %d steps were made with weights of nobody", back, e.steps.Load()-1)
		}
		w.Orders.Put(begin)
		<-time.After(10 * time.Second)
		synctest.Wait()
		if e.steps.Load() < 5 {
			t.Errorf("%d steps in 10 s with the run's weights", e.steps.Load()-1)
		}
		cancel()
		<-ended
	})
}
