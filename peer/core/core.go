package core

import (
	"fmt"
	"math/rand/v2"
	"time"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/round"
	"dunlin/wire"
)

// Config says who a peer is in which run.
type Config struct {
	Self        wire.PeerID
	Coordinator wire.PeerID // whose reign it is, as far as is known at the start; may be Self
	Coordinates bool        // Self is one of the run's coordinators, leading or not
	Run         wire.Hash
	Spec        *wire.RunSpec
	Slabs       []int               // of each fragment
	SlabBytes   []uint64            // of each fragment: size of one encoded result slab
	State       []wire.FragmentHead // state 0 of each fragment
	Works       bool                // trains
	Stage       int                 // that it holds; wire.AllStages for the whole model
	Seed        uint64              // of jitter
	Rebalance   time.Duration       // between two looks whether a peer should change its stage; 0: never
}

// Core is one peer's decisions.
type Core struct {
	cfg    Config
	lead   *coordinator.Machine // nil unless this peer coordinates
	leader *round.Leader        // nil unless it leads a term
	join   *coordinator.Joiner  // nil unless it works
	member *round.Member
	owner  *round.Owner
	catch  *catchup.Machine

	balance *balance // nil unless it coordinates a run with stages

	log       logState
	history   *round.History        // of all commits
	reigns    wire.PeerID           // the coordinator that leads
	deciding  *wire.Commit          // proposed, outcome not known
	undecided []round.ProposeCommit // that wait for it
	members   []round.Worker
	caught    uint64 // height that catchup reached in the sync under way; 0: none
	data      bool
	draining  bool                // a hand-over is under way
	applied   uint64              // height of the newest commit in the replica
	hashed    []wire.FragmentHead // by fragment, as of the newest StateHashed
	owing     []wire.PeerID
	owed      bool // owing is as the leader stands

	now time.Time
	out []Effect
}

// logState is what the log says and every new Leader starts from.
type logState struct {
	height   uint64
	commit   uint64 // height of the newest commit
	heads    []wire.FragmentHead
	settings wire.Settings
	hash     wire.Hash // of the settings in force; zero before the first
}

// New makes the core of a peer that has logged nothing yet; the driver feeds
// its ledger from height 1, then coordinator.Started when the peer coordinates.
func New(cfg Config) (*Core, error) {
	c := &Core{cfg: cfg, reigns: cfg.Coordinator, history: round.NewHistory(len(cfg.Slabs))}
	c.log.heads = append(c.log.heads, cfg.State...)
	c.log.settings.Phase = wire.PhaseTraining
	var err error
	if c.catch, err = catchup.New(catchup.Config{
		Self: cfg.Self, Coordinator: cfg.Coordinator, Spec: cfg.Spec, State: cfg.State, Slabs: cfg.Slabs, SlabBytes: cfg.SlabBytes,
		Holds: cfg.Spec.Holding(cfg.Stage),
	}); err != nil {
		return nil, err
	}
	if cfg.Coordinates {
		if c.lead, err = coordinator.New(coordinator.Config{Self: cfg.Self, Run: cfg.Run, Spec: cfg.Spec, State: cfg.State, Limit: maxWorkers}); err != nil {
			return nil, err
		}
	}
	if c.lead != nil && cfg.Spec.Staged() && cfg.Rebalance > 0 {
		c.balance = newBalance(cfg)
	}
	if !cfg.Works {
		return c, nil
	}
	if c.join, err = coordinator.NewJoiner(coordinator.JoinerConfig{Spec: cfg.Spec, Stage: cfg.Stage}, rand.New(rand.NewPCG(cfg.Seed, 1))); err != nil {
		return nil, err
	}
	if c.member, err = round.NewMember(c.spec()); err != nil {
		return nil, err
	}
	c.owner, err = round.NewOwner(c.spec(), cfg.Self)
	return c, err
}

// maxWorkers bounds the slots of a run that are taken at once.
const maxWorkers = 10_000

func (c *Core) spec() round.Spec {
	s := c.cfg.Spec
	return round.Spec{
		H: s.H, Slabs: c.cfg.Slabs, StepTokens: s.StepTokens(), Context: s.Model.Context, Deadlines: s.Deadlines,
		OwnerFeedback: s.OwnerDecay != 0, Delay: s.Overlap == wire.OverlapRound, Stages: s.Stages, Stage: uint64(max(0, c.cfg.Stage)),
	}
}

// Step takes an event in and returns what is to be done, in order.
func (c *Core) Step(now time.Time, ev Event) []Effect {
	c.now, c.out = now, nil
	c.route(ev)
	c.rebalance()
	c.checkHandover()
	return c.out
}

// Deadline returns when Tick is due, or the zero time.
func (c *Core) Deadline() time.Time {
	var first time.Time
	each := func(t time.Time) {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	each(c.catch.Deadline())
	if c.lead != nil {
		each(c.lead.Deadline())
	}
	if c.leader != nil {
		each(c.leader.Deadline())
	}
	if c.balance != nil && c.leader != nil && c.log.settings.Phase != wire.PhaseEnded {
		each(c.balance.nextLook())
	}
	if c.join != nil {
		each(c.join.Deadline())
		each(c.member.Deadline())
		each(c.owner.Deadline())
	}
	return first
}

// Owing lists the peers for whom rounds that this peer leads wait now.
func (c *Core) Owing() []wire.PeerID {
	if c.leader == nil {
		return nil
	}
	if !c.owed {
		c.owing, c.owed = c.leader.Owing(), true
	}
	return c.owing
}

// Snapshot is what people see of the decisions.
type Snapshot struct {
	Height  uint64
	Heads   []wire.FragmentHead
	CatchUp catchup.Snapshot
	Rounds  *round.LeaderSnapshot // nil unless it leads
}

// Snapshot returns the present view, which shares nothing with the Core.
func (c *Core) Snapshot() Snapshot {
	s := Snapshot{Height: c.log.height, Heads: append([]wire.FragmentHead(nil), c.log.heads...), CatchUp: c.catch.Snapshot()}
	if c.leader != nil {
		rounds := c.leader.Snapshot()
		s.Rounds = &rounds
	}
	return s
}

// Coordinator is Snapshot's view of the coordinator's side; nil unless this peer coordinates.
func (c *Core) Coordinator() *coordinator.Snapshot {
	if c.lead == nil {
		return nil
	}
	lead := c.lead.Snapshot()
	return &lead
}

func (c *Core) emit(e Effect) { c.out = append(c.out, e) }

func (c *Core) notef(format string, args ...any) { c.emit(Note{fmt.Sprintf(format, args...)}) }

// send gives a message to peers; to this one directly.
func (c *Core) send(m wire.Message, to ...wire.PeerID) {
	var others []wire.PeerID
	self := false
	for _, p := range to {
		if p == c.cfg.Self {
			self = true
		} else {
			others = append(others, p)
		}
	}
	if len(others) > 0 {
		c.emit(Send{To: others, Message: m})
	}
	if self {
		c.message(c.cfg.Self, m)
	}
}
