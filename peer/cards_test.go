package peer

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/engine"
	"dunlin/peer/figures"
	"dunlin/peer/worker"
	"dunlin/status"
	"dunlin/training"
	"dunlin/wire"
)

// idle is an engine that makes no steps.
type idle struct{ engine.Engine }

func (idle) Live() [][]float32 { return nil }

// TestCardsSlowTheWorker gives a worker that trains all the time a duty of a quarter.
func TestCardsSlowTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Peer{log: slog.New(slog.DiscardHandler), cfg: Config{Limits: training.CardLimits{Temperature: 70}}, figures: figures.New(figures.Subject{}, time.Now())}
		p.governor = training.NewGovernor(p.cfg.Limits, 0)
		p.worker = worker.New(&wire.RunSpec{}, &idle{}, nil, 0, nil)
		p.cardsTold(cardsSeen{cards: []status.Card{{Name: "card", Temperature: 60}}})
		if got := p.worker.Orders.Take(); len(got) != 0 {
			t.Errorf("a cool card: %v", got)
		}
		time.Sleep(training.CardsEvery)
		p.cardsTold(cardsSeen{cards: []status.Card{{Name: "card", Temperature: 75}}})
		orders := p.worker.Orders.Take()
		if len(orders) != 1 || len(p.figures.Notes) != 1 || !strings.Contains(p.figures.Notes[0].Text, "card is at 75 °C") {
			t.Fatalf("orders %v, notes %v", orders, p.figures.Notes)
		}
		if told, ok := orders[0].(worker.Pace); !ok || told.Duty == 0 || told.Duty > 0.8 {
			t.Errorf("the worker is told %+v", orders[0])
		}
	})
}
