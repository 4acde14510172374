package reign

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/coordinator"
	"dunlin/ledger"
	"dunlin/peer/core"
	"dunlin/wire"
)

// Agreement has a run's coordinators agree on one sequence of commands;
// *group.Group is one. It calls the Reign back.
type Agreement interface {
	// Propose queues a command. Whether it is agreed on is heard from Agreed alone.
	Propose(command []byte) error
	Close() error
}

// What an Agreement brings, for the loop.
type (
	agreed  struct{ command []byte }
	leading struct{ leads bool }
	unknown struct {
		command []byte
		reason  string
	}
	condense struct {
		done func(standing []byte, err error)
		at   wire.Standing // of the commands before it
	}
	restored struct{ standing []byte }
)

func (agreed) reignEvent()   {}
func (leading) reignEvent()  {}
func (unknown) reignEvent()  {}
func (condense) reignEvent() {}
func (restored) reignEvent() {}

// Agreed is called by the Agreement, on any goroutine.
func (r *Reign) Agreed(command []byte) { r.driver.Bring(agreed{command}) }

// Leading is called by the Agreement, on any goroutine.
func (r *Reign) Leading(leads bool) { r.driver.Bring(leading{leads}) }

// Unknown is called by the Agreement, on any goroutine.
func (r *Reign) Unknown(command []byte, reason string) { r.driver.Bring(unknown{command, reason}) }

// Condense is called by the Agreement, on any goroutine.
func (r *Reign) Condense(done func(standing []byte, err error)) { r.driver.Bring(condense{done: done}) }

// Restored is called by the Agreement, on any goroutine.
func (r *Reign) Restored(standing []byte) { r.driver.Bring(restored{standing}) }

// council is this coordinator's part among several. Its leader is whom the
// Agreement lets propose; it reigns once its term is agreed on.
type council struct {
	seat      *ledger.Seat
	agreement Agreement
	leads     bool
	started   bool      // the machines know that it leads
	current   bool      // a leader that lives has completed this one's sequence
	claimed   uint64    // highest term in which another says that it leads now
	term      uint64    // of the own reign; 0 before the first
	wanted    uint64    // term to propose once the ledger's entries are agreed on; 0: none
	adopted   uint64    // height up to which entries of the own ledger are proposed
	settled   uint64    // entries that lacked signatures at the last look
	condense  *condense // waits for the own ledger
}

func (c *council) propose(command *wire.Command) error {
	command.Key = uint64(c.seat.Index())
	return c.agreement.Propose(wire.Encode(command))
}

// consult takes in what the Agreement brought.
func (r *Reign) consult(ev Event) {
	c := r.council
	switch ev := ev.(type) {
	case agreed:
		command, err := wire.DecodeCommand(ev.command)
		if err != nil { // every coordinator drops it alike
			r.driver.Note("a command of the coordinators is dropped: " + err.Error())
			return
		}
		r.seated(ledger.Agreed{Command: *command})
	case leading:
		c.adopted = 0 // what was proposed in an earlier reign may have come to nothing
		if c.leads = ev.leads; !c.leads {
			c.started, c.wanted = false, 0
			r.conveyAgain()
			r.driver.Next(coordinator.Deposed{Reason: "a majority of the coordinators is out of reach, or has chosen another"})
		}
	case unknown:
		command, err := wire.DecodeCommand(ev.command)
		if err != nil {
			return
		}
		r.failed(command, "whether the coordinators agree on it is not known: "+ev.reason)
	case condense:
		r.condense(ev)
	case restored:
		standing, err := wire.DecodeStanding(ev.standing)
		if err != nil {
			r.driver.Fail(fmt.Errorf("what the coordinators agreed on cannot be read: %w", err))
			return
		}
		if own := r.cfg.Ledger.Height(); standing.Height > own {
			r.cfg.Log.Info("away for longer than the coordinators keep their commands: fetching entries", "own", own, "height", standing.Height)
		}
		r.seated(ledger.Restored{Standing: *standing})
	}
	r.advance()
}

var (
	errBehind   = errors.New("this coordinator does not know yet what the commands came to")
	errReplaced = errors.New("a later one is wanted")
)

// condense remembers what the commands so far have come to, to be told once it is on
// the own ledger.
func (r *Reign) condense(c condense) {
	if earlier := r.council.condense; earlier != nil {
		earlier.done(nil, errReplaced)
	}
	var ok bool
	if c.at, ok = r.council.seat.Standing(); !ok {
		r.council.condense = nil
		c.done(nil, errBehind)
		return
	}
	r.council.condense = &c
}

// answerCondense tells it when it holds: what is dropped then is on the ledger.
func (r *Reign) answerCondense() {
	if c := r.council.condense; c != nil && r.cfg.Ledger.Height() >= c.at.Height {
		r.council.condense = nil
		c.done(wire.Encode(&c.at), nil)
	}
}

// seated steps the seat and does what follows.
func (r *Reign) seated(ev ledger.SeatEvent) {
	c := r.council
	for _, e := range c.seat.Step(ev) {
		switch e := e.(type) {
		case ledger.Sign:
			r.tellCoordinators(&e.Signatures)
		case ledger.Stands:
			r.stands(&e.Item)
		case ledger.Reigns:
			r.reigns(e)
		case ledger.Refused:
			r.failed(&e.Command, e.Reason)
		case ledger.Split:
			r.driver.Fail(fmt.Errorf("the run is stopped: %w", e.Fork))
		case ledger.Unreadable:
			r.driver.Fail(fmt.Errorf("what the coordinators agreed on: %w", e.Err))
		}
	}
}

// reigns tells everyone whose reign has begun.
func (r *Reign) reigns(e ledger.Reigns) {
	c := r.council
	if e.Key == c.seat.Index() {
		c.term = e.Term
		r.driver.Next(coordinator.TermRaised{Term: e.Term})
		if c.started {
			r.cfg.Log.Info("leading", "term", e.Term)
		}
	}
	r.follow(&wire.Leads{Term: e.Term, Key: uint64(e.Key)})
	for peer := range r.cfg.Peers {
		r.tellLeads(peer)
	}
}

// failed hears that an own command is not agreed on, or may not be.
func (r *Reign) failed(command *wire.Command, reason string) {
	c := r.council
	if int(command.Key) != c.seat.Index() || !c.leads {
		return
	}
	switch command.Op {
	case wire.OpAppend:
		if body, err := command.Body(); err == nil && command.Term == c.term {
			r.driver.Next(core.AppendFailed{Body: body, Reason: reason})
		}
	case wire.OpReign:
		term, _ := c.seat.Reign()
		c.wanted = max(command.Term, term) + 1
	case wire.OpAdopt:
		c.adopted = 0
	}
}

// adoptAtOnce is how many entries of the own ledger are proposed at a time.
const adoptAtOnce = 64

// advance brings a leader, step by step, to where it may rule: what was
// agreed on is certified and on its ledger, and what its ledger has beyond that
// is agreed on. Then no peer knows more than it.
func (r *Reign) advance() {
	c := r.council
	r.answerCondense()
	if term, key := c.seat.Reign(); c.claimed > 0 && term >= c.claimed && key != c.seat.Index() {
		c.current = true
	}
	if !c.leads || c.seat.Behind() {
		return
	}
	switch height := c.seat.Height(); {
	case height < r.cfg.Ledger.Height():
		if c.adopted <= height {
			r.adoptOwn(height + 1)
		}
	case !c.started:
		c.started = true
		term, _ := c.seat.Reign()
		r.driver.Next(coordinator.Started{Term: term, Current: c.current})
	case c.wanted > 0:
		term, _ := c.seat.Reign()
		if err := c.propose(&wire.Command{Op: wire.OpReign, Term: max(c.wanted, term+1)}); err != nil {
			r.driver.Note("reign not proposed: " + err.Error())
			return
		}
		c.wanted = 0
	}
}

// adoptOwn proposes entries that are certified here and were never agreed on.
func (r *Reign) adoptOwn(from uint64) {
	entries, err := r.cfg.Ledger.Range(from, adoptAtOnce)
	if err != nil {
		r.driver.Fail(err)
		return
	}
	items := r.withTables(entries)
	for i := range items {
		if err := r.council.propose(&wire.Command{Op: wire.OpAdopt, Adopted: &items[i].Certified, Table: items[i].Table}); err != nil {
			r.driver.Note("adoption not proposed: " + err.Error())
			return
		}
		r.council.adopted = items[i].Certified.Entry.Height
	}
}

// stood tells the seat of entries that came certified.
func (r *Reign) stood() {
	if r.council != nil {
		r.seated(ledger.Stood{Height: r.cfg.Ledger.Height()})
		r.advance()
	}
}

// signatures takes in what another coordinator has signed, and gives it what it lacks.
func (r *Reign) signatures(from wire.PeerID, m *wire.Signatures) {
	key := slices.Index(r.cfg.Spec.Coordinators, from)
	if r.council == nil || key < 0 {
		r.driver.Note("signatures from " + from.Short() + ", who is not a coordinator among several, are dropped")
		return
	}
	r.seated(ledger.Signed{Key: key, Signatures: *m})
	if m.Want > 0 {
		if m.Want <= r.cfg.Ledger.Height() {
			r.give(from, &wire.GetEntries{From: m.Want, Max: wire.MaxItems})
		}
		if own := r.council.seat.Own(m.Want); len(own.Sigs) > 0 {
			own.Want = 0 // or two that wait for a third would ask each other for ever
			r.tell(from, own)
		}
	}
	r.advance()
}

// lookAfterCouncil asks again for signatures that are long in coming.
func (r *Reign) lookAfterCouncil() {
	c := r.council
	if c == nil {
		return
	}
	height := r.cfg.Ledger.Height()
	if c.seat.Behind() && c.settled == height {
		r.tellCoordinators(c.seat.Own(1))
	}
	c.settled = height
	r.advance()
}

func (r *Reign) tellCoordinators(m wire.Message) {
	for _, id := range r.cfg.Spec.Coordinators {
		if id != r.cfg.Self && r.cfg.Peers[id] {
			r.tell(id, m)
		}
	}
}
