package peer

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"dunlin/coordinator"
	"dunlin/wire"
)

// Organise changes a run's settings. Any of its coordinators takes it and hands it to
// the one that leads. The answer is nil once the log says what is wanted.
type Organise struct {
	Change coordinator.Change
	Answer chan<- error // takes one; may be nil

	since    time.Time
	conveyed bool // to the coordinator that leads now
}

// Tell hands a wish of the organiser to the peer's loop.
func (p *Peer) Tell(o Organise) { p.inbox.Put(o) }

func (p *Peer) organise(o Organise) {
	if o.Answer == nil {
		o.Answer = make(chan error, 1)
	}
	if err := p.mayChange(&o.Change); err != nil {
		o.Answer <- err
		return
	}
	o.since = time.Now()
	p.wanted = append(p.wanted, o)
	p.convey()
	p.answerOrganiser()
}

// Settings returns those in force by the own ledger, nil before the first entry of
// settings; any goroutine may call it.
func (p *Peer) Settings() *wire.Settings { return p.inForce.Load() }

// mayChange says why a change is not possible.
func (p *Peer) mayChange(c *coordinator.Change) error {
	if !p.isCoordinator(p.self) {
		return errors.New("only a coordinator changes a run's settings")
	}
	if p.settingsIn.Phase == wire.PhaseEnded {
		return errors.New("the run has ended: its settings do not change any more")
	}
	return c.Apply(p.spec, &p.settingsIn).Validate()
}

// leading reports whether this coordinator leads.
func (p *Peer) leading() bool { return p.self == p.lead && (p.council == nil || p.council.leads) }

// convey tells the coordinator that leads, if there is one, what is wanted.
func (p *Peer) convey() {
	for i := range p.wanted {
		switch o := &p.wanted[i]; {
		case o.conveyed:
		case p.leading():
			o.conveyed = true
			p.next(coordinator.Organised{Change: o.Change})
		case p.self != p.lead && p.peers[p.lead]:
			o.conveyed = true
			p.tell(p.lead, (*wire.Change)(&o.Change))
		}
	}
}

// conveyAgain comes when another leads, or the one that did is lost.
func (p *Peer) conveyAgain() {
	for i := range p.wanted {
		p.wanted[i].conveyed = false
	}
}

// conveyWithin is how long a coordinator that does not lead tries to have a wish
// fulfilled: not so long that it surprises the organiser later on.
const conveyWithin = 20 * time.Second

// lookAfterOrganiser gives up what no leader takes.
func (p *Peer) lookAfterOrganiser() {
	p.convey()
	p.wanted = slices.DeleteFunc(p.wanted, func(o Organise) bool {
		if p.leading() || time.Since(o.since) < conveyWithin {
			return false
		}
		if o.conveyed {
			o.Answer <- fmt.Errorf("coordinator %s leads and was told, and the ledger does not say so yet: see its log", p.lead.Short())
		} else {
			o.Answer <- fmt.Errorf("no coordinator leads that this one can reach, and the settings may be as before: a majority of the run's %d coordinators has to be there; look at their logs, then give the order again", len(p.spec.Coordinators))
		}
		return true
	})
}

// answerOrganiser tells whoever wanted what the settings now say.
func (p *Peer) answerOrganiser() {
	p.wanted = slices.DeleteFunc(p.wanted, func(o Organise) bool {
		holds := o.Change.Holds(p.spec, &p.settingsIn)
		if holds {
			o.Answer <- nil
		}
		return holds
	})
}

// wanting hears what the organiser told another coordinator.
func (p *Peer) wanting(from wire.PeerID, m *wire.Change) {
	c := coordinator.Change(*m)
	err := p.mayChange(&c)
	switch {
	case !p.isCoordinator(from):
		err = errors.New("it is not a coordinator")
	case !p.leading():
		err = errors.New("this coordinator does not lead")
	}
	if err != nil {
		p.note(fmt.Sprintf("a change of settings that %s hands on is dropped: %v", from.Short(), err))
		return
	}
	p.log.Info("order", "from", from.Short(), "reason", c.Reason)
	p.next(coordinator.Organised{Change: c})
}
