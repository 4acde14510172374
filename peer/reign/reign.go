package reign

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"dunlin/coordinator"
	"dunlin/folder"
	"dunlin/ledger"
	"dunlin/peer/contact"
	"dunlin/peer/core"
	"dunlin/store"
	"dunlin/wire"
)

// Config says whose part in a run's reigns it is.
type Config struct {
	Self   wire.PeerID
	Key    ed25519.PrivateKey // of a coordinator among several
	Spec   *wire.RunSpec
	Ledger *ledger.Log
	Rules  ledger.Rules
	Store  store.Store // of the tables that entries name
	Book   *folder.Book
	Known  map[wire.PeerID][]string          // where coordinators are, as an invite says
	Peers  map[wire.PeerID]bool              // with whom there is a session; the driver's
	Holder func(slot wire.Slot) wire.PeerID  // who has a slot by the ledger
	Agree  func(r *Reign) (Agreement, error) // begins a coordinator's part in the agreement of several; Close ends it
	Log    *slog.Logger
	Driver Driver
}

// Driver does what a reign decides. Bring and Report may be called on any goroutine, the others are on the peer's loop.
type Driver struct {
	Next   func(ev core.Event)                         // gives the machines an event, behind those that wait
	Send   func(to wire.PeerID, message []byte)        // to a peer with a session
	Logged func(c *wire.Certified, table []byte) error // feeds an entry that is on the ledger now
	Note   func(text string)                           // keeps a decision and its reason
	Fail   func(err error)                             // ends the peer
	Bring  func(ev any)                                // has the loop Take ev; it waits while the loop has more to do than it can
	Report func(ev any)                                // the same without a wait
	Spawn  func(work func())                           // on a goroutine that the peer waits for
}

// Reign is a peer's part in the reigns of a run's coordinators.
type Reign struct {
	cfg    Config
	driver Driver // of cfg

	lead    wire.PeerID // whose reign it is
	leads   wire.Leads  // the newest, of a run with several coordinators
	council *council    // nil but on a coordinator among several

	network  contact.Network
	seeking  bool                 // a search for coordinators is under way
	looked   int                  // Looks so far
	settings wire.Settings        // by the ledger
	banned   map[wire.PeerID]bool // by the ledger
	wanted   []Organise           // that the ledger does not say yet
	unspread []wire.Item          // own entries that not everyone has been given
	spreadBy time.Time            // when they are, at the latest
}

// New returns the part of a peer that has heard of no reign.
func New(cfg Config) (*Reign, error) {
	r := &Reign{cfg: cfg, driver: cfg.Driver, lead: cfg.Spec.Coordinators[0], banned: map[wire.PeerID]bool{}}
	if !r.several() || !r.Coordinates(cfg.Self) {
		return r, nil
	}
	if cfg.Agree == nil {
		return nil, fmt.Errorf("the run has %d coordinators and this one was given no way to agree with the others", len(cfg.Spec.Coordinators))
	}
	seat, err := ledger.NewSeat(ledger.SeatConfig{Rules: cfg.Rules, Key: cfg.Key, Height: cfg.Ledger.Height(), Ledger: cfg.Ledger})
	if err != nil {
		return nil, err
	}
	r.council = &council{seat: seat}
	return r, nil
}

// Start connects to all coordinators of several.
func (r *Reign) Start(ctx context.Context, network contact.Network) {
	r.network = network
	if r.several() {
		r.reachAll(ctx)
	}
}

// Join begins this coordinator's part in the agreement, where there are several.
func (r *Reign) Join() (err error) {
	if r.council != nil {
		r.council.agreement, err = r.cfg.Agree(r)
	}
	return err
}

// Close ends what Join began.
func (r *Reign) Close() error {
	if r.council == nil || r.council.agreement == nil {
		return nil
	}
	return r.council.agreement.Close()
}

// Lead is the coordinator whose reign it is, as far as this peer knows; the first before the first reign.
func (r *Reign) Lead() wire.PeerID { return r.lead }

// Leads is the newest reign; its term is 0 before the first, and in a run with one coordinator.
func (r *Reign) Leads() wire.Leads { return r.leads }

// Own reports whether it is this coordinator's reign, and nobody has taken it away.
func (r *Reign) Own() bool { return r.cfg.Self == r.lead && (r.council == nil || r.council.leads) }

// Shared reports whether this peer is a coordinator among several.
func (r *Reign) Shared() bool { return r.council != nil }

// Chosen reports whether the others let this coordinator among several propose.
func (r *Reign) Chosen() bool { return r.council != nil && r.council.leads }

// Coordinates reports whether a peer is one of the run's coordinators.
func (r *Reign) Coordinates(id wire.PeerID) bool { return slices.Contains(r.cfg.Spec.Coordinators, id) }

// several reports whether the run has more than one coordinator.
func (r *Reign) several() bool { return len(r.cfg.Spec.Coordinators) > 1 }

// Others lists the run's coordinators but this peer, the one that leads first.
func (r *Reign) Others() []wire.PeerID {
	var out []wire.PeerID
	for _, id := range append([]wire.PeerID{r.lead}, r.cfg.Spec.Coordinators...) {
		if id != r.cfg.Self && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// Event is what comes to a Reign through its driver's loop: of the agreement, of a search, of the organiser.
type Event interface{ reignEvent() }

// Take takes in an event.
func (r *Reign) Take(ev Event) {
	switch ev := ev.(type) {
	case Organise:
		r.organise(ev)
	case soughtAll:
		r.seeking = false
	default:
		r.consult(ev)
	}
}

// Hear takes in a control message that belongs here.
func (r *Reign) Hear(from wire.PeerID, m wire.Message) {
	switch m := m.(type) {
	case *wire.Entries:
		r.entries(from, m)
	case *wire.GetEntries:
		r.give(from, m)
	case *wire.Signatures:
		r.signatures(from, m)
	case *wire.Leads:
		r.told(from, m)
	case *wire.Change:
		r.wanting(from, m)
	default: // the machines'
	}
}

// Met hears that a session began. One of several coordinators is told whose reign it is, and asked for the others at
// once: it may be gone by the next search. hello says that a worker is to greet it too: one that is about to lead has to know
// every head (R7).
func (r *Reign) Met(ctx context.Context, id wire.PeerID) (hello bool) {
	if r.council != nil {
		r.tellLeads(id)
	}
	if !r.several() || !r.Coordinates(id) {
		return false
	}
	r.seek(ctx)
	if r.council != nil {
		r.tell(id, r.council.seat.Own(1))
		return false
	}
	return id != r.lead
}

// Lost hears that a session ended.
func (r *Reign) Lost(id wire.PeerID) {
	if id == r.lead {
		r.conveyAgain()
	}
}

// seekEvery is how many looks lie between two searches for coordinators.
const seekEvery = 10

// Look comes twice a second and sees to what is late.
func (r *Reign) Look(ctx context.Context, now time.Time) {
	r.spreadDue(now)
	r.lookAfterCouncil()
	r.lookAfterOrganiser()
	if r.looked++; r.looked%seekEvery == 0 {
		r.seek(ctx)
	}
}

func (r *Reign) tell(to wire.PeerID, m wire.Message) { r.driver.Send(to, wire.EncodeMessage(m)) }

// follow takes in whose reign it is by what somebody says; the highest term holds.
func (r *Reign) follow(m *wire.Leads) {
	if m.Term <= r.leads.Term || m.Key >= uint64(len(r.cfg.Spec.Coordinators)) {
		return
	}
	r.leads = *m
	r.lead = r.cfg.Spec.Coordinators[m.Key]
	r.cfg.Log.Info("leads", "coordinator", r.lead.Short(), "term", m.Term)
	r.conveyAgain()
	r.convey()
	r.driver.Next(core.Leads{Peer: r.lead, Up: r.lead == r.cfg.Self || r.cfg.Peers[r.lead]})
}

// told hears of a reign. A coordinator among several knows from what was
// agreed on; that another claims to lead shows it that somebody does.
func (r *Reign) told(from wire.PeerID, m *wire.Leads) {
	if !r.several() || !r.Coordinates(from) {
		r.driver.Note("who leads is told by " + from.Short() + ", who is not a coordinator among several; it is dropped")
		return
	}
	if r.council == nil {
		r.follow(m)
		return
	}
	if m.Key < uint64(len(r.cfg.Spec.Coordinators)) && r.cfg.Spec.Coordinators[m.Key] == from {
		r.council.claimed = max(r.council.claimed, m.Term)
		r.advance()
	}
}

// tellLeads tells a peer whose reign it is, if there is one. To another
// coordinator the word of one that led before its process ended would be a claim
// to lead now.
func (r *Reign) tellLeads(to wire.PeerID) {
	former := r.lead == r.cfg.Self && !r.council.leads
	if r.leads.Term > 0 && !(former && r.Coordinates(to)) {
		r.tell(to, &r.leads)
	}
}

// RaiseTerm begins a reign in a durable term, the one given or above. Among several it is proposed once all that this
// coordinator's ledger holds is agreed on.
func (r *Reign) RaiseTerm(least uint64) {
	if r.council != nil {
		r.council.wanted = least
		return
	}
	term, err := r.cfg.Ledger.RaiseTerm(least - 1)
	if err != nil {
		r.driver.Fail(err)
		return
	}
	r.cfg.Log.Info("leading", "term", term)
	r.driver.Next(coordinator.TermRaised{Term: term})
}
