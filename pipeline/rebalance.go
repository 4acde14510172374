package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/wire"
)

// Published is what a peer says of itself to all others: where it serves and
// how loaded it is, smoothed, for an instant's queue is noise.
type Published struct {
	Peer   wire.PeerID
	Stage  int       // that it serves, or whose state it fetches
	State  PeerState // Joining counts as load of its stage
	Moving bool      // it means to move to Intent, or has left for it
	Intent int
	Wait   float64 // s that calls spend in its queue, moving average
	Rate   float64 // forward passes a second that it can do; 0 when not measured
}

// MoverConfig is what a peer needs to know to decide whether it moves.
type MoverConfig struct {
	Self      wire.PeerID
	Stages    int
	Period    time.Duration // between two looks, give or take a tenth
	Confirm   time.Duration // between the look that finds a reason and the one that must find it again
	Quality   float64       // no move while the pipeline does this share of what moves could reach, 0 to 1
	StateTime time.Duration // to fetch a stage's state
	Horizon   time.Duration // over which a gain must pay for that
	Rand      *rand.Rand    // so that peers do not look at the same time
}

// DefaultMoverConfig returns the settings of a peer that looks every period.
func DefaultMoverConfig(self wire.PeerID, stages int, period time.Duration, rng *rand.Rand) MoverConfig {
	return MoverConfig{
		Self: self, Stages: stages, Period: period, Confirm: min(period/5, 30*time.Second), Quality: 0.97,
		StateTime: 2 * time.Minute, Horizon: time.Hour, Rand: rng,
	}
}

// Validate checks the configuration.
func (c MoverConfig) Validate() error {
	if c.Self.IsZero() || c.Rand == nil || c.Stages < 1 || c.Stages > wire.MaxStages {
		return errors.New("mover: the own id, a random source and 1 to 256 stages are needed")
	}
	if c.Period <= 0 || c.Confirm <= 0 || c.Confirm > c.Period || c.Quality <= 0 || c.Quality > 1 || c.StateTime < 0 || c.Horizon <= 0 {
		return fmt.Errorf("mover: period %v, confirmation %v, quality %v, state in %v, horizon %v", c.Period, c.Confirm, c.Quality, c.StateTime, c.Horizon)
	}
	return nil
}

// Mover decides for one peer whether it leaves its stage for another
// (SWARM, section 3.3, with the guards that deployments needed). It looks at
// what all publish, says first what it means to do, and does it only when the
// reason still holds a while later and nobody with a better claim fills the gap.
type Mover struct {
	cfg    MoverConfig
	next   time.Time
	intent int // -1: none
}

// Action is what a peer does about its stage.
type Action uint8

// The actions.
const (
	Stay     Action = iota
	Intend          // publish the intent; look again when due
	Withdraw        // take the intent back
	Move            // leave, then fetch the other stage's state
)

func (a Action) String() string {
	switch a {
	case Stay:
		return "stay"
	case Intend:
		return "intend"
	case Withdraw:
		return "withdraw"
	case Move:
		return "move"
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// Because says why.
type Because uint8

// Why a peer stays or moves.
const (
	Balanced     Because = iota // moves would gain too little
	NotServing                  // this peer does not serve a stage yet
	LastOfStage                 // its stage would be empty
	NotSpared                   // moves would help, from other stages
	Idle                        // nothing waits anywhere: there is no load to balance
	NotWaited                   // the poorer stage shows no longer waits than this one
	NotWorth                    // fetching the state costs more than it gains
	ShortOfPeers                // the other stage holds the pipeline up
	FilledByNow                 // somebody else does it
)

func (b Because) String() string {
	names := []string{
		"balanced", "not serving", "last of its stage", "others are spared rather", "nothing waits anywhere", "no longer waits there",
		"not worth its cost", "short of peers", "filled by others",
	}
	if int(b) >= len(names) {
		return fmt.Sprintf("reason %d", uint8(b))
	}
	return names[b]
}

// Decision is what a peer does and why, for logs and the page.
type Decision struct {
	Action   Action
	From, To int // stages; To only with Intend, Withdraw and Move
	Because  Because
	Now      float64 // passes a second of the poorest stage, as planned by all
	Could    float64 // of the poorest stage after every move that helps
}

// String counts stages from 1, as people do.
func (d Decision) String() string {
	where := fmt.Sprintf("in stage %d", d.From+1)
	if d.Action != Stay {
		where = fmt.Sprintf("stage %d to %d", d.From+1, d.To+1)
	}
	return fmt.Sprintf("%s %s: %s (%.4g of %.4g passes/s)", d.Action, where, d.Because, d.Now, d.Could)
}

// NewMover returns a mover whose first look is due within a period.
func NewMover(now time.Time, cfg MoverConfig) (*Mover, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Mover{cfg: cfg, intent: -1, next: now.Add(time.Duration(cfg.Rand.Float64() * float64(cfg.Period)))}, nil
}

// Deadline returns when the next look is due.
func (m *Mover) Deadline() time.Time { return m.next }

// Look decides on what is published now. It does nothing before it is due.
func (m *Mover) Look(now time.Time, view []Published) Decision {
	i := slices.IndexFunc(view, func(p Published) bool { return p.Peer == m.cfg.Self })
	if i < 0 || view[i].Stage < 0 || view[i].Stage >= m.cfg.Stages {
		return Decision{Because: NotServing}
	}
	self := view[i]
	d := Decision{From: self.Stage}
	if now.Before(m.next) {
		return d
	}
	m.next = now.Add(time.Duration(float64(m.cfg.Period) * (0.9 + 0.2*m.cfg.Rand.Float64())))
	if self.State != Online || self.Moving && m.intent < 0 {
		d.Because = NotServing
		return d
	}
	intended := m.intent
	m.intent = -1
	to, d := m.decide(d, view, self, intended >= 0)
	switch {
	case to >= 0 && intended >= 0:
		d.Action, d.To = Move, to
	case to >= 0:
		m.intent, m.next = to, now.Add(m.cfg.Confirm)
		d.Action, d.To = Intend, to
	case intended >= 0:
		d.Action, d.To = Withdraw, intended
		if d.Because == Balanced {
			d.Because = FilledByNow
		}
	}
	return d
}

// decide plans the moves that help and returns where this peer is to go, or -1.
func (m *Mover) decide(d Decision, view []Published, self Published, confirming bool) (int, Decision) {
	b := newBalance(m.cfg.Stages, view, self, confirming)
	d.Now = b.poorest()
	if b.waits() == 0 && d.Now > 0 {
		d.Could, d.Because = d.Now, Idle
		return -1, d
	}
	to, moves := b.plan(self)
	d.Could = b.poorest()
	switch {
	case b.lastOne && to < 0:
		d.Because = LastOfStage
	case d.Now >= d.Could*m.cfg.Quality:
		d.Because = Balanced
	case to < 0:
		d.Because = NotSpared
	case b.wait[to] < b.wait[self.Stage] && b.before[to] > 0:
		d.Because = NotWaited
	case d.Now > 0 && (d.Could/d.Now-1)*m.cfg.Horizon.Seconds() <= m.cfg.StateTime.Seconds()*float64(moves)/float64(len(view)):
		d.Because = NotWorth
	default:
		d.Because = ShortOfPeers
		return to, d
	}
	return -1, d
}

// balance is the stages as they will be when everybody has arrived where he is going.
type balance struct {
	capacity []float64 // passes a second
	before   []float64 // the plan
	serving  []int     // peers that serve and stay
	wait     []float64 // mean of those that serve
	rates    [][]float64
	lastOne  bool // a move of this peer was wanted and would have emptied its stage
}

// newBalance adds the peers up. A peer that confirms its own intent counts
// where it is now, and so do intents of peers with a greater id: of two who
// want to fill one gap, the lesser id does.
func newBalance(stages int, view []Published, self Published, confirming bool) *balance {
	b := &balance{
		capacity: make([]float64, stages), serving: make([]int, stages), wait: make([]float64, stages), rates: make([][]float64, stages),
	}
	byID := func(x, y Published) int { return comparePeers(x.Peer, y.Peer) }
	if !slices.IsSortedFunc(view, byID) { // one order of adding up for everybody
		view = slices.SortedFunc(slices.Values(view), byID)
	}
	unknown := medianRate(view)
	stay := make([]float64, 0, len(view)) // rates of who serves, by stage
	for _, p := range view {
		at, there := b.counts(p, self, confirming)
		if at < 0 {
			continue
		}
		rate := p.Rate
		if rate <= 0 {
			rate = unknown
		}
		b.capacity[at] += rate
		if there {
			b.serving[at]++
			b.wait[at] += p.Wait
		}
	}
	for s, n := range b.serving {
		b.rates[s] = stay[len(stay) : len(stay) : len(stay)+n]
		stay = stay[:len(stay)+n]
	}
	for _, p := range view {
		at, there := b.counts(p, self, confirming)
		if at < 0 || !there {
			continue
		}
		rate := p.Rate
		if rate <= 0 {
			rate = unknown
		}
		b.rates[at] = append(b.rates[at], rate)
		if p.Peer == self.Peer { // first, for its own move is what is asked
			last := len(b.rates[at]) - 1
			b.rates[at][0], b.rates[at][last] = b.rates[at][last], b.rates[at][0]
		}
	}
	for s := range b.wait {
		b.wait[s] /= float64(max(1, b.serving[s]))
	}
	b.before = slices.Clone(b.capacity)
	return b
}

// counts returns the stage that a peer counts in, or -1, and whether it serves
// there and may be moved.
func (b *balance) counts(p, self Published, confirming bool) (stage int, there bool) {
	stage, there = p.Stage, p.State == Online
	intent := p.Moving && p.Intent >= 0 && p.Intent < len(b.capacity) && p.Peer != self.Peer
	if intent && !(confirming && there && comparePeers(p.Peer, self.Peer) > 0) {
		stage, there = p.Intent, false
	}
	if stage < 0 || stage >= len(b.capacity) || (p.State == Leaving && !intent) {
		return -1, false
	}
	return stage, there
}

// medianRate returns what an unmeasured peer is taken for.
func medianRate(view []Published) float64 {
	if !slices.ContainsFunc(view, func(p Published) bool { return p.Rate <= 0 }) {
		return 1
	}
	var known []float64
	for _, p := range view {
		if p.Rate > 0 {
			known = append(known, p.Rate)
		}
	}
	if len(known) == 0 {
		return 1
	}
	slices.Sort(known)
	return known[len(known)/2]
}

func (b *balance) poorest() float64 { return slices.Min(b.capacity) }
func (b *balance) waits() float64   { return slices.Max(b.wait) }

// tie is by how much a stage must be richer than another, so that rounding and
// noise move nobody.
const tie = 1e-3

// plan moves peers from the richest stages to the poorest as long as the
// poorest gets better off and the giver does not become poorer than it was. It
// returns where the given peer goes, or -1, and how many go in all.
func (b *balance) plan(self Published) (to, moves int) {
	to = -1
	for range 1 << 12 {
		poor := b.argmin()
		donor := -1
		for s, c := range b.capacity {
			if len(b.rates[s]) == 0 || c-b.rates[s][0] <= b.capacity[poor]*(1+tie) {
				continue
			}
			if b.serving[s] < 2 {
				b.lastOne = b.lastOne || s == self.Stage
				continue
			}
			if donor < 0 || c > b.capacity[donor]*(1+tie) || (s == self.Stage && c >= b.capacity[donor]*(1-tie)) {
				donor = s
			}
		}
		if donor < 0 {
			return to, moves
		}
		rate := b.rates[donor][0]
		b.rates[donor] = b.rates[donor][1:]
		b.capacity[donor] -= rate
		b.serving[donor]--
		b.capacity[poor] += rate
		moves++
		if donor == self.Stage && to < 0 {
			to = poor
		}
	}
	return to, moves
}

// argmin returns the poorest stage; of equals the one where calls wait longest.
func (b *balance) argmin() int {
	best := 0
	for s, c := range b.capacity {
		if c < b.capacity[best]*(1-tie) || (c <= b.capacity[best]*(1+tie) && b.wait[s] > b.wait[best]) {
			best = s
		}
	}
	return best
}

// Place returns the stage that a newcomer joins: the poorest, with everybody
// counted where he is going, and of equals the one where calls wait longest.
func Place(stages int, view []Published) int {
	return newBalance(stages, view, Published{Stage: -1}, false).argmin()
}

// Tier says where a stage's state comes from when a peer needs it.
type Tier uint8

// The tiers, best first.
const (
	FromReplica    Tier = iota // a peer of the stage has it
	FromCheckpoint             // an older state and the ledger's results above it
	FromNeighbours             // made up of the stages beside it; state is lost
	NoWay
)

func (t Tier) String() string {
	switch t {
	case FromReplica:
		return "replica"
	case FromCheckpoint:
		return "checkpoint and ledger"
	case FromNeighbours:
		return "average of the neighbours"
	case NoWay:
		return "none"
	}
	return fmt.Sprintf("tier %d", uint8(t))
}

// Loss is what is known when a stage's state is wanted.
type Loss struct {
	Stage, Stages int
	Head          uint64   // version that the ledger has reached
	Replicas      []uint64 // versions that peers of the stage have
	Checkpoint    bool     // some peer or seed holds a whole one
	At            uint64   // its version
	Results       uint64   // every result from At up to this version can be had
	Alike         bool     // the neighbours' layers have this stage's shapes
	Norms         [2]float64
}

// Recovery is where the state comes from, and what is lost by it.
type Recovery struct {
	Tier    Tier
	Version uint64     // of the state that is reached
	Behind  uint64     // versions lost against the head
	Weights [2]float64 // of the stages before and after, for FromNeighbours
	Rate    float64    // factor on the learning rate until the stage has settled
}

// String says it aloud.
func (r Recovery) String() string {
	switch r.Tier {
	case FromReplica, FromCheckpoint:
		return fmt.Sprintf("state from %s: version %d, %d lost", r.Tier, r.Version, r.Behind)
	case FromNeighbours:
		return fmt.Sprintf("STATE IS LOST; made from the %s, %.2f and %.2f, new moments, learning rate × %.1f", r.Tier, r.Weights[0], r.Weights[1], r.Rate)
	case NoWay:
	}
	return "STATE IS LOST and cannot be made up: no replica, no checkpoint, no stages of its shape beside it"
}

// checkFreeRate is what CheckFree (arXiv 2506.15461) multiplies the learning
// rate of a made-up stage by.
const checkFreeRate = 1.1

// Recover chooses the tier that loses least: a replica as new as what can be
// replayed, else the checkpoint and the ledger, else CheckFree's mean of the
// neighbours, weighted by their squared gradient norms.
func Recover(l Loss) Recovery {
	replica, found := uint64(0), false
	for _, v := range l.Replicas {
		if v <= l.Head {
			replica, found = max(replica, v), true
		}
	}
	replayed := min(max(l.At, l.Results), l.Head)
	switch {
	case found && (!l.Checkpoint || replica >= replayed):
		return Recovery{Tier: FromReplica, Version: replica, Behind: l.Head - replica}
	case l.Checkpoint && l.At <= l.Head:
		return Recovery{Tier: FromCheckpoint, Version: replayed, Behind: l.Head - replayed}
	case l.Alike && l.Stage > 0 && l.Stage < l.Stages-1:
		before, after := l.Norms[0]*l.Norms[0], l.Norms[1]*l.Norms[1]
		if sum := before + after; cmp.Compare(sum, 0) > 0 && sum <= 1e300 {
			return Recovery{Tier: FromNeighbours, Version: l.Head, Weights: [2]float64{before / sum, after / sum}, Rate: checkFreeRate}
		}
		return Recovery{Tier: FromNeighbours, Version: l.Head, Weights: [2]float64{0.5, 0.5}, Rate: checkFreeRate}
	}
	return Recovery{Tier: NoWay, Behind: l.Head}
}
