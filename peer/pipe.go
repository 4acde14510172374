package peer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"dunlin/engine"
	"dunlin/peer/contact"
	"dunlin/peer/figures"
	"dunlin/peer/mailbox"
	"dunlin/pipeline"
	"dunlin/recipe"
	"dunlin/wire"
)

// pipe drives a worker's part in a pipeline: the server of its stage and, at the first
// stage, a trainer. One goroutine, run's, owns everything here; what is computed is
// computed by the worker's.
type pipe struct {
	spec      *wire.RunSpec
	self      wire.PeerID
	stage     int
	seed      uint64
	transport Transport
	report    func(any) // to the peer's loop
	inbox     *mailbox.Mailbox[any]
	network   chan passed     // from the transport; bounded, so that a flood waits
	ctx       context.Context //nolint:containedctx // run's
	dials     sync.WaitGroup
	worker    *worker // nil until the engine is there

	server    *pipeline.Server
	trainer   *trainer // nil where there is none
	serving   bool
	calls     map[wire.StageKey]*wire.Cargo     // taken in and not yet dropped
	answers   map[wire.StageKey][]byte          // computed and not yet sent
	windows   map[pipeline.MicroID][]wire.Range // counted and not yet stepped on
	losses    []float32                         // of those, at the last stage
	listed    map[wire.Slot]listed              // who serves what, by the log
	slot      wire.Slot                         // of this peer
	version   uint64                            // of its weights
	stepping  bool                              // they are on their way to the next
	reduction reduction                         // where all step together
	up        map[wire.PeerID]bool              // sessions
	seq       uint64                            // of announcements
	events    []pending                         // not yet stepped
}

// pending is an event on its way to one or both machines.
type pending struct {
	event           pipeline.Event
	server, trainer bool
}

// What the transport and this peer's goroutines tell a pipe.
type (
	passed struct {
		from    wire.PeerID
		message wire.StageMessage
		cargo   []byte
	}
	// listed and unlisted follow the membership log.
	listed struct {
		slot  wire.Slot
		peer  wire.PeerID
		stage int
		addrs []string
	}
	unlisted struct{ slot wire.Slot }
	// served says that the worker's weights are there; with a slot that is new to a
	// trainer, that begins anew.
	served struct{ slot wire.Slot }
	// unserved says that nothing is to be computed for a while.
	unserved struct{}
	// equipped hands over the worker and, at the first stage, the text.
	equipped struct {
		worker *worker
		text   *textWindows
	}
	// What the worker did, in the order that it was asked for.
	passComputed struct {
		key    wire.StageKey
		answer []byte
		loss   float32
		took   time.Duration
		err    error
	}
	gradientAdded struct {
		key wire.StageKey
		err error
	}
	stageStepped struct{ version uint64 }
	sumTaken     struct {
		close *wire.StageClose
		sum   []byte
	}
	sumsReduced struct {
		close  *wire.StageClose
		normSq float64
		err    error
	}
)

// Room of a stage's server and trainer.
const (
	serverQueue = 64 // calls that wait
	callsAtOnce = 2  // of a trainer at one peer
)

func newPipe(spec *wire.RunSpec, self wire.PeerID, stage int, seed uint64, report func(any)) (*pipe, error) {
	p := &pipe{
		spec: spec, self: self, stage: stage, seed: seed, report: report, inbox: mailbox.New[any](), network: make(chan passed, 64),
		calls: map[wire.StageKey]*wire.Cargo{}, answers: map[wire.StageKey][]byte{}, windows: map[pipeline.MicroID][]wire.Range{},
		listed: map[wire.Slot]listed{}, up: map[wire.PeerID]bool{},
	}
	var err error
	p.server, err = pipeline.NewServer(pipeline.ServerConfig{
		Stage: stage, Stages: spec.StageCount(), Mode: modeOf(spec), Queue: serverQueue, Held: engine.HeldGradients(int(recipe.StageSize(spec, stage))),
		Batch: int(spec.Data.Batch / spec.Micro), Limits: pipeline.DefaultLimits(),
	})
	return p, err
}

func modeOf(spec *wire.RunSpec) pipeline.Mode {
	if spec.Synchronous {
		return pipeline.Synchronous
	}
	return pipeline.LocalSteps
}

// run drives both machines until the context ends.
func (p *pipe) run(ctx context.Context) {
	defer p.dials.Wait()
	p.ctx = ctx
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	told := time.Now()
	for {
		arm(timer, p.deadline())
		select {
		case <-ctx.Done():
			return
		case m := <-p.network:
			p.take(m)
		case <-p.inbox.Ready:
			for _, ev := range p.inbox.Take() {
				p.handle(ev)
				p.step()
			}
		case <-timer.C:
			p.both(pipeline.Tick{})
		}
		p.step()
		if time.Since(told) >= publishEvery {
			told = time.Now()
			p.tellFlow()
		}
	}
}

// tellFlow tells how calls and micro-batches fare.
func (p *pipe) tellFlow() {
	view := p.server.Snapshot()
	f := figures.Flow{Wait: time.Duration(view.Wait * float64(time.Second)), Pass: time.Duration(view.Seconds * float64(time.Second))}
	if p.trainer != nil && p.trainer.machine != nil {
		f.Totals = p.trainer.machine.Snapshot().Totals
	}
	p.report(f)
}

func (p *pipe) deadline() time.Time {
	next := p.server.Deadline()
	if p.trainer != nil && p.trainer.machine != nil {
		if t := p.trainer.machine.Deadline(); next.IsZero() || !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
}

func (p *pipe) both(ev pipeline.Event)     { p.events = append(p.events, pending{ev, true, true}) }
func (p *pipe) toServer(ev pipeline.Event) { p.events = append(p.events, pending{ev, true, false}) }

func (p *pipe) toTrainer(ev pipeline.Event) { p.events = append(p.events, pending{ev, false, true}) }

// step steps the machines until nothing is left to do now.
func (p *pipe) step() {
	for len(p.events) > 0 {
		ev := p.events[0]
		p.events = p.events[1:]
		if ev.server {
			for _, e := range p.server.Step(time.Now(), ev.event) {
				p.do(e)
			}
		}
		if ev.trainer && p.trainer != nil && p.trainer.machine != nil {
			for _, e := range p.trainer.machine.Step(time.Now(), ev.event) {
				p.do(e)
			}
		}
	}
}

// handle takes in one report.
func (p *pipe) handle(ev any) {
	switch ev := ev.(type) {
	case sessionUp:
		p.up[ev.peer] = true
		p.announce(ev.peer)
	case sessionDown:
		delete(p.up, ev.peer)
		p.reduceWithout(ev.peer)
		p.both(pipeline.PeerDown{Peer: ev.peer})
	case listed:
		p.listed[ev.slot] = ev
		p.announce(ev.peer)
		if p.spec.Synchronous && ev.stage == p.stage && ev.peer != p.self && !p.up[ev.peer] && len(ev.addrs) > 0 {
			p.dial(ev) // the members of a stage exchange sums
		}
	case unlisted:
		gone := p.listed[ev.slot]
		delete(p.listed, ev.slot)
		p.seq++
		p.toTrainer(pipeline.Announced{Peer: gone.peer, Stage: gone.stage, State: pipeline.Leaving, Seq: p.seq})
		p.announce(gone.peer) // it may have a slot again
		p.succeed()
	case equipped:
		p.worker = ev.worker
		if ev.text != nil {
			p.trainer = &trainer{text: *ev.text, micros: map[uint64]*microBatch{}}
		}
	case served:
		p.serve(ev.slot)
	case unserved:
		p.serving = false
	case grant:
		if p.trainer == nil {
			return
		}
		p.trainer.leases = append(p.trainer.leases, ev.ranges...)
		p.reportLeases()
	case passComputed:
		p.computed(ev)
	case gradientAdded:
		p.added(ev)
	case sumTaken:
		p.exchange(ev)
	case sumsReduced:
		p.reduced(ev)
	case stageStepped:
		p.version, p.stepping = ev.version, false
		p.toServer(pipeline.Stepped{Version: ev.version})
	}
}

// announce tells the trainer of a peer that the log has in a stage and that can be
// reached.
func (p *pipe) announce(id wire.PeerID) {
	if p.trainer == nil || p.trainer.machine == nil {
		return
	}
	var newest listed
	for slot, l := range p.listed {
		if l.peer == id && slot > newest.slot {
			newest = l
		}
	}
	switch {
	case newest.slot == 0:
	case p.up[id] || id == p.self:
		p.seq++
		p.toTrainer(pipeline.Announced{Peer: id, Stage: newest.stage, State: pipeline.Online, Seq: p.seq})
	case len(newest.addrs) > 0:
		p.dial(newest)
	}
}

// dial has the transport keep a connection up until the log says that the slot ended.
func (p *pipe) dial(l listed) {
	p.dials.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, contact.ReachWithin)
		defer cancel()
		if err := p.transport.Connect(ctx, l.peer, l.addrs); err != nil {
			p.report(remark{fmt.Sprintf("stage %d: %s is not reached yet: %v", l.stage, l.peer.Short(), err)})
		}
	})
}

// serve begins or goes on.
func (p *pipe) serve(slot wire.Slot) {
	p.serving, p.slot = true, slot
	p.toServer(pipeline.Moved{Version: p.version})
	p.succeed()
}

// succeed begins a trainer under this peer's slot, if there is to be one: at every peer
// of the first stage, or, where all step together, at the one with the least slot.
func (p *pipe) succeed() {
	slot := p.slot
	if p.trainer == nil || !p.serving || p.trainer.slot == slot {
		return
	}
	for _, l := range p.listed {
		if p.spec.Synchronous && l.stage == 0 && l.slot < slot {
			return
		}
	}
	if err := p.trainer.begin(p, slot); err != nil {
		p.report(mailbox.Complaint{Text: "no trainer: " + err.Error()})
		p.trainer = nil
		return
	}
	told := map[wire.PeerID]bool{}
	for _, l := range p.listed {
		if !told[l.peer] {
			told[l.peer] = true
			p.announce(l.peer)
		}
	}
	p.reportLeases()
}

// take gives a message to the machine that it is for.
func (p *pipe) take(m passed) {
	switch msg := m.message.(type) {
	case *wire.StageCall:
		p.catchUp(msg.Key.Step)
		if refusal := p.admit(m.from, msg, m.cargo); refusal != nil {
			p.send(m.from, refusal, nil)
			return
		}
		p.toServer(pipeline.From{Peer: m.from, Message: msg})
	case *wire.StageCancel, *wire.StageAccept, *wire.StageClose, *wire.StageApply, *wire.StageVoid:
		p.toServer(pipeline.From{Peer: m.from, Message: m.message})
	case *wire.StageSum:
		p.summed(m.from, msg, m.cargo)
	case *wire.StageAnswer:
		if p.trainer != nil && p.trainer.answered(msg, m.cargo, p.spec.StageCount()) {
			p.toTrainer(pipeline.From{Peer: m.from, Message: msg})
		}
	case *wire.StageRefusal, *wire.StageCounted, *wire.StageReduced, *wire.StageMissing, *wire.StageApplied:
		p.toTrainer(pipeline.From{Peer: m.from, Message: m.message})
	}
}

// admit keeps what a call brings, or says why it is not taken.
func (p *pipe) admit(from wire.PeerID, call *wire.StageCall, cargo []byte) *wire.StageRefusal {
	refuse := func(code wire.StageRefusalCode, reason string) *wire.StageRefusal {
		return &wire.StageRefusal{Key: call.Key, Code: code, Reason: reason[:min(len(reason), wire.MaxReason)]}
	}
	if !p.serving {
		return refuse(wire.StageBusy, "it does not train now")
	}
	if l, known := p.listed[call.Key.Trainer]; !known {
		return refuse(wire.StageBusy, "it has not heard of this trainer yet")
	} else if l.peer != from {
		return refuse(wire.StageInvalid, "the trainer's slot is another peer's")
	}
	c, err := wire.DecodeCargo(cargo)
	if err != nil {
		return refuse(wire.StageInvalid, err.Error())
	}
	p.calls[call.Key] = c
	return nil
}

// do carries out one effect of a machine.
func (p *pipe) do(effect pipeline.Effect) {
	switch e := effect.(type) {
	case pipeline.Send:
		p.sendEffect(e)
	case pipeline.Note:
		p.report(remark{e.Text})
	case pipeline.Draw:
		if err := p.trainer.draw(e.Micro, p.spec); err != nil {
			p.toTrainer(pipeline.NotDrawn{Micro: e.Micro, Reason: err.Error()})
			return
		}
		p.toTrainer(pipeline.Drawn{Micro: e.Micro})
		p.reportLeases()
	case pipeline.Release:
		delete(p.trainer.micros, e.Micro)
	case pipeline.Outage:
		p.report(remark{fmt.Sprintf("stage %d has no peer that can be reached for %s", e.Stage, e.For.Round(time.Second))})
	case pipeline.Compute:
		p.worker.orders.Put(passOrder{key: e.Key, backward: e.Backward, cargo: p.calls[e.Key]})
	case pipeline.Add:
		p.worker.orders.Put(addOrder{e.Key})
	case pipeline.Drop:
		delete(p.calls, e.Key)
		if p.worker != nil {
			p.worker.orders.Put(dropOrder{e.Key})
		}
	case pipeline.InnerStep:
		p.innerStep(e.Micros)
	case pipeline.Reduce:
		p.reduction = reduction{close: e.Close, sums: p.reduction.sums}
		p.worker.orders.Put(sumOrderOf{e.Close})
	case pipeline.ApplyStep:
		p.stepping = true
		o := p.taken(nil)
		o.sync, o.micros = &e, int(p.reduction.close.Total)
		p.worker.orders.Put(o)
	case pipeline.Clear:
		clear(p.windows)
		p.worker.orders.Put(clearOrder{})
	case pipeline.Decide: // the next rounds bring peers together that did not all hear of it
		p.toTrainer(pipeline.Decided{Step: e.Step, Try: e.Try, Edition: e.Edition})
	case pipeline.Drained, pipeline.StepDone:
	}
}

func (p *pipe) sendEffect(e pipeline.Send) {
	var cargo []byte
	switch m := e.Message.(type) {
	case *wire.StageCall:
		cargo = p.trainer.cargo(m)
		m.Bytes = uint64(len(cargo))
	case *wire.StageAnswer:
		cargo = p.answers[m.Key]
		delete(p.answers, m.Key)
		m.Bytes = uint64(len(cargo))
	case *wire.StageRefusal:
		delete(p.calls, m.Key)
	default: // nothing follows
	}
	p.send(e.To, e.Message, cargo)
}

// send passes a message on, to this peer directly.
func (p *pipe) send(to wire.PeerID, m wire.StageMessage, cargo []byte) {
	if to == p.self {
		p.take(passed{p.self, m, cargo})
		return
	}
	err := p.transport.Pass(to, wire.EncodePassed(m, cargo))
	if call, ok := m.(*wire.StageCall); ok && err != nil {
		p.toTrainer(pipeline.Failed{Key: call.Key, Reason: err.Error()})
	}
}

// computed answers a call.
func (p *pipe) computed(e passComputed) {
	if e.err != nil {
		p.toServer(pipeline.ComputeFailed{Key: e.key, Reason: e.err.Error()})
		return
	}
	p.answers[e.key] = e.answer
	if c := p.calls[e.key]; c != nil { // only the windows are needed from here on
		c.Input, c.Gradient = nil, nil
	}
	if p.stage == p.spec.StageCount()-1 {
		p.losses = append(p.losses, e.loss)
	}
	p.toServer(pipeline.Computed{Key: e.key, Took: e.took})
}

func (p *pipe) added(e gradientAdded) {
	if e.err != nil {
		p.report(mailbox.Complaint{Text: e.err.Error()})
	}
	if c := p.calls[e.key]; c != nil {
		p.windows[pipeline.MicroID{Trainer: e.key.Trainer, Micro: e.key.Micro}] = c.Windows
		delete(p.calls, e.key)
	}
	p.toServer(pipeline.Added{Key: e.key})
}

// innerStep has the worker step on what was counted.
func (p *pipe) innerStep(micros []pipeline.MicroID) { p.worker.orders.Put(p.taken(micros)) }

// taken takes what an inner step claims out of what was counted: the windows of these
// micro-batches, or of all.
func (p *pipe) taken(micros []pipeline.MicroID) (o stepOrder) {
	if micros == nil {
		micros = slices.SortedFunc(maps.Keys(p.windows), func(a, b pipeline.MicroID) int {
			return cmp.Or(cmp.Compare(a.Trainer, b.Trainer), cmp.Compare(a.Micro, b.Micro))
		})
	}
	for _, id := range micros {
		o.windows = append(o.windows, p.windows[id]...)
		delete(p.windows, id)
	}
	losses := p.losses
	if p.losses = nil; p.trainer != nil {
		losses = p.trainer.losses
		p.trainer.losses = nil
	}
	for _, l := range losses {
		o.loss += float64(l) / float64(len(losses))
	}
	return o
}

func (p *pipe) reportLeases() {
	p.report(leasesLeft{wire.Windows(p.trainer.leases)})
}

// What a pipe tells the peer's loop.
type (
	remark     struct{ text string }
	leasesLeft struct{ windows uint64 }
)
