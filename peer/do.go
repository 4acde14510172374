package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dunlin/catchup"
	"dunlin/contribution"
	"dunlin/coordinator"
	"dunlin/peer/contact"
	"dunlin/peer/core"
	"dunlin/peer/keeper"
	"dunlin/peer/slabs"
	"dunlin/peer/stage"
	"dunlin/peer/worker"
	"dunlin/round"
	"dunlin/wire"
)

// do carries out one decision of the core.
func (p *Peer) do(ctx context.Context, effect core.Effect) {
	switch e := effect.(type) {
	case core.Send:
		p.figures.Own.Told(e.Message, time.Now())
		message := wire.EncodeMessage(e.Message)
		for _, to := range e.To {
			p.send(to, message)
		}
	case core.Append:
		p.reign.Append(e)
	case core.SendReady:
		p.sendReady(e.Ready)
	case core.Moved:
		p.figures.Moved(e)
		p.log.Info("move", "peer", e.Peer.Short(), "from", e.From, "to", e.To, "reason", e.Reason)
	case core.MoveTo:
		p.moving = &MoveError{Stage: e.Stage, Reason: e.Reason}
	case core.Note:
		p.note(e.Text)
	case catchup.Effect:
		p.doCatchup(e)
	case round.Effect:
		p.doRound(e)
	case coordinator.JoinerEffect:
		p.doJoiner(ctx, e)
	case coordinator.Effect:
		p.doCoordinator(e)
	default:
		p.note(fmt.Sprintf("effect %T has no driver", e))
	}
}

func (p *Peer) next(ev core.Event) { p.pending = append(p.pending, ev) }

// send gives a message to the transport. A peer that is gone shows as PeerDown;
// what it missed is sent again after it is back.
func (p *Peer) send(to wire.PeerID, message []byte) {
	if err := p.transport.Send(to, message); err != nil && p.peers[to] {
		p.log.Debug("message not sent", "peer", to.Short(), "err", err)
	}
}

func (p *Peer) tell(to wire.PeerID, m wire.Message) { p.send(to, wire.EncodeMessage(m)) }

func (p *Peer) sendReady(r wire.Ready) {
	signed := &wire.SignedReady{Ready: r, Sig: wire.Sign(p.cfg.Key, wire.ReadyKind(p.cfg.Run), wire.Encode(&r))}
	p.figures.Own.Told(signed, time.Now())
	if p.reign.Lead() == p.self {
		p.next(core.Message{From: p.self, Message: signed})
		return
	}
	p.tell(p.reign.Lead(), signed)
}

func (p *Peer) doCatchup(effect catchup.Effect) {
	switch e := effect.(type) {
	case catchup.Fetch:
		p.fetch(e)
	case catchup.Prepare, catchup.Promote, catchup.Apply, catchup.DropShadow, catchup.SaveCheckpoint, catchup.LoadCheckpoint:
		p.keeper.Orders.Put(e)
	case catchup.Advanced:
		p.advanced(e)
	case catchup.Follow:
		p.keeper.Orders.Put(e)
		p.life.Height = max(p.life.Height, e.Height)
	case catchup.Jumped:
		p.life.Height = max(p.life.Height, e.At)
		p.restarts++
	case catchup.Reread:
		p.reread(e.From)
	case catchup.Holds:
		p.life.Holds = e.At
		p.remember()
	case catchup.Repair:
		p.figures.Diverged++
		p.restarts++
		p.log.Error("this peer's state differs from the run's; repairing it by replay", "reason", e.Reason)
		p.note("repairing the replica: " + e.Reason)
	case catchup.CaughtUp:
		p.figures.CaughtUp()
		select {
		case p.caughtUp <- p.figures.Commits > 0:
		default: // it is known
		}
	case catchup.GetEntries, catchup.SendHave, catchup.Note: // the core's
	}
}

// reread feeds entries to the catch-up alone.
func (p *Peer) reread(from uint64) {
	for {
		entries, err := p.ledger.Range(from, wire.MaxItems)
		if err != nil {
			p.failure = err
			return
		}
		if len(entries) == 0 {
			return
		}
		for i := range entries {
			e := &entries[i].Entry
			body, err := e.Body()
			if err != nil {
				p.failure = err
				return
			}
			p.next(catchup.Logged{Height: e.Height, Term: e.Term, Body: body})
		}
		from += uint64(len(entries))
	}
}

func (p *Peer) doRound(effect round.Effect) {
	switch e := effect.(type) {
	case round.FetchSlab:
		p.fetchSlab(e)
	case round.SumSlab:
		p.codecs.Orders.Put(p.sumOrder(e))
	case round.Settle:
		p.codecs.Orders.Put(slabs.SettleOrder{Fragment: e.Fragment, Base: e.Base, Table: e.Table})
	case round.DropSlabs:
		p.slabs.Drop(e.Roots)
	case round.TakeSnapshot:
		if p.worker != nil {
			p.worker.Orders.Put(worker.TakeSnapshot{Fragment: int(e.Fragment)})
		}
	case round.Merge:
		p.merge(e)
	case round.Rejoin:
		p.restarts++
	case round.Append, round.ProposeCommit, round.Send, round.Report, round.SendReady, round.Note: // the core's
	}
}

// merge gives the newest commit of a fragment to the inner loop.
func (p *Peer) merge(e round.Merge) {
	w, ok := p.weights[int(e.Fragment)]
	if !ok || w.Version < e.Version || p.worker == nil {
		p.note(fmt.Sprintf("merge of fragment %d version %d: its weights are not here", e.Fragment, e.Version))
		return
	}
	order := worker.TakeCommit{
		Fragment: int(e.Fragment), Asked: e.Version, Commit: contribution.Commit{Version: w.Version, Weights: w.Weights},
		Tokens: w.Tokens, Members: w.Members,
	}
	if e.Contributed {
		included := e.Included
		p.figures.Own.Merging(e.Fragment, e.Version, included)
		order.Commit.Included = func(slab int) bool { return slab < len(included) && included[slab] }
	}
	p.worker.Orders.Put(order)
}

func (p *Peer) doCoordinator(effect coordinator.Effect) {
	switch e := effect.(type) {
	case coordinator.Adopt:
		p.tell(e.From, &wire.GetEntries{From: p.ledger.Height() + 1, Max: wire.MaxItems})
	case coordinator.RaiseTerm:
		p.reign.RaiseTerm(e.Term)
	case coordinator.Collect:
		p.collect(e.Below)
	case coordinator.Offer:
		for _, answer := range p.asking[e.Peer] {
			answer <- &wire.Offer{Stage: uint64(e.Stage), Reason: e.Reason}
		}
		delete(p.asking, e.Peer)
	case coordinator.Halt:
		p.failure = errors.New(e.Reason)
	case coordinator.Append, coordinator.Send, coordinator.Members, coordinator.Lead, coordinator.Note: // the core's
	}
}

func (p *Peer) doJoiner(ctx context.Context, effect coordinator.JoinerEffect) {
	switch e := effect.(type) {
	case coordinator.Dial:
		p.dial(ctx)
	case coordinator.SendHello:
		p.hello(e.Slot)
	case coordinator.TakeSlot:
		p.slot, p.begun, p.granted = e.Slot, false, nil
		p.restarts++
	case coordinator.SetState:
		p.life.State, p.life.Reason = e.State, e.Reason
		if e.State == wire.StateDraining {
			p.toPipe(stage.Leaves{})
		}
		p.log.Info("state", "is", e.State.String(), "reason", e.Reason)
	case coordinator.StartSync:
		p.loadData(ctx)
	case coordinator.StartTraining:
		p.startTraining()
	case coordinator.StopTraining:
		p.wanted = false
		if p.worker != nil {
			p.worker.Orders.Put(worker.Halt{})
			p.remember()
		}
		p.toPipe(stage.Unserved{})
		p.life.Halted = e.Reason
	case coordinator.SendHeartbeat:
		p.heartbeat(e)
	case coordinator.Finished:
		p.finished = &e
	case coordinator.RequestLease, coordinator.SendLeave, coordinator.HandOver, coordinator.Note: // the core's
	}
}

// remember has the worker keep what a restart goes on from.
func (p *Peer) remember() {
	if p.worker != nil {
		p.worker.Orders.Put(worker.Remember{})
	}
}

// startTraining begins the slot's inner steps from committed weights, or goes
// on where they were halted.
func (p *Peer) startTraining() {
	p.wanted = true
	if p.begun && p.taken == p.restarts {
		p.worker.Orders.Put(worker.Resume{})
		if p.pipe != nil {
			p.pipe.Inbox.Put(stage.Served{Slot: p.slot})
		}
		return
	}
	if p.asked != p.restarts {
		p.asked = p.restarts
		p.keeper.Orders.Put(keeper.WeightsAsked{Restart: p.restarts})
	}
}

func (p *Peer) dial(ctx context.Context) {
	lead := p.reign.Lead()
	if lead == p.self || p.peers[lead] {
		p.next(coordinator.Reached{})
		return
	}
	told := p.addrs[lead]
	p.wg.Go(func() {
		if err := contact.Reach(ctx, p.transport, p.book, p.self, lead, told); err != nil {
			p.inbox.Put(coordinator.Lost{Reason: err.Error()})
		}
	})
}

func (p *Peer) hello(slot wire.Slot) { p.helloTo(p.reign.Lead(), slot) }

func (p *Peer) helloTo(to wire.PeerID, slot wire.Slot) {
	height, head := p.ledger.Head()
	h := &wire.Hello{
		Protocol: wire.Protocol, Version: p.cfg.Version, Run: p.cfg.Run, Role: wire.RoleWorker, Slot: slot, Head: height, HeadHash: head,
		Addrs: firstAddrs(p.transport.Addrs()), Secret: p.cfg.Secret, Name: p.cfg.Name, StepTime: p.life.StepTime(), HeadTerm: p.terms, Stage: uint64(max(0, p.cfg.Stage)),
		Upload: p.cfg.Upload,
	}
	if to == p.self {
		p.next(coordinator.HelloFrom{Peer: p.self, Hello: *h})
		return
	}
	p.tell(to, h)
}

// firstAddrs is as many addresses as an entry holds.
func firstAddrs(addrs []string) []string { return addrs[:min(len(addrs), wire.MaxAddrs)] }
