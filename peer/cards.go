package peer

import (
	"context"
	"time"

	"dunlin/peer/worker"
	"dunlin/status"
	"dunlin/training"
)

// cardsSeen reports a look at the cards to the loop.
type cardsSeen struct {
	cards []status.Card
	err   error
}

// watchCards looks at the cards until the context ends.
func (p *Peer) watchCards(ctx context.Context) {
	every := time.NewTicker(training.CardsEvery)
	defer every.Stop()
	for {
		cards, err := p.cfg.Cards()
		p.inbox.Put(cardsSeen{cards, err})
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
	duty, why := p.governor.Look(time.Now(), Heat(c.cards))
	if duty == p.paced {
		return
	}
	if (why == "") != (p.paced == p.cfg.Duty) {
		p.note(pacedText(why))
	}
	p.paced = duty
	if p.worker != nil {
		p.worker.Orders.Put(worker.Pace{Duty: duty})
	}
}

// Heat is what a governor looks at of cards.
func Heat(cards []status.Card) []training.Card {
	heat := make([]training.Card, len(cards))
	for i, c := range cards {
		heat[i] = training.Card{Name: c.Name, Temperature: c.Temperature, Power: c.Power}
	}
	return heat
}

func pacedText(why string) string {
	if why == "" {
		return "the cards allow full speed again"
	}
	return "training slows down: " + why
}
