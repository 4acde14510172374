package reign

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"dunlin/coordinator"
	"dunlin/ledger"
	"dunlin/peer/core"
	"dunlin/wire"
)

// Organise changes a run's settings, or bans a peer. Any of its coordinators takes it and hands it to
// the one that leads. The answer is nil once the log says what is wanted.
type Organise struct {
	Change coordinator.Change
	Answer chan<- error // takes one; may be nil

	since    time.Time
	conveyed bool // to the coordinator that leads now
}

func (Organise) reignEvent() {}

func (r *Reign) organise(o Organise) {
	if o.Answer == nil {
		o.Answer = make(chan error, 1)
	}
	if err := r.mayChange(&o.Change); err != nil {
		o.Answer <- err
		return
	}
	o.since = time.Now()
	r.wanted = append(r.wanted, o)
	r.convey()
	r.answerOrganiser()
}

// mayChange says why a change is not possible.
func (r *Reign) mayChange(c *coordinator.Change) error {
	if !r.Coordinates(r.cfg.Self) {
		return errors.New("only a coordinator changes a run's settings")
	}
	if r.settings.Phase == wire.PhaseEnded {
		return errors.New("the run has ended: its settings do not change any more")
	}
	if !c.Ban.IsZero() {
		return r.mayBan(c.Ban)
	}
	return c.Apply(r.cfg.Spec, &r.settings).Validate()
}

// mayBan says why a peer cannot be banned: the ledger does it by ending a slot.
func (r *Reign) mayBan(peer wire.PeerID) error {
	has := false
	r.cfg.Ledger.View(func(c *ledger.Chain) {
		for _, m := range c.Members() {
			has = has || m.Peer == peer
		}
	})
	switch {
	case r.Coordinates(peer):
		return fmt.Errorf("%s is a coordinator of this run", peer.Short())
	case !has && !r.banned[peer]:
		return fmt.Errorf("%s is not in the run now: ban it while it has a slot", peer.Short())
	}
	return nil
}

// event is how the coordinator that leads takes a change.
func event(c coordinator.Change) core.Event {
	if !c.Ban.IsZero() {
		return coordinator.Banned{Peer: c.Ban, Reason: c.Reason}
	}
	return coordinator.Organised{Change: c}
}

// convey tells the coordinator that leads, if there is one, what is wanted.
func (r *Reign) convey() {
	for i := range r.wanted {
		switch o := &r.wanted[i]; {
		case o.conveyed:
		case r.Own():
			o.conveyed = true
			r.driver.Next(event(o.Change))
		case r.cfg.Self != r.lead && r.cfg.Peers[r.lead]:
			o.conveyed = true
			r.tell(r.lead, (*wire.Change)(&o.Change))
		}
	}
}

// conveyAgain comes when another leads, or the one that did is lost.
func (r *Reign) conveyAgain() {
	for i := range r.wanted {
		r.wanted[i].conveyed = false
	}
}

// conveyWithin is how long a coordinator tries to have a wish fulfilled: not so long that it surprises the organiser later on,
// when another leads. What a leader has begun it goes on with.
const conveyWithin = 20 * time.Second

// lookAfterOrganiser gives up what the ledger does not come to say.
func (r *Reign) lookAfterOrganiser() {
	r.wanted = slices.DeleteFunc(r.wanted, func(o Organise) bool {
		if time.Since(o.since) < conveyWithin {
			return false
		}
		switch {
		case o.conveyed && r.Own():
			o.Answer <- errors.New("this coordinator leads, and the ledger does not say so yet: see its log")
		case o.conveyed:
			o.Answer <- fmt.Errorf("coordinator %s leads and was told, and the ledger does not say so yet: see its log", r.lead.Short())
		default:
			o.Answer <- fmt.Errorf("no coordinator leads that this one can reach, and the settings may be as before: a majority of the run's %d coordinators has to be there; look at their logs, then give the order again", len(r.cfg.Spec.Coordinators))
		}
		return true
	})
	r.convey()
}

// Settled hears what settings the ledger says now.
func (r *Reign) Settled(s *wire.Settings) {
	r.settings = *s
	r.answerOrganiser()
}

// Banned hears whom the ledger bans.
func (r *Reign) Banned(peer wire.PeerID) {
	r.banned[peer] = true
	r.answerOrganiser()
}

// answerOrganiser tells whoever wanted what the ledger now says.
func (r *Reign) answerOrganiser() {
	r.wanted = slices.DeleteFunc(r.wanted, func(o Organise) bool {
		holds := r.banned[o.Change.Ban]
		if o.Change.Ban.IsZero() {
			holds = o.Change.Holds(r.cfg.Spec, &r.settings)
		}
		if holds {
			o.Answer <- nil
		}
		return holds
	})
}

// wanting hears what the organiser told another coordinator.
func (r *Reign) wanting(from wire.PeerID, m *wire.Change) {
	c := coordinator.Change(*m)
	err := r.mayChange(&c)
	switch {
	case !r.Coordinates(from):
		err = errors.New("it is not a coordinator")
	case !r.Own():
		err = errors.New("this coordinator does not lead")
	}
	if err != nil {
		r.driver.Note(fmt.Sprintf("an order that %s hands on is dropped: %v", from.Short(), err))
		return
	}
	r.cfg.Log.Info("order", "from", from.Short(), "reason", c.Reason)
	r.driver.Next(event(c))
}
