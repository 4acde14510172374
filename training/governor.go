package training

import (
	"fmt"
	"math"
	"time"
)

// CardLimits are what a volunteer lets cards reach before training slows down; 0 is no limit.
type CardLimits struct {
	Temperature float64 // °C, 40 to 110
	Power       float64 // W, at least 20
}

// Validate reports a limit outside of its range.
func (l CardLimits) Validate() error {
	if l.Temperature != 0 && !(l.Temperature >= 40 && l.Temperature <= 110) {
		return fmt.Errorf("card temperature %v °C: allowed are 40 to 110, and 0 for no limit", l.Temperature)
	}
	if l.Power != 0 && !(l.Power >= 20 && l.Power <= 10_000) {
		return fmt.Errorf("card power %v W: allowed are 20 to 10000, and 0 for no limit", l.Power)
	}
	return nil
}

// Card is what a governor looks at.
type Card struct {
	Name               string
	Temperature, Power float64 // °C, W; 0 where the card does not tell
}

// Cards reads the cards that train; nil where there is no telemetry.
type Cards func() ([]Card, error)

// Governor lowers the duty while a card is above a limit of the volunteer's, and raises it again: training slows down
// before the fan has to speed up. It decides only.
type Governor struct {
	limits CardLimits
	duty   Duty    // the volunteer's own
	share  float64 // of that duty that the cards allow, above 0 to 1
	seen   time.Time
	heat   []float64 // temperatures at the last look, by card
	power  []float64 // mean power, by card
}

// CardsEvery is how far apart a governor should look: heat follows power within some tens of seconds.
const CardsEvery = 2 * time.Second

// What the governor's decisions are made of.
const (
	foresight   = 10 * time.Second // how far a temperature's trend is followed
	powerMean   = 5 * time.Second  // over which power is averaged: with a duty below 1 it comes in bursts
	mostCut     = 0.25             // of the share, at one look
	raise       = 1.04             // of the share, at one look
	calmDegrees = 2.0              // below the limit at which the share rises again
	calmPower   = 0.97             // of the limit, likewise
)

// NewGovernor returns one for a volunteer's limits and duty.
func NewGovernor(limits CardLimits, duty Duty) *Governor {
	return &Governor{limits: limits, duty: duty, share: 1}
}

// Look takes in what the cards tell and returns the duty from now on and, when it is lowered, why.
func (g *Governor) Look(now time.Time, cards []Card) (Duty, string) {
	elapsed := now.Sub(g.seen).Seconds()
	fresh := g.seen.IsZero() || len(cards) != len(g.heat) || elapsed <= 0
	if fresh {
		g.heat, g.power = make([]float64, len(cards)), make([]float64, len(cards))
	}
	g.seen = now
	over, calm, why := 0.0, true, ""
	for i, c := range cards {
		ahead := c.Temperature
		if fresh {
			g.power[i] = c.Power
		} else {
			ahead += (c.Temperature - g.heat[i]) / elapsed * foresight.Seconds()
			g.power[i] += (c.Power - g.power[i]) * min(1, elapsed/powerMean.Seconds())
		}
		g.heat[i] = c.Temperature
		if limit := g.limits.Temperature; limit > 0 && c.Temperature > 0 {
			calm = calm && ahead < limit-calmDegrees
			if excess := (ahead - limit) / limit; excess > over {
				over, why = excess, fmt.Sprintf("%s is at %.0f °C, the limit is %.0f", c.Name, c.Temperature, limit)
			}
		}
		if limit := g.limits.Power; limit > 0 && c.Power > 0 {
			calm = calm && g.power[i] < calmPower*limit
			if excess := (g.power[i] - limit) / limit; excess > over {
				over, why = excess, fmt.Sprintf("%s takes %.0f W, the limit is %.0f", c.Name, g.power[i], limit)
			}
		}
	}
	switch {
	case over > 0:
		g.share *= 1 - min(mostCut, over)
	case calm:
		g.share = min(1, g.share*raise)
	}
	whole := float64(g.duty)
	if whole == 0 {
		whole = 1
	}
	g.share = max(g.share, leastDuty/whole)
	if g.share == 1 {
		return g.duty, ""
	}
	if why == "" {
		why = "the cards are at the volunteer's limit"
	}
	return Duty(math.Max(leastDuty, whole*g.share)), why
}
