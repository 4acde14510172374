package training

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// cooker is a card that warms with its power: 30 °C when it rests, 30 + 60 under full load, in 30 s.
type cooker struct {
	temperature float64
	noise       uint32
}

func (c *cooker) run(duty Duty, span time.Duration) Card {
	share := float64(duty)
	if share == 0 {
		share = 1
	}
	for range int(span / (100 * time.Millisecond)) {
		c.temperature += (30 + 60*share - c.temperature) * 0.1 / 30
	}
	c.noise = c.noise*1664525 + 1013904223
	jitter := float64(c.noise>>24)/256 - 0.5
	return Card{Name: "card", Temperature: math.Round(c.temperature + jitter/2), Power: 20 + 150*share + 10*jitter}
}

// drive lets a governor look at a card for so long and returns the duties of the last minute.
func drive(g *Governor, c *cooker, span time.Duration) (duties []float64, hottest float64) {
	now, duty := time.Unix(0, 0), g.duty
	for end := now.Add(span); now.Before(end); now = now.Add(CardsEvery) {
		card := c.run(duty, CardsEvery)
		duty, _ = g.Look(now, []Card{card})
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
	g := NewGovernor(CardLimits{Temperature: 70}, 0)
	duties, hottest := drive(g, c, 10*time.Minute)
	if ideal := (70.0 - 30) / 60; math.Abs(mean(duties)-ideal) > 0.08 {
		t.Errorf("duty %.2f on the mean, %.2f keeps the card at its limit", mean(duties), ideal)
	}
	if hottest > 72 {
		t.Errorf("the card reached %.1f °C in the last minute, the limit is 70", hottest)
	}
	c.temperature = 35 // the volunteer opened a window
	if duty, why := g.Look(time.Unix(601, 0), []Card{{Name: "card", Temperature: 80}}); duty >= Duty(duties[len(duties)-1]) || !strings.Contains(why, "card is at 80 °C, the limit is 70") {
		t.Errorf("above the limit: duty %v, %q", duty, why)
	}
}

func TestGovernorKeepsToPower(t *testing.T) {
	g := NewGovernor(CardLimits{Power: 95}, 0)
	duties, _ := drive(g, &cooker{temperature: 30}, 10*time.Minute)
	if got := 20 + 150*mean(duties); got > 96 || got < 80 {
		t.Errorf("%.0f W on the mean, the limit is 95", got)
	}
}

func TestGovernorLeavesCoolCardsAlone(t *testing.T) {
	for _, duty := range []Duty{0, 1, 0.3} {
		g := NewGovernor(CardLimits{Temperature: 95, Power: 400}, duty)
		for i := range 50 {
			got, why := g.Look(time.Unix(int64(2*i), 0), []Card{{Temperature: 70, Power: 170}, {}})
			if got != duty || why != "" {
				t.Fatalf("duty %v became %v: %s", duty, got, why)
			}
		}
	}
	g := NewGovernor(CardLimits{Temperature: 60}, 0.5)
	for i := range 100 { // far too hot, whatever training does
		if got, _ := g.Look(time.Unix(int64(2*i), 0), []Card{{Temperature: 100}}); got < leastDuty || got > 0.5 {
			t.Fatalf("duty %v", got)
		}
	}
	for i := range 300 {
		g.Look(time.Unix(int64(200+2*i), 0), []Card{{Temperature: 40}})
	}
	if got, why := g.Look(time.Unix(1000, 0), []Card{{Temperature: 40}}); got != 0.5 || why != "" {
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

// TestSoloKeepsPace asks for the cards no more often than every two seconds, and believes what was told when they tell
// nothing.
func TestSoloKeepsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		var tells error
		s := &Solo{cfg: SoloConfig{Limits: CardLimits{Temperature: 70}, Cards: func() ([]Card, error) {
			looks++
			return []Card{{Temperature: 90}}, tells
		}}}
		s.governor = NewGovernor(s.cfg.Limits, 0)
		first := s.pace()
		if again := s.pace(); first == 0 || again != first || looks != 1 {
			t.Errorf("duties %v and %v after %d looks", first, again, looks)
		}
		time.Sleep(CardsEvery)
		tells = errors.New("the driver is busy")
		if again := s.pace(); again != first || looks != 2 {
			t.Errorf("duty %v after a look that failed, %v before", again, first)
		}
	})
}
