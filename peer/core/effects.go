package core

import (
	"fmt"
	"slices"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/round"
	"dunlin/wire"
)

// toCoordinator steps the coordinator's side.
func (c *Core) toCoordinator(ev coordinator.Event) {
	if c.lead == nil {
		return
	}
	for _, e := range c.lead.Step(c.now, ev) {
		switch e := e.(type) {
		case coordinator.Append:
			c.emit(Append{Body: e.Body})
		case coordinator.Send:
			c.send(e.Message, e.To)
		case coordinator.Members:
			c.members = workers(e.List)
			if c.balance != nil {
				c.balance.follow(c.now, c.members)
			}
			c.toLeader(round.Members{List: c.members})
		case coordinator.Lead:
			c.reign(e.Term)
		case coordinator.Note:
			c.emit(Note(e))
		case coordinator.Adopt, coordinator.RaiseTerm, coordinator.Collect, coordinator.Halt, coordinator.Offer:
			c.emit(e)
		}
	}
}

func workers(list []coordinator.Member) []round.Worker {
	out := make([]round.Worker, len(list))
	for i, m := range list {
		out[i] = round.Worker{
			Slot: m.Slot, Peer: m.Peer, Addrs: m.Addrs, Upload: m.Upload, StepTime: m.StepTime, Stage: m.Stage,
			Active: m.Active, Connected: m.Connected,
		}
	}
	return out
}

// reign starts the rounds of a new term: whatever an earlier one had under way
// is gone, and workers send their undecided Readys again.
func (c *Core) reign(term uint64) {
	leader, err := round.NewLeader(round.LeaderConfig{
		Spec: c.spec(), Term: term, Seed: c.cfg.Self, Heads: c.log.heads, Settings: c.log.settings, SettingsHash: c.log.hash,
		History: c.history,
	})
	if err != nil {
		c.notef("lead term %d: %v", term, err)
		return
	}
	c.leader, c.deciding, c.undecided = leader, nil, nil
	c.toLeader(round.Members{List: c.members})
}

// toLeader steps the coordinator's rounds.
func (c *Core) toLeader(ev round.Event) {
	if c.leader == nil {
		return
	}
	c.owed = false
	for _, e := range c.leader.Step(c.now, ev) {
		switch e := e.(type) {
		case round.Append:
			c.emit(Append(e))
		case round.ProposeCommit:
			c.propose(e)
		default:
			c.roundEffect(e)
		}
	}
}

// propose completes a commit by what the coordinator knows of data. A commit
// says how many tokens the run has after it, so while the outcome of one is not
// known the next waits: where several coordinators agree, that takes a while.
func (c *Core) propose(e round.ProposeCommit) {
	if c.deciding != nil {
		c.undecided = append(c.undecided, e)
		return
	}
	var table wire.CommitTable
	if err := wire.Decode(e.Table, &table); err != nil {
		c.notef("commit of fragment %d: %v", e.Commit.Fragment, err)
		return
	}
	if err := c.lead.CheckCommit(e.Commit.Fragment, &table); err != nil {
		c.appendFailed(AppendFailed{Body: &e.Commit, Reason: err.Error()})
		return
	}
	commit := e.Commit
	commit.Tokens = c.lead.TokensAfter(&table)
	c.deciding = &commit
	c.emit(Append{Body: &commit, Table: e.Table})
}

// decided proposes the next commit once the one under way stands, or may not.
func (c *Core) decided(b *wire.Commit) {
	if c.deciding == nil || c.deciding.Fragment != b.Fragment || c.deciding.Base != b.Base || c.deciding.Attempt != b.Attempt {
		return
	}
	c.deciding = nil
	for c.deciding == nil && len(c.undecided) > 0 {
		next := c.undecided[0]
		c.undecided = c.undecided[1:]
		c.propose(next)
	}
}

// toWorker steps both round machines of a worker.
func (c *Core) toWorker(ev round.Event) {
	if c.member == nil {
		return
	}
	for _, e := range c.member.Step(c.now, ev) {
		c.roundEffect(e)
	}
	c.toOwner(ev)
}

func (c *Core) toOwner(ev round.Event) {
	for _, e := range c.owner.Step(c.now, ev) {
		c.roundEffect(e)
	}
}

func (c *Core) roundEffect(e round.Effect) {
	switch e := e.(type) {
	case round.Send:
		c.send(e.Message, e.To...)
	case round.Report:
		c.send(e.Message, c.reigns)
	case round.SendReady:
		c.emit(SendReady(e))
	case round.Note:
		c.emit(Note(e))
	case round.Rejoin:
		c.emit(e)
		c.toJoiner(coordinator.Diverged{Reason: e.Reason})
		c.startSync(c.log.height)
	case round.FetchSlab, round.SumSlab, round.Settle, round.DropSlabs, round.TakeSnapshot, round.Merge, round.Append, round.ProposeCommit:
		c.emit(e)
	}
}

// toCatchup steps the machine that keeps the replica at the head.
func (c *Core) toCatchup(ev catchup.Event) {
	switch e := ev.(type) {
	case catchup.Fetched:
		if e.Ref.What == wire.WhatBlob {
			c.toLeader(round.SeedHas{Hash: e.Ref.Hash})
		}
	case catchup.PrepareFailed:
		if e.Garbage {
			c.toLeader(round.SeedRefused{Fragment: e.Fragment, Attempt: e.Attempt, Result: e.Result, Slab: e.Slab, Reason: e.Reason})
		}
	default: // nothing that rounds are about
	}
	for _, e := range c.catch.Step(c.now, ev) {
		switch e := e.(type) {
		case catchup.GetEntries:
			c.send(&wire.GetEntries{From: e.From, Max: wire.MaxItems}, e.Peer)
		case catchup.SendHave:
			c.send(&e.Have, c.reigns)
		case catchup.Advanced:
			c.applied = e.Height
			c.emit(e)
			c.toWorker(round.Applied{Fragment: e.Commit.Fragment, Version: e.Commit.Base + 1, Table: e.Table})
		case catchup.Follow:
			c.applied = e.Height
			c.emit(e)
		case catchup.CaughtUp:
			c.caught = e.Height
			c.emit(e)
			c.checkSynced()
		case catchup.Repair:
			c.emit(e)
			c.toWorker(round.Suspended{Reason: e.Reason})
			c.toJoiner(coordinator.Diverged{Reason: e.Reason})
			c.startSync(c.log.height)
		case catchup.Holds:
			c.emit(e)
			c.toCoordinator(coordinator.SeedHolds{At: e.At})
		case catchup.Note:
			c.emit(Note(e))
		case catchup.Jumped:
			c.jumped(e)
		case catchup.Fetch, catchup.Prepare, catchup.Promote, catchup.Apply, catchup.DropShadow, catchup.SaveCheckpoint,
			catchup.LoadCheckpoint, catchup.Reread:
			c.emit(e)
		}
	}
}

// jumped follows a replica that took over a checkpoint. A worker that trains
// starts again from it: it has not merged the commits below.
func (c *Core) jumped(e catchup.Jumped) {
	c.applied = max(c.applied, e.At)
	c.emit(e)
	reason := "the replica took over a checkpoint"
	c.toWorker(round.Suspended{Reason: reason})
	c.toJoiner(coordinator.Diverged{Reason: reason})
	if c.join != nil {
		c.startSync(c.log.height)
	}
}

// toJoiner steps a worker's membership.
func (c *Core) toJoiner(ev coordinator.JoinerEvent) {
	if c.join == nil {
		return
	}
	for _, e := range c.join.Step(c.now, ev) {
		switch e := e.(type) {
		case coordinator.StartSync:
			c.emit(e)
			c.startSync(e.Head)
		case coordinator.RequestLease:
			c.send(&wire.LeaseRequest{Slot: e.Slot, Windows: e.Windows}, c.reigns)
		case coordinator.SendLeave:
			c.send(&wire.Leave{Slot: e.Slot, Reason: e.Reason}, c.reigns)
		case coordinator.HandOver:
			c.draining = true
		case coordinator.Note:
			c.emit(Note(e))
		case coordinator.TakeSlot:
			c.emit(e)
			c.toWorker(round.Suspended{Reason: fmt.Sprintf("slot %d has not made a step yet", e.Slot)}) // until Assigned
		case coordinator.Dial, coordinator.SendHello, coordinator.SetState, coordinator.StartTraining,
			coordinator.StopTraining, coordinator.SendHeartbeat, coordinator.Finished:
			c.emit(e)
		}
	}
}

// startSync asks for the head; training starts when replica and data are there.
func (c *Core) startSync(head uint64) {
	c.caught = 0
	c.toCatchup(catchup.Sync{Head: head})
}

func (c *Core) checkSynced() {
	if c.caught > 0 && c.data {
		height := c.caught
		c.caught = 0
		c.toJoiner(coordinator.CaughtUp{Height: height})
	}
}

// checkHandover ends a hand-over once nothing of this worker's is under way and
// its replica stands at the newest commit, hashed where that is the run's last.
func (c *Core) checkHandover() {
	if c.draining && c.member.Undecided() == 0 && !c.owner.Busy() && c.applied >= c.log.commit && c.told() {
		c.draining = false
		c.toJoiner(coordinator.HandedOver{})
	}
}

// told reports whether a goodbye can say what it must.
func (c *Core) told() bool {
	return c.log.settings.Phase != wire.PhaseEnded ||
		slices.EqualFunc(c.hashed, c.log.heads, func(a, b wire.FragmentHead) bool { return a.Version == b.Version })
}
