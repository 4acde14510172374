package core

import (
	"slices"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/round"
	"dunlin/wire"
)

// route gives an event to the machines that it concerns.
func (c *Core) route(ev Event) {
	switch ev := ev.(type) {
	case Logged:
		c.logged(ev)
	case PeerUp:
		c.peerUp(ev.Peer)
	case PeerDown:
		c.peerDown(ev)
	case Leads:
		c.leads(ev)
	case Message:
		c.message(ev.From, ev.Message)
	case DataReady:
		c.data = true
		c.checkSynced()
	case DeviceLost:
		c.data = false
		c.toWorker(round.Suspended(ev))
		c.toJoiner(coordinator.DeviceLost(ev))
		c.startSync(c.log.height)
	case AppendFailed:
		c.appendFailed(ev)
	case StateHashed:
		c.hashed = ev.Heads
	case Tick:
		c.tick()
	case catchup.Event:
		c.toCatchup(ev)
	case round.Event:
		c.toWorker(ev)
	case coordinator.Event:
		c.toCoordinator(ev)
		if _, ok := ev.(coordinator.Started); ok {
			c.toJoiner(coordinator.Tick{}) // one that works asks itself for a slot
		}
		if _, ok := ev.(coordinator.Deposed); ok {
			c.leader, c.members, c.deciding, c.undecided = nil, nil, nil, nil // what it had under way, another reign takes up from the log
		}
	case coordinator.JoinerEvent:
		c.toJoiner(ev)
	default:
		c.notef("event %T has no machine", ev)
	}
}

func (c *Core) tick() {
	c.toCatchup(catchup.Tick{})
	c.toJoiner(coordinator.Tick{})
	c.toWorker(round.Tick{})
	c.toCoordinator(coordinator.Tick{})
	c.toLeader(round.Tick{})
}

// logged moves everything that follows the log. The coordinator comes before
// the Leader, so that the members are known when a commit opens the next round.
func (c *Core) logged(ev Logged) {
	c.log.height = ev.Height
	switch b := ev.Body.(type) {
	case *wire.Commit:
		c.log.heads[b.Fragment] = wire.FragmentHead{Version: b.Base + 1, State: b.State}
		c.log.commit = ev.Height
		c.committed(b, ev.Table)
	case *wire.Settings:
		c.log.settings, c.log.hash = *b, b.Hash()
	case *wire.Member:
		if b.Op != wire.MemberAdmit {
			c.history.Ended(b.Slot)
		}
	case *wire.Lease, *wire.Attempt, *wire.Checkpoint:
	}
	c.toCoordinator(coordinator.Logged(ev))
	if b, ok := ev.Body.(*wire.Commit); ok {
		c.decided(b)
	}
	c.toLeader(round.Logged(ev))
	c.toCatchup(catchup.Logged(ev))
	c.toWorker(round.Logged(ev))
	c.toJoiner(coordinator.Logged(ev))
}

// committed keeps the history that a coordinator's next term starts from.
func (c *Core) committed(b *wire.Commit, encoded []byte) {
	if c.lead == nil {
		return
	}
	if encoded == nil {
		c.history.Untold(int(b.Fragment))
		return
	}
	var table wire.CommitTable
	if err := wire.Decode(encoded, &table); err != nil {
		c.notef("table of a commit: %v", err)
		return
	}
	c.history.Committed(b, &table)
}

func (c *Core) peerUp(p wire.PeerID) {
	c.toCoordinator(coordinator.Connected{Peer: p})
	c.toCatchup(catchup.PeerUp{Peer: p})
	if c.owner != nil {
		c.toOwner(round.PeerUp{Peer: p})
	}
	if p != c.reigns {
		return
	}
	c.toJoiner(coordinator.Reached{})
	c.toCatchup(catchup.Reconnected{})
}

func (c *Core) leads(ev Leads) {
	c.toJoiner(coordinator.Lost{Reason: "the reign of " + ev.Peer.Short() + " has begun"})
	c.reigns = ev.Peer
	c.toCatchup(catchup.Leads{Peer: ev.Peer})
	if ev.Up {
		c.toJoiner(coordinator.Reached{})
		c.toCatchup(catchup.Reconnected{})
	}
}

func (c *Core) peerDown(ev PeerDown) {
	c.toCoordinator(coordinator.Disconnected(ev))
	c.toCatchup(catchup.PeerDown{Peer: ev.Peer})
	if c.owner != nil {
		c.toOwner(round.PeerDown{Peer: ev.Peer})
	}
	if ev.Peer == c.reigns {
		c.toJoiner(coordinator.Lost{Reason: ev.Reason})
	}
}

// message gives a control message to whom it is for. What only a coordinator
// may say counts only from the coordinator.
func (c *Core) message(from wire.PeerID, m wire.Message) {
	switch m := m.(type) {
	case *wire.Welcome, *wire.Refuse, *wire.Reassign, *wire.Results, *wire.Move:
		if from != c.reigns {
			c.notef("%T from %s, who is not the coordinator, is dropped", m, from.Short())
			return
		}
		c.ordered(from, m)
	case *wire.Heartbeat:
		if c.balance != nil {
			c.balance.heard(from, m)
		}
		c.toCoordinator(coordinator.HeartbeatFrom{Peer: from, Heartbeat: *m})
	case *wire.SignedReady:
		c.ready(from, m)
	case *wire.SlabDone:
		c.toLeader(round.SlabDoneFrom{Peer: from, Done: *m})
	case *wire.SlabFailed:
		c.toLeader(round.SlabFailedFrom{Peer: from, Failed: *m})
	case *wire.Have:
		c.toLeader(round.HaveFrom{Peer: from, Have: *m})
	case *wire.LeaseRequest:
		c.toCoordinator(coordinator.LeaseAsked{Peer: from, Request: *m})
	case *wire.Leave:
		c.toCoordinator(coordinator.LeaveFrom{Peer: from, Leave: *m})
	case *wire.Hello, *wire.Entries, *wire.GetEntries, *wire.Signatures, *wire.Leads, *wire.Change:
		c.notef("%T needs the ledger and belongs to the driver", m)
	}
}

func (c *Core) ordered(from wire.PeerID, m wire.Message) {
	switch m := m.(type) {
	case *wire.Welcome:
		c.toCatchup(catchup.HeadHint{Peer: from, Height: m.Head})
		c.toJoiner(coordinator.Welcomed{Welcome: *m})
		c.toWorker(round.Reconnected{})
	case *wire.Refuse:
		c.toJoiner(coordinator.Refused{Refuse: *m})
	case *wire.Reassign:
		if c.owner != nil {
			c.toOwner(round.Reassigned{Message: *m})
		}
	case *wire.Move:
		if c.join != nil && int(m.Stage) != c.cfg.Stage && int(m.Stage) < c.cfg.Spec.StageCount() {
			c.emit(MoveTo{Stage: int(m.Stage), Reason: m.Reason})
			c.toJoiner(coordinator.Drained{Reason: "it moves, " + m.Reason})
		}
	case *wire.Results:
		c.toCatchup(catchup.ResultsFrom{Peer: from, Results: *m})
	default: // message gives only these
	}
}

// ready takes a worker's Ready when its signature and its windows hold.
func (c *Core) ready(from wire.PeerID, m *wire.SignedReady) {
	if c.leader == nil {
		return
	}
	err := m.Verify(c.cfg.Run, from)
	if err == nil {
		err = c.lead.CheckReady(&m.Ready)
	}
	if err == nil {
		c.toLeader(round.ReadyFrom{Peer: from, Ready: *m})
		return
	}
	c.notef("ready from %s refused: %v", from.Short(), err)
	if r := &m.Ready; c.holds(from, r.Slot) && r.Fragment < uint64(len(c.log.heads)) && r.Base == c.log.heads[r.Fragment].Version {
		// It would say so again for ever, and no commit would decide it: the worker starts over in a new slot.
		c.send(&wire.Refuse{Code: wire.RefuseSlot, Reason: "its contribution cannot count: " + err.Error()}, from)
	}
}

// holds reports whether a slot is a peer's, by what this coordinator knows.
func (c *Core) holds(peer wire.PeerID, slot wire.Slot) bool {
	return slices.ContainsFunc(c.members, func(w round.Worker) bool { return w.Slot == slot && w.Peer == peer })
}

func (c *Core) appendFailed(ev AppendFailed) {
	c.toCoordinator(coordinator.AppendFailed(ev))
	failed := round.AppendFailed{Kind: ev.Body.Kind(), Reason: ev.Reason}
	switch b := ev.Body.(type) {
	case *wire.Attempt:
		failed.Fragment, failed.Attempt = b.Fragment, b.ID
	case *wire.Commit:
		failed.Fragment, failed.Attempt = b.Fragment, b.Attempt
		defer c.decided(b)
	case *wire.Member, *wire.Lease, *wire.Settings, *wire.Checkpoint:
		return
	}
	c.toLeader(failed)
}
