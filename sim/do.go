package sim

import (
	"fmt"
	"time"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/peer/core"
	"dunlin/round"
	"dunlin/wire"
)

// do carries out one decision of the core.
func (p *process) do(effect core.Effect) {
	switch e := effect.(type) {
	case core.Send:
		for _, to := range e.To {
			p.tell(to, e.Message)
		}
	case core.Append:
		p.append(e)
	case core.SendReady:
		p.sendReady(e.Ready)
	case core.Note:
	case catchup.Effect:
		p.doCatchup(e)
	case round.Effect:
		p.doRound(e)
	case coordinator.JoinerEffect:
		p.doJoiner(e)
	case coordinator.Effect:
		p.doCoordinator(e)
	default:
		p.w.fail("%s: effect %T has no driver", p.h.name, e)
	}
}

// tell sends a message to another peer.
func (p *process) tell(to wire.PeerID, m wire.Message) {
	q := p.w.ids[to]
	if q == nil {
		return
	}
	p.w.referee.told(p, m)
	if p.w.hook != nil {
		p.w.hook(p, m)
	}
	p.w.net.send(p, q, wire.EncodeMessage(m))
}

// append writes an entry as the coordinator and spreads it.
func (p *process) append(e core.Append) {
	e = p.w.tamperAppend(e)
	if p.w.rng.Float64() < p.w.mess.unknown/3 { // it will reach the log late, or find it closed
		p.next(core.AppendFailed{Body: e.Body, Reason: "the outcome is unknown"})
		p.w.after(p.w.between(10*time.Millisecond, 12*time.Second), p, func() {
			p.write(e, true)
			p.drain()
		})
		return
	}
	p.write(e, false)
}

// write puts an entry on the log, unless a rule of the log forbids it.
func (p *process) write(e core.Append, late bool) {
	if e.Table != nil {
		if _, err := p.h.put(e.Table); err != nil {
			p.next(core.AppendFailed{Body: e.Body, Reason: err.Error()})
			return
		}
		_ = p.h.sync() // cannot fail where put did not
	}
	entry, err := p.chain.Next(p.term, e.Body)
	if late && p.w.has(BugAppendUnchecked) {
		entry, err = wire.NewEntry(p.w.run, p.chain.Height()+1, p.chain.Head(), p.term, e.Body), nil
	}
	if err != nil {
		p.next(core.AppendFailed{Body: e.Body, Reason: err.Error()})
		return
	}
	c := &wire.Certified{Entry: entry, Certs: []wire.Attestation{wire.Attest(&entry, 0, p.h.key)}}
	if p.w.has(BugHeardBeforeDurable) {
		p.spread(c, e.Table)
	}
	if err := p.take(c); err != nil {
		p.w.fail("entry %d is refused: %v", entry.Height, err)
		return
	}
	p.h.disk.entries = append(p.h.disk.entries, *c)
	if p.w.referee.appended(c, e.Table); p.w.err != nil {
		return
	}
	if p.w.hook != nil {
		p.w.hook(p, e.Body)
	}
	if p.point(); p.dead { // durable, and nobody heard
		return
	}
	if len(p.unheard) > 0 || p.w.rng.Float64() < p.w.mess.unknown {
		p.hold(c, e)
		return
	}
	p.spread(c, e.Table)
	p.logged(c, e.Table)
}

// hold tells the writer that the outcome is unknown; the entry comes later.
func (p *process) hold(c *wire.Certified, e core.Append) {
	p.unheard = append(p.unheard, unheard{c, e.Table})
	p.next(core.AppendFailed{Body: e.Body, Reason: "the outcome is unknown"})
	if len(p.unheard) > 1 {
		return
	}
	p.w.after(p.w.between(10*time.Millisecond, 3*time.Second), p, func() {
		list := p.unheard
		p.unheard = nil
		for _, u := range list {
			p.spread(u.entry, u.table)
			p.logged(u.entry, u.table)
		}
		p.drain()
	})
}

func (p *process) spread(c *wire.Certified, table []byte) {
	for i, s := range p.sessions {
		if s != nil && !s.over {
			p.tell(p.w.hosts[i].id, &wire.Entries{Items: []wire.Item{{Certified: *c, Table: table}}, Head: c.Entry.Height})
		}
	}
}

func (p *process) sendReady(r wire.Ready) {
	r = p.w.tamperReady(r)
	signed := &wire.SignedReady{Ready: r, Sig: wire.Sign(p.h.key, wire.ReadyKind(p.w.run), wire.Encode(&r))}
	if p.h.index == 0 {
		p.next(core.Message{From: p.h.id, Message: signed})
		return
	}
	p.tell(p.w.hosts[0].id, signed)
}

func (p *process) doCatchup(effect catchup.Effect) {
	switch e := effect.(type) {
	case catchup.Fetch:
		p.fetch(e)
	case catchup.Prepare, catchup.Promote, catchup.Apply, catchup.DropShadow, catchup.SaveCheckpoint, catchup.LoadCheckpoint:
		p.keeper.do(p, p.w.between(2*time.Millisecond, 30*time.Millisecond), func() { p.obey(e) })
	case catchup.Advanced:
		p.keep(e)
	case catchup.Jumped:
		p.life.height = max(p.life.height, e.At)
		p.restart = true
	case catchup.Reread:
		for _, c := range p.h.disk.entries[min(int(e.From)-1, len(p.h.disk.entries)):] {
			body, _ := c.Entry.Body() // it was read before
			p.next(catchup.Logged{Height: c.Entry.Height, Term: c.Entry.Term, Body: body})
		}
	case catchup.Holds:
		p.life.holds = e.At
	case catchup.Repair:
		p.restart = true
		p.w.referee.repaired(p, e.Reason)
	case catchup.Follow: // every simulated peer holds every fragment
	case catchup.GetEntries, catchup.SendHave, catchup.CaughtUp, catchup.Note: // the core's
	}
}

func (p *process) doRound(effect round.Effect) {
	switch e := effect.(type) {
	case round.FetchSlab:
		p.fetchSlab(e)
	case round.SumSlab:
		p.codecs.do(p, p.w.between(time.Millisecond, 10*time.Millisecond), func() { p.sum(e) })
	case round.Settle:
		p.codecs.do(p, 0, func() { p.owner.Settle(e.Fragment, e.Base, e.Table) })
	case round.DropSlabs:
		for _, r := range e.Roots {
			delete(p.fetched, r)
		}
	case round.TakeSnapshot:
		if p.trainer != nil {
			p.trainer.order(takeSnapshot{e.Fragment})
		}
	case round.Merge:
		p.merge(e)
	case round.Rejoin:
		p.restart = true
	case round.Append, round.ProposeCommit, round.Send, round.Report, round.SendReady, round.Note: // the core's
	}
}

// merge gives the newest commit of a fragment to the inner loop.
func (p *process) merge(e round.Merge) {
	c, ok := p.weights[e.Fragment]
	if !ok || c.version < e.Version || p.trainer == nil {
		p.w.fail("%s: merge of fragment %d version %d: its weights are not here", p.h.name, e.Fragment, e.Version)
		return
	}
	order := takeCommit{fragment: e.Fragment, asked: e.Version, version: c.version, weights: c.weights}
	if e.Contributed {
		included := e.Included
		order.included = func(slab int) bool { return slab < len(included) && included[slab] }
	}
	p.trainer.order(p.w.tamperMerge(order))
}

func (p *process) doCoordinator(effect coordinator.Effect) {
	switch e := effect.(type) {
	case coordinator.Adopt:
		p.tell(e.From, &wire.GetEntries{From: p.chain.Height() + 1, Max: wire.MaxItems})
	case coordinator.RaiseTerm:
		term := max(p.h.disk.term, p.chain.Term(), e.Term-1) + 1
		if p.term = term; !p.w.has(BugTermNotDurable) {
			p.h.disk.term = term
		}
		p.w.referee.leads(p, term)
		p.next(coordinator.TermRaised{Term: term})
	case coordinator.Collect:
		p.h.collect(e.Below)
	case coordinator.Halt:
		p.w.fail("the coordinator halts: %s", e.Reason)
	case coordinator.Offer: // simulated runs have no stages
	case coordinator.Append, coordinator.Send, coordinator.Members, coordinator.Lead, coordinator.Note: // the core's
	}
}

func (p *process) doJoiner(effect coordinator.JoinerEffect) {
	switch e := effect.(type) {
	case coordinator.Dial:
		p.dial()
	case coordinator.SendHello:
		p.hello(e.Slot)
	case coordinator.TakeSlot:
		p.slot, p.begun, p.granted, p.had = e.Slot, false, nil, map[wire.Range]bool{}
	case coordinator.SetState:
		if e.State != p.life.state {
			p.life.since = p.w.now
		}
		p.life.state, p.life.reason = e.State, e.Reason
	case coordinator.StartSync:
		if !p.loading {
			p.loading = true
			p.w.after(p.w.between(10*time.Millisecond, time.Second), p, func() {
				p.trainer = newTrainer(p)
				p.hear(core.DataReady{})
			})
		}
	case coordinator.StartTraining:
		p.startTraining()
	case coordinator.StopTraining:
		if p.trainer != nil {
			p.trainer.order(halt{})
		}
	case coordinator.SendHeartbeat:
		p.heartbeat(e)
	case coordinator.Finished:
		p.finished = &e
		p.w.referee.finished(p, e)
		if p.h.index != 0 {
			p.w.after(0, p, p.h.exit)
		}
	case coordinator.RequestLease, coordinator.SendLeave, coordinator.HandOver, coordinator.Note: // the core's
	}
}

func (p *process) startTraining() {
	if p.begun && !p.restart {
		p.trainer.order(resume{})
		return
	}
	if !p.asked {
		p.asked = true
		p.keeper.do(p, time.Millisecond, func() {
			var versions []uint64
			var weights [][]float32
			for f := range p.replica.Fragments() {
				v, w := p.replica.Weights(f)
				versions, weights = append(versions, v), append(weights, w)
			}
			p.report(func() { p.start(versions, weights) })
		})
	}
}

// start begins inner steps from committed weights.
func (p *process) start(versions []uint64, weights [][]float32) {
	p.asked = false
	if p.trainer == nil || p.slot == 0 {
		return
	}
	fresh := !p.begun
	p.begun, p.restart, p.life.warming = true, false, 0
	p.trainer.order(begin{p.slot, fresh, versions, weights, p.granted})
	p.granted = nil
	if p.w.has(BugAssignedEarly) {
		p.started(p.slot, fresh, versions)
	}
}

// started tells the round that inner steps begin, behind the last step of before.
func (p *process) started(slot wire.Slot, fresh bool, versions []uint64) {
	if !fresh {
		p.next(round.Resumed{Versions: versions})
		return
	}
	p.life.step, p.life.tokens = 0, 0
	p.next(round.Assigned{Slot: slot, Versions: versions})
}

func (p *process) dial() {
	if s := p.sessions[0]; p.h.index == 0 || (s != nil && !s.over) {
		p.next(coordinator.Reached{})
		return
	}
	p.w.net.dial(p, p.w.hosts[0], func(err error) {
		if err != nil {
			p.hear(coordinator.Lost{Reason: err.Error()})
		}
	})
}

func (p *process) hello(slot wire.Slot) {
	h := &wire.Hello{
		Protocol: wire.Protocol, Version: "sim", Run: p.w.run, Role: wire.RoleWorker, Slot: slot, Head: p.chain.Height(), HeadHash: p.chain.Head(),
		Addrs: []string{p.h.name}, Name: p.h.name, StepTime: p.life.stepTime, HeadTerm: p.chain.Term(),
	}
	if p.h.index == 0 {
		p.next(coordinator.HelloFrom{Peer: p.h.id, Hello: *h})
		return
	}
	p.tell(p.w.hosts[0].id, h)
}

func (p *process) heartbeat(e coordinator.SendHeartbeat) {
	h := &wire.Heartbeat{
		Slot: e.Slot, State: e.State, Reason: e.Reason, Height: p.life.height, Step: p.life.step, Tokens: p.life.tokens,
		StepTime: p.life.stepTime, Holds: p.life.holds,
	}
	if p.h.index == 0 {
		p.next(coordinator.HeartbeatFrom{Peer: p.h.id, Heartbeat: *h})
		return
	}
	p.tell(p.w.hosts[0].id, h)
}

// String says where a process stands, for people who look into a seed.
func (p *process) String() string {
	return fmt.Sprintf("%s: slot %d, %s since %v (%s), height %d, applied %d", p.h.name, p.slot, p.life.state, p.life.since, p.life.reason, p.chain.Height(), p.life.height)
}
