package sim

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/pipeline"
	"dunlin/wire"
)

// Preemption describes a made-up trace of peers that are taken away and come
// back, of a pipeline of equal stages and equal peers: long hours with few
// deaths, then a storm that lasts to the end. Its numbers are fitted so that no
// rebalancing and the published rule do as they did on the log of SWARM's
// authors (arXiv 2301.11913, section 4.3; see docs/results.md).
type Preemption struct {
	Stages   int
	Peers    int // at the start, spread evenly
	Length   time.Duration
	Calm     float64       // deaths an hour at the start
	Storm    float64       // at the end
	At       time.Duration // of the storm's rise
	Rise     time.Duration // a quarter of the storm is there that long before At
	Burst    float64       // peers that die at once, on average (geometric)
	Back     float64       // share of the dead that is replaced
	Away     time.Duration // until a replacement comes, on average (exponential)
	Transfer time.Duration // of a stage's state to who joins or moves
}

// StateBytes is what a peer fetches when it joins a stage or moves to it:
// weights and two moments of 200 million parameters, 96 s at 200 Mbit/s.
const StateBytes = 200e6 * 12

// DefaultPreemption is the trace of the figures.
func DefaultPreemption() Preemption {
	return Preemption{
		Stages: 32, Peers: 32*16 + 4, Length: 32 * time.Hour, Calm: 1.5, Storm: 75, At: 22*time.Hour + 48*time.Minute, Rise: 90 * time.Minute,
		Burst: 2.5, Back: 0.85, Away: time.Hour, Transfer: 96 * time.Second,
	}
}

// change is one peer's death or arrival.
type change struct {
	at   int // s
	peer int // numbered from 0 in order of arrival; the first Peers are there at the start
	dies bool
}

// changes draws the trace, ordered by time: the same for every policy.
func (p Preemption) changes(seed uint64) []change {
	rng := rand.New(rand.NewPCG(seed, 0x5e111))
	alive := make([]int, p.Peers)
	for i := range alive {
		alive[i] = i
	}
	next := p.Peers
	arrivals := make(map[int]int)
	var out []change
	for t := range int(p.Length.Seconds()) {
		storm := 1 / (1 + math.Exp((p.At.Seconds()-float64(t))/p.Rise.Seconds()))
		rate := p.Calm + (p.Storm-p.Calm)*storm
		if rng.Float64() < rate/3600/p.Burst {
			for dying := true; dying && len(alive) > 2*p.Stages; dying = rng.Float64() > 1/p.Burst {
				i := rng.IntN(len(alive))
				out = append(out, change{t, alive[i], true})
				alive = slices.Delete(alive, i, i+1)
				if rng.Float64() < p.Back {
					arrivals[t+1+int(rng.ExpFloat64()*p.Away.Seconds())]++
				}
			}
		}
		for range arrivals[t] {
			out = append(out, change{t, next, false})
			alive = append(alive, next)
			next++
		}
		delete(arrivals, t)
	}
	return out
}

// Policy says how peers choose their stages.
type Policy string

// The policies.
const (
	// Fixed: a peer joins a stage drawn at random and stays.
	Fixed Policy = "fixed"
	// Published is SWARM's rule: every period the peers know how much waits in
	// each stage; newcomers join the stage with most, and one peer of the stage
	// with least moves there.
	Published Policy = "published"
	// Guarded is package pipeline's.
	Guarded Policy = "guarded"
)

// Balance is how a policy did: throughput as a share of the best that the peers
// which were alive could have reached at each instant, in any assignment.
type Balance struct {
	Overall, First, Last float64 // whole trace, first hour, last hour
	Moves                float64 // an hour
	Bytes                float64 // an hour, of moves
	Empty                time.Duration
}

// balanced is a run of one trace under one policy. Time goes by seconds.
type balanced struct {
	p       Preemption
	policy  Policy
	period  int
	rng     *rand.Rand
	peers   []*stagePeer // by number; nil when dead or not there yet
	online  []int        // by stage
	alive   int
	load    []float64 // by stage: s that calls wait, moving average
	known   int       // stage that needs most, at the last period
	view    []pipeline.Published
	updates []word
	moves   int
}

// stagePeer is one peer.
type stagePeer struct {
	stage  int
	ready  int // when its state is there
	online bool
	mover  *pipeline.Mover
	said   pipeline.Published // its newest word
}

// word is what a peer says, on its way to all.
type word struct {
	at   int
	said pipeline.Published
	gone bool
}

const (
	spreadWait = 2  // s until all have heard a word
	noticeWait = 10 // s until all know of a death
	loadMemory = 60 // s of the moving average of waits
	sayWait    = 15 // s between two words about load
)

// Run plays the trace that a seed draws under a policy whose peers look every
// period. State transfer counts: who joins or moves serves nobody meanwhile.
func (p Preemption) Run(seed uint64, policy Policy, period time.Duration) (Balance, error) {
	r := balanced{
		p: p, policy: policy, period: int(period.Seconds()), rng: rand.New(rand.NewPCG(seed, 0xba1a)),
		online: make([]int, p.Stages), load: make([]float64, p.Stages),
	}
	for i := range p.Peers {
		if err := r.arrive(i, i%p.Stages, -1); err != nil {
			return Balance{}, err
		}
	}
	r.hear(spreadWait)
	changes := p.changes(seed)
	var out Balance
	var did, best [3]float64
	length := int(p.Length.Seconds())
	for t := range length {
		for ; len(changes) > 0 && changes[0].at == t; changes = changes[1:] {
			if err := r.change(changes[0]); err != nil {
				return Balance{}, err
			}
		}
		r.second(t)
		now, could := float64(slices.Min(r.online)), float64(r.alive/p.Stages)
		for i, counts := range []bool{true, t < 3600, t >= length-3600} {
			if counts {
				did[i] += now
				best[i] += could
			}
		}
		if now == 0 {
			out.Empty += time.Second
		}
	}
	hours := p.Length.Hours()
	out.Overall, out.First, out.Last = did[0]/best[0], did[1]/best[1], did[2]/best[2]
	out.Moves = float64(r.moves) / hours
	out.Bytes = out.Moves * StateBytes
	return out, nil
}

func (r *balanced) change(c change) error {
	if !c.dies {
		return r.arrive(c.peer, r.place(), c.at)
	}
	s := r.peers[c.peer]
	if s.online {
		r.online[s.stage]--
	}
	r.peers[c.peer] = nil
	r.alive--
	r.updates = append(r.updates, word{at: c.at + noticeWait, said: s.said, gone: true})
	return nil
}

// place returns where a newcomer goes.
func (r *balanced) place() int {
	switch r.policy {
	case Published:
		return r.known
	case Guarded:
		return pipeline.Place(r.p.Stages, r.view)
	case Fixed:
	}
	return r.rng.IntN(r.p.Stages)
}

// arrive adds a peer, which fetches its state first unless it was there from
// the start (at < 0).
func (r *balanced) arrive(number, stage, at int) error {
	s := &stagePeer{stage: stage, ready: at + int(r.p.Transfer.Seconds()), online: at < 0}
	for len(r.peers) <= number {
		r.peers = append(r.peers, nil)
	}
	r.peers[number] = s
	r.alive++
	if s.online {
		r.online[stage]++
	}
	if r.policy != Guarded {
		return nil
	}
	var id wire.PeerID
	binary.BigEndian.PutUint32(id[:], uint32(number)+1)
	cfg := pipeline.DefaultMoverConfig(id, r.p.Stages, time.Duration(r.period)*time.Second, r.rng)
	cfg.StateTime = r.p.Transfer
	var err error
	if s.mover, err = pipeline.NewMover(second(max(at, 0)), cfg); err != nil {
		return err
	}
	s.said = pipeline.Published{Peer: id, Stage: stage, State: pipeline.Joining, Rate: 1}
	if s.online {
		s.said.State = pipeline.Online
	}
	r.say(at, s)
	return nil
}

func (r *balanced) say(t int, s *stagePeer) {
	r.updates = append(r.updates, word{at: t + spreadWait, said: s.said})
}

func second(t int) time.Time { return time.Unix(int64(t), 0) }

// second lets one second pass.
func (r *balanced) second(t int) {
	for _, s := range r.peers {
		if s != nil && !s.online && s.ready <= t {
			s.online = true
			r.online[s.stage]++
			if r.policy == Guarded {
				s.said.State, s.said.Moving = pipeline.Online, false
				r.say(t, s)
			}
		}
	}
	switch r.policy {
	case Published:
		if t%r.period == 0 {
			r.publishedRule(t)
		}
	case Guarded:
		r.weigh(t)
		r.hear(t)
		r.look(t)
	case Fixed:
	}
}

// publishedRule is one period of SWARM's: what waits in a stage grows as its
// peers get fewer, so the stage with least peers has most and that with most
// has least; of equals one is drawn.
func (r *balanced) publishedRule(t int) {
	poor, rich := r.draw(func(n, than int) bool { return n < than }), r.draw(func(n, than int) bool { return n > than })
	r.known = poor
	if r.online[poor] == r.online[rich] {
		return
	}
	for _, s := range r.peers {
		if s != nil && s.online && s.stage == rich {
			r.leave(t, s, poor)
			return
		}
	}
}

// draw returns one of the stages that no other one beats.
func (r *balanced) draw(beats func(n, than int) bool) int {
	best, equals := 0, 0
	for s, n := range r.online {
		switch {
		case equals == 0 || beats(n, r.online[best]):
			best, equals = s, 1
		case n == r.online[best]:
			if equals++; r.rng.IntN(equals) == 0 {
				best = s
			}
		}
	}
	return best
}

// leave sends a peer to another stage.
func (r *balanced) leave(t int, s *stagePeer, to int) {
	r.online[s.stage]--
	s.stage, s.online, s.ready = to, false, t+int(r.p.Transfer.Seconds())
	r.moves++
}

// weigh moves the averages of waits on: those of queues in front of stages of
// which the poorest is used to 97 %.
func (r *balanced) weigh(t int) {
	flow := 0.97 * float64(slices.Min(r.online))
	for s, n := range r.online {
		used := flow / max(float64(n), flow+1e-9)
		r.load[s] += (used/(1-used) - r.load[s]) / loadMemory
	}
	if t%sayWait == 0 {
		for i := range r.view {
			r.view[i].Wait = r.load[r.view[i].Stage]
		}
	}
}

// hear takes in the words that have reached everybody.
func (r *balanced) hear(t int) {
	rest := r.updates[:0]
	for _, u := range r.updates {
		if u.at > t {
			rest = append(rest, u)
			continue
		}
		i, found := r.find(u.said.Peer)
		switch {
		case u.gone && found:
			r.view = slices.Delete(r.view, i, i+1)
		case u.gone:
		case found:
			u.said.Wait = r.view[i].Wait
			r.view[i] = u.said
		default:
			r.view = slices.Insert(r.view, i, u.said)
		}
	}
	r.updates = rest
}

func (r *balanced) find(id wire.PeerID) (int, bool) {
	return slices.BinarySearchFunc(r.view, id, func(p pipeline.Published, id wire.PeerID) int { return slices.Compare(p.Peer[:], id[:]) })
}

// look lets every peer decide whose look is due. A peer knows its own newest
// word before others do.
func (r *balanced) look(t int) {
	for _, s := range r.peers {
		if s == nil || s.mover.Deadline().After(second(t)) {
			continue
		}
		i, found := r.find(s.said.Peer)
		if !found {
			continue
		}
		others := r.view[i]
		r.view[i].Stage, r.view[i].State, r.view[i].Moving, r.view[i].Intent = s.said.Stage, s.said.State, s.said.Moving, s.said.Intent
		d := s.mover.Look(second(t), r.view)
		r.view[i] = others
		switch d.Action {
		case pipeline.Stay:
			continue
		case pipeline.Intend:
			s.said.Moving, s.said.Intent = true, d.To
		case pipeline.Withdraw:
			s.said.Moving = false
		case pipeline.Move:
			r.leave(t, s, d.To)
			s.said.Stage, s.said.State, s.said.Moving = d.To, pipeline.Joining, false
		}
		r.say(t, s)
	}
}
