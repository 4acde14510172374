package peer

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/engine"
	"dunlin/peer/figures"
	"dunlin/peer/mailbox"
	"dunlin/status"
	"dunlin/training"
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
		w := &worker{
			spec: spec, engine: e, orders: mailbox.New[any](), duty: 0.25, running: true, members: 1, started: time.Now(),
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
		if e.steps != 5 || took.Round(time.Millisecond) != 4*time.Second {
			t.Errorf("%d steps in 18 s of %v each with their rest, want 5 of 4 s", e.steps, took)
		}
		w.orders.Put(halt{})
		synctest.Wait()
		if w.orders.Take() != nil {
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

// TestWorkerKeepsPace gives a worker that trains all the time a duty of a quarter.
func TestWorkerKeepsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Peer{log: slog.New(slog.DiscardHandler), cfg: Config{Limits: training.CardLimits{Temperature: 70}}, figures: figures.New(figures.Subject{}, time.Now())}
		p.governor = training.NewGovernor(p.cfg.Limits, 0)
		p.worker = &worker{orders: mailbox.New[any]()}
		p.cardsTold(cardsSeen{cards: []status.Card{{Name: "card", Temperature: 60}}})
		if got := p.worker.orders.Take(); len(got) != 0 {
			t.Errorf("a cool card: %v", got)
		}
		time.Sleep(training.CardsEvery)
		p.cardsTold(cardsSeen{cards: []status.Card{{Name: "card", Temperature: 75}}})
		orders := p.worker.orders.Take()
		if len(orders) != 1 || len(p.figures.Notes) != 1 || !strings.Contains(p.figures.Notes[0].Text, "card is at 75 °C") {
			t.Fatalf("orders %v, notes %v", orders, p.figures.Notes)
		}
		if err := p.worker.obey(orders[0]); err != nil || p.worker.duty == 0 || p.worker.duty > 0.8 {
			t.Errorf("duty %v, %v", p.worker.duty, err)
		}
	})
}
