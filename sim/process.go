package sim

import (
	"slices"
	"time"

	"dunlin/catchup"
	"dunlin/contribution"
	"dunlin/coordinator"
	"dunlin/ledger"
	"dunlin/peer/core"
	"dunlin/replica"
	"dunlin/round"
	"dunlin/wire"
)

// process is one life of a peer: the real core and a driver that does what the
// real one does, in virtual time.
type process struct {
	w        *World
	h        *host
	dead     bool
	core     *core.Core
	chain    *ledger.Chain
	replica  *replica.Replica
	settings []*wire.Settings // of the log so far
	shadows  map[shadowKey]*replica.Shadow
	sessions []*session // by host
	pending  []core.Event
	inboxAt  time.Duration // when the newest report is read
	tickAt   time.Duration
	tickedAt time.Duration
	ticks    int // in a row without time passing
	keeper   lane
	codecs   lane
	owner    *contribution.Owner
	trainer  *trainer
	term     uint64 // that this process leads
	crashIn  int    // crash points until this process dies; 0: never

	own     map[wire.Hash]*contribution.Contribution
	newest  []wire.Hash // own, by fragment
	fetched map[wire.Hash]map[uint64][]byte

	weights  map[uint64]committed
	slot     wire.Slot
	begun    bool
	restart  bool
	asked    bool
	loading  bool
	granted  []wire.Range
	had      map[wire.Range]bool // leased to this slot
	life     life
	finished *coordinator.Finished
	complete []uint64 // heights of complete checkpoints
	unheard  []unheard
	lastSum  map[sumKey]round.Summed // for a seeded bug
}

type shadowKey struct {
	fragment uint64
	attempt  wire.AttemptID
	result   wire.Hash
}

// committed is what a worker merges.
type committed struct {
	version uint64
	weights []float32
}

// life is what heartbeats tell.
type life struct {
	state    wire.WorkerState
	reason   string
	since    time.Duration // of the state
	warming  int
	height   uint64
	holds    uint64
	left     uint64
	step     uint64
	tokens   uint64
	stepTime uint64
}

// unheard is an entry that is durable while its writer was told otherwise.
type unheard struct {
	entry *wire.Certified
	table []byte
}

// lane is one goroutine of the real driver: it does one thing after another.
type lane struct{ free time.Duration }

// do runs a job that takes d once those before it are done.
func (l *lane) do(p *process, d time.Duration, job func()) {
	l.free = max(l.free, p.w.now) + d
	p.w.after(l.free-p.w.now, p, job)
}

func newProcess(h *host) (*process, error) {
	w := h.w
	p := &process{
		w: w, h: h, shadows: map[shadowKey]*replica.Shadow{}, sessions: make([]*session, 1+w.sc.Workers+len(w.sc.Faults)), tickAt: -1,
		own: map[wire.Hash]*contribution.Contribution{}, newest: make([]wire.Hash, len(w.configs)), fetched: map[wire.Hash]map[uint64][]byte{},
		weights: map[uint64]committed{}, lastSum: map[sumKey]round.Summed{},
		owner: contribution.NewOwner(h.id, w.codec, w.result, w.spec.OwnerDecay.Value()),
	}
	var err error
	if p.replica, err = replica.NewFlat(w.spec, w.sc.Setup.SlabValues); err != nil {
		return nil, err
	}
	var states []wire.Hash
	for _, head := range w.state0 {
		states = append(states, head.State)
	}
	if p.chain, err = ledger.NewChain(ledger.RulesOf(w.spec, states)); err != nil {
		return nil, err
	}
	cfg := core.Config{
		Self: h.id, Coordinator: w.hosts[0].id, Run: w.run, Spec: w.spec, State: slices.Clone(w.state0), Works: h.works, Coordinates: h.index == 0,
		Seed: w.sc.Seed<<8 + uint64(h.index),
	}
	for _, c := range w.configs {
		cfg.Slabs = append(cfg.Slabs, c.Layout.Slabs())
		cfg.SlabBytes = append(cfg.SlabBytes, uint64(w.result.EncodedSlabBytes(w.sc.Setup.SlabValues)))
	}
	p.core, err = core.New(cfg)
	return p, err
}

// begin feeds the ledger of earlier lives.
func (p *process) begin() {
	if height := uint64(len(p.h.disk.entries)); height > 0 {
		p.next(catchup.Opened{Height: height})
	}
	for i := range p.h.disk.entries {
		c := &p.h.disk.entries[i]
		if err := p.take(c); err != nil {
			p.w.fail("%s: its own entry %d: %v", p.h.name, c.Entry.Height, err)
			return
		}
		p.logged(c, p.storedTable(c))
		p.drain()
	}
	if p.h.index == 0 {
		p.next(coordinator.Started{Term: p.h.disk.term})
	} else {
		p.next(core.Tick{})
	}
	p.drain()
}

// take puts an entry on the chain.
func (p *process) take(c *wire.Certified) error {
	return p.chain.AppendVerified(c)
}

func (p *process) storedTable(c *wire.Certified) []byte {
	body, err := c.Entry.Body()
	commit, ok := body.(*wire.Commit)
	if err != nil || !ok || p.w.has(BugTablesLost) {
		return nil
	}
	return p.h.disk.blobs[commit.Table]
}

func (p *process) next(ev core.Event) { p.pending = append(p.pending, ev) }

// hear takes in one event from outside and does everything that follows.
func (p *process) hear(ev core.Event) {
	p.next(ev)
	p.drain()
}

// report brings a result of another goroutine of this peer to its loop, a
// little later and in order.
func (p *process) report(do func()) {
	p.inboxAt = max(p.inboxAt, p.w.now+p.w.between(0, time.Millisecond))
	p.w.after(p.inboxAt-p.w.now, p, func() {
		do()
		p.drain()
	})
}

// drain steps the core until nothing is left to do now, and arms its timer.
func (p *process) drain() {
	for len(p.pending) > 0 && !p.dead {
		ev := p.pending[0]
		p.pending = p.pending[1:]
		p.w.recorder.event(p.h, ev)
		for _, e := range p.core.Step(p.h.clock(), ev) {
			if p.point(); p.dead {
				return
			}
			p.w.recorder.effect(p.h, e)
			p.do(e)
		}
	}
	if !p.dead {
		p.arm()
	}
}

// point is a place at which a process may die.
func (p *process) point() {
	if p.crashIn > 0 {
		if p.crashIn--; p.crashIn == 0 {
			p.h.kill("between two effects")
		}
	}
}

// arm sets the one timer. Whoever waits for something has a deadline.
func (p *process) arm() {
	deadline := p.core.Deadline()
	if deadline.IsZero() {
		p.tickAt = -1
		if p.finished == nil && p.h.works {
			p.w.fail("%s waits in state %s without a deadline: %s", p.h.name, p.life.state, p.life.reason)
		}
		return
	}
	at := p.w.now + p.h.until(deadline)
	if at == p.tickAt {
		return
	}
	p.tickAt = at
	p.w.after(at-p.w.now, p, func() {
		if p.tickAt != at {
			return
		}
		p.tickAt = -1
		if p.w.now > p.tickedAt+time.Millisecond {
			p.ticks = 0
		}
		p.tickedAt = p.w.now
		if p.ticks++; p.ticks > 200 {
			p.w.fail("%s spins: 200 ticks without anything else, deadline %v, clock %v", p.h.name, deadline, p.h.clock())
		}
		p.hear(core.Tick{})
	})
}

func (p *process) sessionUp(to *host) { p.hear(core.PeerUp{Peer: to.id}) }

func (p *process) sessionDown(to *host) {
	p.hear(core.PeerDown{Peer: to.id, Reason: "connection lost"})
}

// logged notes what the driver needs of an entry and feeds it to the core.
func (p *process) logged(c *wire.Certified, table []byte) {
	body, err := c.Entry.Body()
	if err != nil {
		p.w.fail("%s: entry %d: %v", p.h.name, c.Entry.Height, err)
		return
	}
	switch b := body.(type) {
	case *wire.Checkpoint:
		if b.Complete {
			if p.complete = append(p.complete, b.At); len(p.complete) > 1 && p.h.index != 0 {
				p.h.collect(p.complete[len(p.complete)-2])
			}
		}
	case *wire.Lease:
		p.leased(b)
	case *wire.Settings:
		p.settings = append(p.settings, b)
		p.replica.Govern(b)
		p.keeper.do(p, 0, p.rehash)
	case *wire.Member, *wire.Commit, *wire.Attempt:
	}
	p.next(core.Logged{Height: c.Entry.Height, Term: c.Entry.Term, Body: body, Table: table})
}

// leased passes windows of the own slot on to the inner loop. A lease whose
// outcome was unknown may stand in the log twice: it grants once.
func (p *process) leased(l *wire.Lease) {
	if p.slot == 0 || l.Slot != p.slot {
		return
	}
	var fresh []wire.Range
	for _, r := range l.Ranges {
		if !p.had[r] {
			p.had[r] = true
			fresh = append(fresh, r)
		}
	}
	if p.begun {
		p.trainer.order(grant{fresh})
	} else {
		p.granted = append(p.granted, fresh...)
	}
	p.life.left += wire.Windows(fresh)
}

// keep notes an applied commit and keeps its bytes.
func (p *process) keep(e catchup.Advanced) {
	names := []wire.Hash{}
	for _, s := range e.Table.Slabs {
		names = append(names, s.Hash)
	}
	p.h.disk.pins[e.Height] = append(p.h.disk.pins[e.Height], names...)
	p.life.height = e.Height
}
