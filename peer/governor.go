package peer

import (
	"context"
	"fmt"
	"math"
	"time"

	"dunlin/status"
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

// Cards reads the cards that train; nil where there is no telemetry.
type Cards func() ([]status.Card, error)

// governor lowers the duty while a card is above a limit of the volunteer's, and raises it again: training slows down
// before the fan has to speed up. It decides only.
type governor struct {
	limits CardLimits
	duty   Duty    // the volunteer's own
	share  float64 // of that duty that the cards allow, above 0 to 1
	seen   time.Time
	heat   []float64 // temperatures at the last look, by card
	power  []float64 // mean power, by card
}

// What the governor's decisions are made of. It looks two seconds apart; heat follows power within some tens of seconds.
const (
	cardsEvery  = 2 * time.Second
	foresight   = 10 * time.Second // how far a temperature's trend is followed
	powerMean   = 5 * time.Second  // over which power is averaged: with a duty below 1 it comes in bursts
	mostCut     = 0.25             // of the share, at one look
	raise       = 1.04             // of the share, at one look
	calmDegrees = 2.0              // below the limit at which the share rises again
	calmPower   = 0.97             // of the limit, likewise
)

func newGovernor(limits CardLimits, duty Duty) *governor {
	return &governor{limits: limits, duty: duty, share: 1}
}

// look takes in what the cards tell and returns the duty from now on and, when it is lowered, why.
func (g *governor) look(now time.Time, cards []status.Card) (Duty, string) {
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

// cardsSeen reports a look at the cards to the loop.
type cardsSeen struct {
	cards []status.Card
	err   error
}

// watchCards looks at the cards until the context ends.
func (p *Peer) watchCards(ctx context.Context) {
	every := time.NewTicker(cardsEvery)
	defer every.Stop()
	for {
		cards, err := p.cfg.Cards()
		p.inbox.put(cardsSeen{cards, err})
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// cardsTold has the worker keep to what the cards allow.
func (p *Peer) cardsTold(c cardsSeen) {
	if c.err != nil {
		if len(p.cards) > 0 {
			p.note("the cards tell nothing: " + c.err.Error())
		}
		p.cards = nil
		return
	}
	p.cards = c.cards
	duty, why := p.governor.look(time.Now(), c.cards)
	if duty == p.paced {
		return
	}
	if (why == "") != (p.paced == p.cfg.Duty) {
		p.note(pacedText(why))
	}
	p.paced = duty
	if p.worker != nil {
		p.worker.orders.put(pace{duty})
	}
}

func pacedText(why string) string {
	if why == "" {
		return "the cards allow full speed again"
	}
	return "training slows down: " + why
}
