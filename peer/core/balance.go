package core

import (
	"fmt"
	"math/rand/v2"
	"time"

	"dunlin/coordinator"
	"dunlin/pipeline"
	"dunlin/round"
	"dunlin/wire"
)

// balance moves peers between the stages of a run, at its coordinator: it hears what each
// peer says of its load, and lets a pipeline.Mover decide for each.
type balance struct {
	period time.Duration
	stages int
	seed   uint64
	beats  map[wire.PeerID]wire.Heartbeat
	movers map[wire.Slot]*mover
}

// mover decides for one slot.
type mover struct {
	*pipeline.Mover
	intent int // -1: none
	left   bool
}

func newBalance(cfg Config) *balance {
	return &balance{
		period: cfg.Rebalance, stages: cfg.Spec.StageCount(), seed: cfg.Seed, beats: map[wire.PeerID]wire.Heartbeat{}, movers: map[wire.Slot]*mover{},
	}
}

// follow keeps a mover for each slot there is.
func (b *balance) follow(now time.Time, workers []round.Worker) {
	live, present := map[wire.Slot]bool{}, map[wire.PeerID]bool{}
	for _, w := range workers {
		live[w.Slot], present[w.Peer] = true, true
		if b.movers[w.Slot] != nil {
			continue
		}
		rng := rand.New(rand.NewPCG(b.seed, uint64(w.Slot)))
		m, err := pipeline.NewMover(now, pipeline.DefaultMoverConfig(w.Peer, b.stages, b.period, rng))
		if err == nil {
			b.movers[w.Slot] = &mover{Mover: m, intent: -1}
		}
	}
	for slot := range b.movers {
		if !live[slot] {
			delete(b.movers, slot)
		}
	}
	for peer := range b.beats {
		if !present[peer] {
			delete(b.beats, peer)
		}
	}
}

// heard takes in what a peer that has a slot says of itself.
func (b *balance) heard(from wire.PeerID, h *wire.Heartbeat) {
	if b.movers[h.Slot] != nil {
		b.beats[from] = *h
	}
}

// view is what all peers publish.
func (b *balance) view(workers []round.Worker) []pipeline.Published {
	var out []pipeline.Published
	for _, w := range workers {
		m := b.movers[w.Slot]
		if !w.Connected || m == nil {
			continue
		}
		p := pipeline.Published{Peer: w.Peer, Stage: int(w.Stage), State: pipeline.Joining, Intent: m.intent, Moving: m.intent >= 0}
		if h := b.beats[w.Peer]; h.Slot == w.Slot {
			p.Wait = float64(h.QueueWait) / 1e6
			if h.PassTime > 0 {
				p.Rate = 1e6 / float64(h.PassTime)
			}
			if h.State == wire.StateTraining {
				p.State = pipeline.Online
			}
			if h.State == wire.StateDraining {
				p.State = pipeline.Leaving
			}
		}
		if m.left {
			p.State = pipeline.Leaving
		}
		out = append(out, p)
	}
	return out
}

// rebalance lets every mover look that is due, and sends peers away.
func (c *Core) rebalance() {
	b := c.balance
	if b == nil || c.leader == nil || c.log.settings.Phase == wire.PhaseEnded {
		return
	}
	for _, w := range c.members {
		m := b.movers[w.Slot]
		if m == nil || m.left || c.now.Before(m.Deadline()) {
			continue
		}
		d := m.Look(c.now, b.view(c.members))
		switch d.Action {
		case pipeline.Stay:
		case pipeline.Intend:
			m.intent = d.To
			c.notef("%s means to move: %s", w.Peer.Short(), d)
		case pipeline.Withdraw:
			m.intent = -1
			c.notef("%s stays: %s", w.Peer.Short(), d)
		case pipeline.Move:
			m.intent, m.left = d.To, true
			c.emit(Moved{Peer: w.Peer, From: d.From, To: d.To, Reason: d.String()})
			c.toCoordinator(coordinator.Placed{Peer: w.Peer, Stage: d.To})
			c.send(&wire.Move{Stage: uint64(d.To), Reason: fmt.Sprintf("stage %d to %d: %s", d.From+1, d.To+1, d.Because)}, w.Peer)
		}
	}
}

// nextLook returns when a mover looks next, or the zero time.
func (b *balance) nextLook() time.Time {
	var next time.Time
	for _, m := range b.movers {
		if t := m.Deadline(); !m.left && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}
