package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"dunlin/coordinator"
	"dunlin/ledger"
	"dunlin/peer/core"
	"dunlin/wire"
)

// Log is where the coordinator that leads puts entries.
type Log interface {
	// RaiseTerm begins a reign in a durable term above the one given and every
	// other; with ErrUnknown it may begin later.
	RaiseTerm(above uint64) (uint64, error)
	// Append returns the entry that body has become, durable and certified. With
	// ErrUnknown only the log will tell whether it becomes one.
	Append(body wire.Body, table []byte) (*wire.Certified, error)
}

// ErrUnknown says that the outcome is known from the log alone.
var ErrUnknown = errors.New("the log will tell")

// alone is the Log of a run's only coordinator.
type alone struct{ *ledger.Log }

// Append implements Log; the table is in the store.
func (a alone) Append(body wire.Body, _ []byte) (*wire.Certified, error) { return a.Propose(body) }

// Agreement has a run's coordinators agree on one sequence of commands;
// *group.Group is one. It calls the peer back through Agreed, Leading and Unknown.
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

// Agreed is called by the Agreement, on any goroutine.
func (p *Peer) Agreed(command []byte) { p.bring(agreed{command}) }

// Leading is called by the Agreement, on any goroutine.
func (p *Peer) Leading(leads bool) { p.bring(leading{leads}) }

// Unknown is called by the Agreement, on any goroutine.
func (p *Peer) Unknown(command []byte, reason string) { p.bring(unknown{command, reason}) }

// Condense is called by the Agreement, on any goroutine.
func (p *Peer) Condense(done func(standing []byte, err error)) { p.bring(condense{done: done}) }

// Restored is called by the Agreement, on any goroutine.
func (p *Peer) Restored(standing []byte) { p.bring(restored{standing}) }

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

// openCouncil takes this coordinator's seat.
func (p *Peer) openCouncil(rules ledger.Rules, key ed25519.PrivateKey) (*council, error) {
	seat, err := ledger.NewSeat(ledger.SeatConfig{Rules: rules, Key: key, Height: p.ledger.Height(), Ledger: p.ledger})
	if err != nil {
		return nil, err
	}
	return &council{seat: seat}, nil
}

// RaiseTerm implements Log: a reign is proposed once all that this coordinator's
// ledger holds is agreed on.
func (c *council) RaiseTerm(above uint64) (uint64, error) {
	c.wanted = above + 1
	return 0, ErrUnknown
}

// Append implements Log.
func (c *council) Append(body wire.Body, table []byte) (*wire.Certified, error) {
	err := c.propose(&wire.Command{Op: wire.OpAppend, Term: c.term, Kind: body.Kind(), Payload: wire.Encode(body), Table: table})
	if err == nil {
		err = ErrUnknown
	}
	return nil, err
}

func (c *council) propose(command *wire.Command) error {
	command.Key = uint64(c.seat.Index())
	return c.agreement.Propose(wire.Encode(command))
}

// consult takes in what the Agreement brought.
func (p *Peer) consult(ctx context.Context, ev any) {
	c := p.council
	switch ev := ev.(type) {
	case agreed:
		command, err := wire.DecodeCommand(ev.command)
		if err != nil { // every coordinator drops it alike
			p.note("a command of the coordinators is dropped: " + err.Error())
			return
		}
		p.seated(ledger.Agreed{Command: *command})
	case leading:
		if c.leads = ev.leads; c.leads {
			p.startJudge(ctx)
		} else {
			c.started, c.wanted = false, 0
			p.conveyAgain()
			p.next(coordinator.Deposed{Reason: "a majority of the coordinators is out of reach, or has chosen another"})
		}
	case unknown:
		command, err := wire.DecodeCommand(ev.command)
		if err != nil {
			return
		}
		p.failed(command, "whether the coordinators agree on it is not known: "+ev.reason)
	case condense:
		p.condense(ev)
	case restored:
		standing, err := wire.DecodeStanding(ev.standing)
		if err != nil {
			p.failure = fmt.Errorf("what the coordinators agreed on cannot be read: %w", err)
			return
		}
		if own := p.ledger.Height(); standing.Height > own {
			p.log.Info("away for longer than the coordinators keep their commands: fetching entries", "own", own, "height", standing.Height)
		}
		p.seated(ledger.Restored{Standing: *standing})
	}
	p.advanceCouncil()
}

var (
	errBehind   = errors.New("this coordinator does not know yet what the commands came to")
	errReplaced = errors.New("a later one is wanted")
)

// condense remembers what the commands so far have come to, to be told once it is on
// the own ledger.
func (p *Peer) condense(c condense) {
	if earlier := p.council.condense; earlier != nil {
		earlier.done(nil, errReplaced)
	}
	var ok bool
	if c.at, ok = p.council.seat.Standing(); !ok {
		p.council.condense = nil
		c.done(nil, errBehind)
		return
	}
	p.council.condense = &c
}

// answerCondense tells it when it holds: what is dropped then is on the ledger.
func (p *Peer) answerCondense() {
	if c := p.council.condense; c != nil && p.ledger.Height() >= c.at.Height {
		p.council.condense = nil
		c.done(wire.Encode(&c.at), nil)
	}
}

// seated steps the seat and does what follows.
func (p *Peer) seated(ev ledger.SeatEvent) {
	c := p.council
	for _, e := range c.seat.Step(ev) {
		switch e := e.(type) {
		case ledger.Sign:
			p.tellCoordinators(&e.Signatures)
		case ledger.Stands:
			p.stands(&e.Item)
		case ledger.Reigns:
			p.reigns(e)
		case ledger.Refused:
			p.failed(&e.Command, e.Reason)
		case ledger.Split:
			p.failure = fmt.Errorf("the run is stopped: %w", e.Fork)
		case ledger.Unreadable:
			p.failure = fmt.Errorf("what the coordinators agreed on: %w", e.Err)
		}
	}
}

// stands puts an entry that a majority signed on the own ledger; the leader
// spreads it.
func (p *Peer) stands(item *wire.Item) {
	table := p.tableOf(item)
	if _, err := p.ledger.Append(item.Certified); err != nil {
		p.refused(p.self, err)
		if p.failure == nil {
			p.failure = fmt.Errorf("an entry that the coordinators signed does not fit this ledger: %w", err)
		}
		return
	}
	if p.council.leads {
		p.spread(time.Now(), &item.Certified, table)
	}
	if err := p.logged(&item.Certified, table); err != nil {
		p.failure = err
	}
}

// reigns tells everyone whose reign has begun.
func (p *Peer) reigns(e ledger.Reigns) {
	c := p.council
	if e.Key == c.seat.Index() {
		c.term = e.Term
		p.next(coordinator.TermRaised{Term: e.Term})
		if c.started {
			p.log.Info("leading", "term", e.Term)
		}
	}
	p.follow(&wire.Leads{Term: e.Term, Key: uint64(e.Key)})
	for peer := range p.peers {
		p.tellLeads(peer)
	}
}

// tellLeads tells a peer whose reign it is, if there is one. To another
// coordinator the word of one that led before its process ended would be a claim
// to lead now.
func (p *Peer) tellLeads(to wire.PeerID) {
	former := p.lead == p.self && !p.council.leads
	if p.leads.Term > 0 && !(former && p.isCoordinator(to)) {
		p.tell(to, &p.leads)
	}
}

// failed hears that an own command is not agreed on, or may not be.
func (p *Peer) failed(command *wire.Command, reason string) {
	c := p.council
	if int(command.Key) != c.seat.Index() || !c.leads {
		return
	}
	switch command.Op {
	case wire.OpAppend:
		if body, err := command.Body(); err == nil && command.Term == c.term {
			p.next(core.AppendFailed{Body: body, Reason: reason})
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

// advanceCouncil brings a leader, step by step, to where it may rule: what was
// agreed on is certified and on its ledger, and what its ledger has beyond that
// is agreed on. Then no peer knows more than it.
func (p *Peer) advanceCouncil() {
	c := p.council
	p.answerCondense()
	if term, key := c.seat.Reign(); c.claimed > 0 && term >= c.claimed && key != c.seat.Index() {
		c.current = true
	}
	if !c.leads || c.seat.Behind() {
		return
	}
	switch height := c.seat.Height(); {
	case height < p.ledger.Height():
		if c.adopted <= height {
			p.adoptOwn(height + 1)
		}
	case !c.started:
		c.started = true
		term, _ := c.seat.Reign()
		p.next(coordinator.Started{Term: term, Current: c.current})
	case c.wanted > 0:
		term, _ := c.seat.Reign()
		if err := c.propose(&wire.Command{Op: wire.OpReign, Term: max(c.wanted, term+1)}); err != nil {
			p.note("reign not proposed: " + err.Error())
			return
		}
		c.wanted = 0
	}
}

// adoptOwn proposes entries that are certified here and were never agreed on.
func (p *Peer) adoptOwn(from uint64) {
	entries, err := p.ledger.Range(from, adoptAtOnce)
	if err != nil {
		p.failure = err
		return
	}
	items := make([]wire.Item, len(entries))
	for i := range entries {
		items[i].Certified = entries[i]
	}
	p.addTables(items)
	for i := range items {
		if err := p.council.propose(&wire.Command{Op: wire.OpAdopt, Adopted: &items[i].Certified, Table: items[i].Table}); err != nil {
			p.note("adoption not proposed: " + err.Error())
			return
		}
		p.council.adopted = items[i].Certified.Entry.Height
	}
}

// stoodCouncil tells the seat of entries that came certified.
func (p *Peer) stoodCouncil() {
	if p.council != nil {
		p.seated(ledger.Stood{Height: p.ledger.Height()})
		p.advanceCouncil()
	}
}

// signatures takes in what another coordinator has signed, and gives it what it lacks.
func (p *Peer) signatures(from wire.PeerID, m *wire.Signatures) {
	key := slices.Index(p.spec.Coordinators, from)
	if p.council == nil || key < 0 {
		p.note("signatures from " + from.Short() + ", who is not a coordinator among several, are dropped")
		return
	}
	p.learned(from, true)
	p.seated(ledger.Signed{Key: key, Signatures: *m})
	if m.Want > 0 {
		if m.Want <= p.ledger.Height() {
			p.giveEntries(from, &wire.GetEntries{From: m.Want, Max: wire.MaxItems})
		}
		if own := p.council.seat.Own(m.Want); len(own.Sigs) > 0 {
			own.Want = 0 // or two that wait for a third would ask each other for ever
			p.tell(from, own)
		}
	}
	p.advanceCouncil()
}

// lookAfterCouncil asks again for signatures that are long in coming.
func (p *Peer) lookAfterCouncil() {
	c := p.council
	if c == nil {
		return
	}
	height := p.ledger.Height()
	if c.seat.Behind() && c.settled == height {
		p.tellCoordinators(c.seat.Own(1))
	}
	c.settled = height
	p.advanceCouncil()
}

func (p *Peer) tellCoordinators(m wire.Message) {
	for _, id := range p.spec.Coordinators {
		if id != p.self && p.peers[id] {
			p.tell(id, m)
		}
	}
}
