package stage

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
	"dunlin/peer/worker"
	"dunlin/pipeline"
	"dunlin/recipe"
	"dunlin/wire"
)

// Pipe drives a worker's part in a pipeline: the server of its stage and, at the first
// stage, a trainer. One goroutine, run's, owns everything here; what is computed is
// computed by the worker's.
type Pipe struct {
	spec      *wire.RunSpec
	self      wire.PeerID
	stage     int
	seed      uint64
	transport Network
	report    func(any) // to the peer's loop
	Inbox     *mailbox.Mailbox[any]
	Network   chan Passed     // from the transport; bounded, so that a flood waits
	ctx       context.Context //nolint:containedctx // run's
	dials     sync.WaitGroup
	worker    *mailbox.Mailbox[any] // orders to the worker; nil until the engine is there

	server    *pipeline.Server
	trainer   *trainer // nil where there is none
	serving   bool
	leaves    bool
	calls     map[wire.StageKey]*wire.Cargo     // taken in and not yet dropped
	answers   map[wire.StageKey][]byte          // computed and not yet sent
	windows   map[pipeline.MicroID][]wire.Range // counted and not yet stepped on
	losses    []float32                         // of those, at the last stage
	listed    map[wire.Slot]Listed              // who serves what, by the log
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
	// Passed is a message between stages and what goes with it.
	Passed struct {
		From    wire.PeerID
		Message wire.StageMessage
		Cargo   []byte
	}
	// Listed says who serves what, by the membership log.
	Listed struct {
		Slot  wire.Slot
		Peer  wire.PeerID
		Stage int
		Addrs []string
	}
	// Unlisted says that a slot ended.
	Unlisted struct{ Slot wire.Slot }
	// Served says that the worker's weights are there; with a slot that is new to a
	// trainer, that begins anew.
	Served struct{ Slot wire.Slot }
	// Unserved says that nothing is to be computed for a while.
	Unserved struct{}
	// Leaves says that this peer leaves its stage.
	Leaves struct{}
	// Equipped says that the worker is there and hands over its orders and, at the first stage, the text.
	Equipped struct {
		Worker *mailbox.Mailbox[any]
		Text   *Text
	}
	// PeerUp and PeerDown are the begin and the end of a session.
	PeerUp   struct{ Peer wire.PeerID }
	PeerDown struct{ Peer wire.PeerID }
)

// Network is what a pipe needs of it.
type Network interface {
	// Connect dials a peer and keeps the connection up.
	Connect(ctx context.Context, id wire.PeerID, addrs []string) error
	// Pass queues one message between stages; it never blocks.
	Pass(to wire.PeerID, message []byte) error
}

const (
	// flowEvery is how often it tells how it fares.
	flowEvery = 500 * time.Millisecond
	// aliveEvery is how often its trainer hears whose sessions are up.
	aliveEvery = 10 * time.Second
)

// Room of a stage's server and trainer.
const (
	serverQueue = 64 // calls that wait
	callsAtOnce = 2  // of a trainer at one peer
)

// New makes the pipe of a stage; what it tells the peer goes to report.
func New(spec *wire.RunSpec, self wire.PeerID, stage int, seed uint64, report func(any)) (*Pipe, error) {
	p := &Pipe{
		spec: spec, self: self, stage: stage, seed: seed, report: report, Inbox: mailbox.New[any](), Network: make(chan Passed, 8),
		calls: map[wire.StageKey]*wire.Cargo{}, answers: map[wire.StageKey][]byte{}, windows: map[pipeline.MicroID][]wire.Range{},
		listed: map[wire.Slot]Listed{}, up: map[wire.PeerID]bool{},
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

// Run drives both machines until the context ends.
func (p *Pipe) Run(ctx context.Context, n Network) {
	defer p.dials.Wait()
	p.ctx, p.transport = ctx, n
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	told, alive := time.Now(), time.Now()
	for {
		next := alive.Add(aliveEvery)
		if d := p.deadline(); !d.IsZero() && d.Before(next) {
			next = d
		}
		mailbox.Arm(timer, next)
		select {
		case <-ctx.Done():
			return
		case m := <-p.Network:
			p.take(m)
		case <-p.Inbox.Ready:
			for _, ev := range p.Inbox.Take() {
				p.handle(ev)
				p.step()
			}
		case <-timer.C:
			p.both(pipeline.Tick{})
		}
		p.step()
		if time.Since(told) >= flowEvery {
			told = time.Now()
			p.tellFlow()
		}
		if time.Since(alive) >= aliveEvery {
			alive = time.Now()
			p.alive()
			p.step()
		}
	}
}

// tellFlow tells how calls and micro-batches fare.
func (p *Pipe) tellFlow() {
	view := p.server.Snapshot()
	f := figures.Flow{Wait: time.Duration(view.Wait * float64(time.Second)), Pass: time.Duration(view.Seconds * float64(time.Second))}
	if p.trainer != nil && p.trainer.machine != nil {
		f.Totals = p.trainer.machine.Snapshot().Totals
	}
	p.report(f)
}

func (p *Pipe) deadline() time.Time {
	next := p.server.Deadline()
	if p.trainer != nil && p.trainer.machine != nil {
		if t := p.trainer.machine.Deadline(); next.IsZero() || !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
}

func (p *Pipe) both(ev pipeline.Event)     { p.events = append(p.events, pending{ev, true, true}) }
func (p *Pipe) toServer(ev pipeline.Event) { p.events = append(p.events, pending{ev, true, false}) }

func (p *Pipe) toTrainer(ev pipeline.Event) { p.events = append(p.events, pending{ev, false, true}) }

// step steps the machines until nothing is left to do now.
func (p *Pipe) step() {
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
func (p *Pipe) handle(ev any) {
	switch ev := ev.(type) {
	case PeerUp:
		p.up[ev.Peer] = true
		p.announce(ev.Peer)
	case PeerDown:
		delete(p.up, ev.Peer)
		p.reduceWithout(ev.Peer)
		p.both(pipeline.PeerDown{Peer: ev.Peer})
	case Listed:
		p.listed[ev.Slot] = ev
		p.announce(ev.Peer)
		if p.spec.Synchronous && ev.Stage == p.stage && ev.Peer != p.self && !p.up[ev.Peer] && len(ev.Addrs) > 0 {
			p.dial(ev) // the members of a stage exchange sums
		}
	case Unlisted:
		gone := p.listed[ev.Slot]
		delete(p.listed, ev.Slot)
		p.seq++
		p.toTrainer(pipeline.Announced{Peer: gone.Peer, Stage: gone.Stage, State: pipeline.Leaving, Seq: p.seq})
		p.announce(gone.Peer) // it may have a slot again
		p.succeed()
	case Equipped:
		p.worker = ev.Worker
		if ev.Text != nil {
			p.trainer = &trainer{text: *ev.Text, micros: map[uint64]*microBatch{}}
		}
	case Served:
		p.serve(ev.Slot)
	case Unserved:
		p.serving = false
	case Leaves:
		p.serving, p.leaves = false, true
		p.toServer(pipeline.Leave{})
		p.toTrainer(pipeline.Stop{}) // what is under way others finish
	case worker.Grant:
		if p.trainer == nil {
			return
		}
		p.trainer.leases = append(p.trainer.leases, ev.Ranges...)
		p.reportLeases()
	case worker.PassComputed:
		p.computed(ev)
	case worker.GradientAdded:
		p.added(ev)
	case worker.SumTaken:
		p.exchange(ev)
	case worker.SumsReduced:
		p.reduced(ev)
	case worker.StageStepped:
		p.version, p.stepping = ev.Version, false
		p.toServer(pipeline.Stepped{Version: ev.Version})
	}
}

// announce tells the trainer of a peer that the log has in a stage and that can be
// reached.
func (p *Pipe) announce(id wire.PeerID) {
	if p.trainer == nil || p.trainer.machine == nil {
		return
	}
	var newest Listed
	for slot, l := range p.listed {
		if l.Peer == id && slot > newest.Slot {
			newest = l
		}
	}
	switch {
	case newest.Slot == 0:
	case p.up[id] || id == p.self:
		p.seq++
		p.toTrainer(pipeline.Announced{Peer: id, Stage: newest.Stage, State: pipeline.Online, Seq: p.seq})
	case len(newest.Addrs) > 0:
		p.dial(newest)
	}
}

// dial has the transport keep a connection up until the log says that the slot ended.
func (p *Pipe) dial(l Listed) {
	p.dials.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, contact.ReachWithin)
		defer cancel()
		if err := p.transport.Connect(ctx, l.Peer, l.Addrs); err != nil {
			p.report(Remark{fmt.Sprintf("stage %d: %s is not reached yet: %v", l.Stage+1, l.Peer.Short(), err)})
		}
	})
}

// serve begins or goes on.
func (p *Pipe) serve(slot wire.Slot) {
	p.serving, p.slot = true, slot
	p.toServer(pipeline.Moved{Version: p.version})
	p.succeed()
}

// succeed begins a trainer under this peer's slot, if there is to be one: at every peer
// of the first stage, or, where all step together, at the one with the least slot.
func (p *Pipe) succeed() {
	slot := p.slot
	if p.trainer == nil || !p.serving || p.trainer.slot == slot {
		return
	}
	if p.spec.Synchronous && p.trainsBefore(slot) {
		return
	}
	if err := p.trainer.begin(p, slot); err != nil {
		p.report(mailbox.Complaint{Text: "no trainer: " + err.Error()})
		p.trainer = nil
		return
	}
	told := map[wire.PeerID]bool{}
	for _, l := range p.listed {
		if !told[l.Peer] {
			told[l.Peer] = true
			p.announce(l.Peer)
		}
	}
	p.reportLeases()
}

// alive tells the trainer whose sessions are up: those that it banned for being slow did not
// lose theirs, so that nothing else would bring them back.
func (p *Pipe) alive() {
	p.toTrainer(pipeline.Alive{Peer: p.self})
	for id := range p.up {
		p.toTrainer(pipeline.Alive{Peer: id})
	}
}

// do carries out one effect of a machine.
func (p *Pipe) do(effect pipeline.Effect) {
	switch e := effect.(type) {
	case pipeline.Send:
		p.sendEffect(e)
	case pipeline.Note:
		p.report(Remark{e.Text})
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
		p.report(Remark{fmt.Sprintf("stage %d has no peer that can be reached for %s", e.Stage+1, e.For.Round(time.Second))})
	case pipeline.Compute:
		p.worker.Put(worker.PassOrder{Key: e.Key, Backward: e.Backward, Cargo: p.calls[e.Key]})
	case pipeline.Add:
		p.worker.Put(worker.AddOrder{Key: e.Key})
	case pipeline.Drop:
		delete(p.calls, e.Key)
		delete(p.answers, e.Key) // nobody waits for it any more
		if p.worker != nil {
			p.worker.Put(worker.DropOrder{Key: e.Key})
		}
	case pipeline.InnerStep:
		p.innerStep(e.Micros)
	case pipeline.Reduce:
		p.reduction = reduction{close: e.Close, sums: p.reduction.sums}
		p.worker.Put(worker.SumOrder{Close: e.Close})
	case pipeline.ApplyStep:
		p.stepping = true
		o := p.taken(nil)
		o.Sync, o.Micros = &e, int(p.reduction.close.Total)
		p.worker.Put(o)
	case pipeline.Clear:
		clear(p.windows)
		p.worker.Put(worker.ClearOrder{})
	case pipeline.Decide: // the next rounds bring peers together that did not all hear of it
		p.toTrainer(pipeline.Decided{Step: e.Step, Try: e.Try, Edition: e.Edition})
	}
}

func (p *Pipe) sendEffect(e pipeline.Send) {
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
func (p *Pipe) send(to wire.PeerID, m wire.StageMessage, cargo []byte) {
	if to == p.self {
		p.take(Passed{p.self, m, cargo})
		return
	}
	err := p.transport.Pass(to, wire.EncodePassed(m, cargo))
	if call, ok := m.(*wire.StageCall); ok && err != nil {
		p.toTrainer(pipeline.Failed{Key: call.Key, Reason: err.Error()})
	}
}

// computed answers a call.
func (p *Pipe) computed(e worker.PassComputed) {
	if e.Err != nil {
		p.toServer(pipeline.ComputeFailed{Key: e.Key, Reason: e.Err.Error()})
		return
	}
	p.answers[e.Key] = e.Answer
	if c := p.calls[e.Key]; c != nil { // only the windows are needed from here on
		c.Input, c.Gradient = nil, nil
	}
	if p.stage == p.spec.StageCount()-1 && len(p.losses) < maxLosses {
		p.losses = append(p.losses, e.Loss)
	}
	p.toServer(pipeline.Computed{Key: e.Key, Took: e.Took})
}

func (p *Pipe) added(e worker.GradientAdded) {
	if e.Err != nil {
		p.report(mailbox.Complaint{Text: e.Err.Error()})
	}
	if c := p.calls[e.Key]; c != nil {
		p.windows[pipeline.MicroID{Trainer: e.Key.Trainer, Micro: e.Key.Micro}] = c.Windows
		delete(p.calls, e.Key)
	}
	p.toServer(pipeline.Added{Key: e.Key})
}

// innerStep has the worker step on what was counted.
func (p *Pipe) innerStep(micros []pipeline.MicroID) { p.worker.Put(p.taken(micros)) }

// taken takes what an inner step claims out of what was counted: the windows of these
// micro-batches, or of all.
func (p *Pipe) taken(micros []pipeline.MicroID) (o worker.StepOrder) {
	if micros == nil {
		micros = slices.SortedFunc(maps.Keys(p.windows), func(a, b pipeline.MicroID) int {
			return cmp.Or(cmp.Compare(a.Trainer, b.Trainer), cmp.Compare(a.Micro, b.Micro))
		})
	}
	for _, id := range micros {
		o.Windows = append(o.Windows, p.windows[id]...)
		delete(p.windows, id)
	}
	losses := p.losses
	if p.losses = nil; p.trainer != nil {
		losses = p.trainer.losses
		p.trainer.losses = nil
	}
	for _, l := range losses {
		o.Loss += float64(l) / float64(len(losses))
	}
	return o
}

func (p *Pipe) reportLeases() {
	p.report(LeasesLeft{wire.Windows(p.trainer.leases)})
}

// What a pipe tells the peer's loop.
type (
	// Remark is for people; LeasesLeft counts the windows that are not read yet.
	Remark     struct{ Text string }
	LeasesLeft struct{ Windows uint64 }
)
