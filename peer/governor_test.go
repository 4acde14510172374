package peer

import (
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/status"
)

// cooker is a card that warms with its power: 30 °C when it rests, 30 + 60 under full load, in 30 s.
type cooker struct {
	temperature float64
	noise       uint32
}

func (c *cooker) run(duty Duty, span time.Duration) status.Card {
	share := float64(duty)
	if share == 0 {
		share = 1
	}
	for range int(span / (100 * time.Millisecond)) {
		c.temperature += (30 + 60*share - c.temperature) * 0.1 / 30
	}
	c.noise = c.noise*1664525 + 1013904223
	jitter := float64(c.noise>>24)/256 - 0.5
	return status.Card{Name: "card", Temperature: math.Round(c.temperature + jitter/2), Power: 20 + 150*share + 10*jitter}
}

// drive lets a governor look at a card for so long and returns the duties of the last minute.
func drive(g *governor, c *cooker, span time.Duration) (duties []float64, hottest float64) {
	now, duty := time.Unix(0, 0), g.duty
	for end := now.Add(span); now.Before(end); now = now.Add(cardsEvery) {
		card := c.run(duty, cardsEvery)
		duty, _ = g.look(now, []status.Card{card})
		if now.After(end.Add(-time.Minute)) {
			duties = append(duties, float64(duty))
			hottest = max(hottest, c.temperature)
		}
	}
	return duties, hottest
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

func TestGovernorKeepsToTemperature(t *testing.T) {
	c := &cooker{temperature: 30}
	g := newGovernor(CardLimits{Temperature: 70}, 0)
	duties, hottest := drive(g, c, 10*time.Minute)
	if ideal := (70.0 - 30) / 60; math.Abs(mean(duties)-ideal) > 0.08 {
		t.Errorf("duty %.2f on the mean, %.2f keeps the card at its limit", mean(duties), ideal)
	}
	if hottest > 72 {
		t.Errorf("the card reached %.1f °C in the last minute, the limit is 70", hottest)
	}
	c.temperature = 35 // the volunteer opened a window
	if duty, why := g.look(time.Unix(601, 0), []status.Card{{Name: "card", Temperature: 80}}); duty >= Duty(duties[len(duties)-1]) || !strings.Contains(why, "card is at 80 °C, the limit is 70") {
		t.Errorf("above the limit: duty %v, %q", duty, why)
	}
}

func TestGovernorKeepsToPower(t *testing.T) {
	g := newGovernor(CardLimits{Power: 95}, 0)
	duties, _ := drive(g, &cooker{temperature: 30}, 10*time.Minute)
	if got := 20 + 150*mean(duties); got > 96 || got < 80 {
		t.Errorf("%.0f W on the mean, the limit is 95", got)
	}
}

func TestGovernorLeavesCoolCardsAlone(t *testing.T) {
	for _, duty := range []Duty{0, 1, 0.3} {
		g := newGovernor(CardLimits{Temperature: 95, Power: 400}, duty)
		for i := range 50 {
			got, why := g.look(time.Unix(int64(2*i), 0), []status.Card{{Temperature: 70, Power: 170}, {}})
			if got != duty || why != "" {
				t.Fatalf("duty %v became %v: %s", duty, got, why)
			}
		}
	}
	g := newGovernor(CardLimits{Temperature: 60}, 0.5)
	for i := range 100 { // far too hot, whatever training does
		if got, _ := g.look(time.Unix(int64(2*i), 0), []status.Card{{Temperature: 100}}); got < leastDuty || got > 0.5 {
			t.Fatalf("duty %v", got)
		}
	}
	for i := range 300 {
		g.look(time.Unix(int64(200+2*i), 0), []status.Card{{Temperature: 40}})
	}
	if got, why := g.look(time.Unix(1000, 0), []status.Card{{Temperature: 40}}); got != 0.5 || why != "" {
		t.Errorf("cool again: duty %v, %q", got, why)
	}
}

func TestCardLimitsHaveRanges(t *testing.T) {
	for _, l := range []CardLimits{{Temperature: 39}, {Temperature: 111}, {Power: 19}, {Power: -1}, {Temperature: math.NaN()}} {
		if l.Validate() == nil {
			t.Errorf("%+v was taken", l)
		}
	}
	if err := (CardLimits{Temperature: 80, Power: 150}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestWorkerKeepsPace gives a worker that trains all the time a duty of a quarter.
func TestWorkerKeepsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Peer{log: slog.New(slog.DiscardHandler), cfg: Config{Limits: CardLimits{Temperature: 70}}, figures: newFigures(time.Now())}
		p.governor = newGovernor(p.cfg.Limits, 0)
		p.worker = &worker{orders: newMailbox[any]()}
		p.cardsTold(cardsSeen{cards: []status.Card{{Name: "card", Temperature: 60}}})
		if got := p.worker.orders.take(); len(got) != 0 {
			t.Errorf("a cool card: %v", got)
		}
		time.Sleep(cardsEvery)
		p.cardsTold(cardsSeen{cards: []status.Card{{Name: "card", Temperature: 75}}})
		orders := p.worker.orders.take()
		if len(orders) != 1 || len(p.figures.notes) != 1 || !strings.Contains(p.figures.notes[0].Text, "card is at 75 °C") {
			t.Fatalf("orders %v, notes %v", orders, p.figures.notes)
		}
		if err := p.worker.obey(orders[0]); err != nil || p.worker.duty == 0 || p.worker.duty > 0.8 {
			t.Errorf("duty %v, %v", p.worker.duty, err)
		}
	})
}

// TestSoloKeepsPace asks for the cards no more often than every two seconds, and believes what was told when they tell
// nothing.
func TestSoloKeepsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		var tells error
		s := &Solo{cfg: SoloConfig{Limits: CardLimits{Temperature: 70}, Cards: func() ([]status.Card, error) {
			looks++
			return []status.Card{{Temperature: 90}}, tells
		}}}
		s.governor = newGovernor(s.cfg.Limits, 0)
		first := s.pace()
		if again := s.pace(); first == 0 || again != first || looks != 1 {
			t.Errorf("duties %v and %v after %d looks", first, again, looks)
		}
		time.Sleep(cardsEvery)
		tells = errors.New("the driver is busy")
		if again := s.pace(); again != first || looks != 2 {
			t.Errorf("duty %v after a look that failed, %v before", again, first)
		}
	})
}
