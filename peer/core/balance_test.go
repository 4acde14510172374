package core

import (
	"testing"
	"time"

	"dunlin/round"
	"dunlin/wire"
)

// TestPeersMoveToThePoorStage has a stage with one busy peer beside one with three idle
// ones: one of the three is sent, and only one, and nobody leaves a stage empty.
func TestPeersMoveToThePoorStage(t *testing.T) {
	spec := &wire.RunSpec{Fragments: 3, Stages: []uint64{0, 1, 2}}
	now := time.Unix(1000, 0)
	c := &Core{cfg: Config{Spec: spec, Rebalance: time.Minute, Seed: 3}, leader: &round.Leader{}}
	c.balance = newBalance(c.cfg)
	stages := []uint64{0, 1, 2, 2, 2, 0}
	for i, stage := range stages {
		c.members = append(c.members, round.Worker{Slot: wire.Slot(i + 1), Peer: wire.PeerID{byte(i + 1)}, Stage: stage, Connected: true})
	}
	c.balance.follow(now, c.members)
	beat := func() {
		for _, w := range c.members {
			h := &wire.Heartbeat{Slot: w.Slot, State: wire.StateTraining, PassTime: 10_000, QueueWait: 1000}
			if w.Stage == 1 {
				h.QueueWait = 400_000
			}
			c.balance.heard(w.Peer, h)
		}
	}
	var moved []Moved
	var sent []*wire.Move
	for range 600 {
		beat()
		c.now, c.out = now, nil
		c.rebalance()
		for _, e := range c.out {
			switch e := e.(type) {
			case Moved:
				moved = append(moved, e)
			case Send:
				sent = append(sent, e.Message.(*wire.Move))
			}
		}
		for _, m := range moved { // it is back in the other stage after a while
			for i := range c.members {
				if w := &c.members[i]; w.Peer == m.Peer && int(w.Stage) == m.From {
					w.Stage, w.Slot = uint64(m.To), w.Slot+100
					c.balance.follow(now, c.members)
				}
			}
		}
		if next := c.balance.nextLook(); next.Before(now) {
			t.Fatalf("a look is overdue since %v", now.Sub(next))
		}
		now = now.Add(time.Second)
	}
	if len(moved) != 1 || len(sent) != 1 || moved[0].From != 2 || moved[0].To != 1 || sent[0].Stage != 1 || moved[0].Reason == "" {
		t.Errorf("moved %+v, sent %v", moved, sent)
	}
	c.balance.heard(wire.PeerID{99}, &wire.Heartbeat{Slot: 77})
	if len(c.balance.beats) != len(stages) {
		t.Errorf("%d heartbeats are kept of %d peers", len(c.balance.beats), len(stages))
	}
}
