package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dunlin/catchup"
	"dunlin/contribution"
	"dunlin/coordinator"
	"dunlin/engine"
	"dunlin/folder"
	"dunlin/peer/core"
	"dunlin/peer/figures"
	"dunlin/peer/judge"
	"dunlin/peer/keeper"
	"dunlin/peer/mailbox"
	"dunlin/peer/reign"
	"dunlin/peer/slabs"
	"dunlin/peer/stage"
	"dunlin/peer/worker"
	"dunlin/round"
	"dunlin/status"
	"dunlin/wire"
)

// handle takes in one report of this peer's goroutines or of the transport.
func (p *Peer) handle(ctx context.Context, ev any) {
	switch ev := ev.(type) {
	case sessionUp, sessionDown, received:
		p.hear(ctx, ev)
	case reign.Event:
		p.reign.Take(ev)
		if p.reign.Chosen() {
			p.startJudge(ctx)
		}
	case worker.StepDone:
		p.stepped(ev)
	case worker.SnapshotTaken:
		p.figures.Own.Snapped(uint64(ev.Order.Fragment), ev.Order.Base, time.Now())
		p.codecs.Orders.Put(ev.Order)
	case slabs.EncodeDone:
		p.encoded(ev)
	case slabs.SumDone:
		p.summed(ev)
	case worker.CommitMerged:
		p.figures.Merges++
		p.figures.Own.Merge(uint64(ev.Fragment), ev.Version, ev.Overlap, time.Now())
		p.life.Overlapped(ev.Overlap)
		p.next(round.Merged{Fragment: uint64(ev.Fragment), Version: ev.Version})
	case worker.Failed:
		p.failure = fmt.Errorf("training stopped: %w", ev.Err)
	case worker.DeviceLost:
		p.deviceLost(ev.Err)
	case worker.DeviceBack:
		p.log.Info("the device is back", "device", ev.Name)
		p.note("the device is back: " + ev.Name)
		p.next(core.DataReady{})
	case cardsSeen:
		p.cardsTold(ev)
	case mailbox.Complaint:
		p.log.Warn("going on with a fault", "text", ev.Text)
		p.note(ev.Text)
	case keeper.Committed:
		p.weights[ev.Fragment] = ev
	case keeper.Hashed:
		p.hashed = ev.Heads
		p.next(core.StateHashed(ev))
	case keeper.Saved:
		p.saved(ev)
	case keeper.WeightsGiven:
		p.begin(ev)
	case worker.Begun:
		p.beganSteps(ev)
	case keeper.ReplicaReplaced:
		p.replica = ev.Replica
	case dataLoaded:
		p.dataLoaded(ctx, ev)
	case diskFailed:
		p.diskFailed(ev.err)
	case stage.Remark:
		p.note(ev.Text)
	case stage.LeasesLeft:
		p.leasesLeft(ev.Windows)
	case figures.Flow:
		p.life.Flow = ev
	case stageAsked:
		p.askStage(ev)
	case pullAsked:
		p.pull(ctx, ev)
	case judge.Baselines:
		p.figures.Baselines(ev.Unigram, ev.Bigram, ev.Prompt)
	case judge.Judged:
		p.judged(ev)
	case figures.TransferBegun, figures.TransferMoved:
		p.figures.Transferring(ev)
	case entryAsked:
		detail, err := p.entry(ev.height)
		ev.answer <- entryTold{detail, err}
	case core.Event:
		p.next(ev)
	default:
		p.note(fmt.Sprintf("report %T has no handler", ev))
	}
}

// deviceLost counts the loss of what trains here, which is opened again.
func (p *Peer) deviceLost(err error) {
	p.restarts++
	p.log.Error("the device is lost; opening it again", "err", err)
	p.note("the device is lost: " + err.Error())
	p.next(core.DeviceLost{Reason: err.Error()})
}

// saved has the newest state and the gifts kept with it, and older ones go.
func (p *Peer) saved(s keeper.Saved) {
	err := p.retention.Keep(p.store, s.At, s.Head)
	if err == nil {
		err = p.thanks.Save()
	}
	if err != nil {
		p.diskFailed(err)
	}
	p.store.Unpin(folder.PinSaving(s.At))
}

// askStage passes a peer's question on, if this is the coordinator that knows who was
// offered what.
func (p *Peer) askStage(ev stageAsked) {
	if !p.reign.Own() {
		ev.answer <- nil
		return
	}
	p.asking[ev.peer] = append(p.asking[ev.peer], ev.answer)
	p.next(coordinator.StageAsked{Peer: ev.peer})
}

func (p *Peer) judged(j judge.Judged) {
	if j.Err != nil {
		p.failure = fmt.Errorf("held-out loss: %w", j.Err)
		return
	}
	p.judging = false
	p.judgeFrom = time.Now().Add(time.Duration(float64(j.Took) / judge.Share))
	p.figures.Judged(status.Sample{Height: j.Height, Tokens: j.Tokens, Loss: j.Loss, Text: j.Wrote}, j.Last)
	p.log.Info("held-out", "loss", j.Loss, "tokens", j.Tokens)
	if p.judgeLast {
		p.judgeLast = false
		p.ask(true)
	}
}

// leasesLeft notes how many leased windows were not read yet.
func (p *Peer) leasesLeft(windows uint64) {
	p.life.Left = windows
	p.next(coordinator.WindowsLeft{Windows: windows})
}

// warmSteps are timed before a worker counts as training.
const warmSteps = 3

func (p *Peer) stepped(s worker.StepDone) {
	p.life.Stepped(figures.Step{Step: s.Step, Tokens: s.Tokens, Loss: s.Loss, Took: s.Took, Training: s.Training, Since: s.Since})
	p.next(round.StepDone{
		Step: s.Step, Tokens: s.Tokens, Windows: s.Windows, StepTime: p.life.StepTime(),
	})
	if p.pipe == nil {
		p.leasesLeft(s.Left)
	}
	if p.life.Warming++; p.life.Warming == warmSteps {
		p.next(coordinator.Warmed{StepTime: p.life.StepTime()})
	}
}

func (p *Peer) encoded(e slabs.EncodeDone) {
	if e.Err != nil {
		if errors.Is(e.Err, contribution.ErrNotFinite) {
			p.failure = fmt.Errorf("fragment %d: %w: the weights of this machine are no longer numbers; start it again to go on from the run's", e.Order.Fragment, e.Err)
		}
		p.next(round.EncodeFailed{Fragment: uint64(e.Order.Fragment), Base: e.Order.Base, Reason: e.Err.Error()})
		return
	}
	c := e.Contribution
	p.slabs.KeepOwn(e.Order.Fragment, c)
	p.figures.Contributed += uint64(c.Bytes())
	p.next(round.Encoded{Fragment: uint64(e.Order.Fragment), Base: c.Base, Step: e.Order.Step, Root: c.Root, Norm: c.Norm})
}

// sumOrder gathers what the owner pulled; a rank whose slab is not here is left out.
func (p *Peer) sumOrder(e round.SumSlab) slabs.SumOrder {
	o := slabs.SumOrder{Fragment: e.Fragment, Attempt: e.Attempt, Slab: e.Slab, Base: e.Base}
	for rank, m := range e.Members {
		if e.Ranks>>uint(rank)&1 == 0 {
			continue
		}
		o.Ranks = append(o.Ranks, rank)
		o.Shares = append(o.Shares, contribution.Share{
			Frame: p.slabs.Frame(m.Ready.Ready.Root, int(e.Slab)), Weight: m.Weight, Clip: m.Clip.Value(), Norm: m.Ready.Ready.Norm.Value(),
		})
	}
	return o
}

func (p *Peer) summed(d slabs.SumDone) {
	if p.newest[d.Order.Fragment] != d.Order.Attempt { // decided meanwhile
		p.store.Unpin(folder.PinSummed(d.Order.Attempt))
	}
	for _, fault := range d.Sum.Faults {
		if fault != nil {
			p.note(fmt.Sprintf("attempt %s, slab %d: %v", d.Order.Attempt, d.Order.Slab, fault))
		}
	}
	if d.Err != nil {
		p.next(round.SumFailed{Fragment: d.Order.Fragment, Attempt: d.Order.Attempt, Slab: d.Order.Slab, Reason: d.Err.Error()})
		return
	}
	p.next(round.Summed{
		Fragment: d.Order.Fragment, Attempt: d.Order.Attempt, Slab: d.Order.Slab,
		Hash: d.Hash, Length: uint64(len(d.Sum.Frame)), Members: d.Members, Before: d.Sum.Before, After: d.Sum.After,
	})
}

// begin starts inner steps from committed weights: those of a new slot, or,
// after a repair, the slot's next ones.
func (p *Peer) begin(w keeper.WeightsGiven) {
	if p.asked == w.Restart {
		p.asked = 0
	}
	if w.Restart != p.restarts || !p.wanted || p.worker == nil || p.slot == 0 {
		return // asked for before the weights there became worthless, or halted meanwhile: who starts it asks again
	}
	fresh := !p.begun
	p.begun, p.taken, p.life.Warming = true, p.restarts, 0
	leases := p.granted
	if p.pipe != nil { // they are the trainer's
		if len(leases) > 0 {
			p.pipe.Inbox.Put(worker.Grant{Ranges: leases})
		}
		leases = nil
	}
	p.worker.Orders.Put(worker.Begin{
		Slot: p.slot, Fresh: fresh, Versions: w.Versions, Weights: w.Weights, Leases: leases,
		Tokens: p.figures.Tokens, Members: p.figures.Workers(p.cfg.Stage),
	})
	p.granted = nil
}

// beganSteps tells the round that inner steps begin. It comes behind the report
// of the step that was running, which belongs to what was before.
func (p *Peer) beganSteps(b worker.Begun) {
	if b.Fresh {
		p.life.Begin()
		p.next(round.Assigned{Slot: b.Slot, Versions: b.Versions})
	} else {
		p.next(round.Resumed{Versions: b.Versions})
	}
	if p.pipe != nil {
		p.pipe.Inbox.Put(stage.Served{Slot: b.Slot})
	}
}

// advanced notes an applied commit.
func (p *Peer) advanced(e catchup.Advanced) {
	c := e.Commit
	if w, ok := p.weights[int(c.Fragment)]; ok && w.Version == c.Base+1 {
		w.Tokens, w.Members = c.Tokens, len(e.Table.Contributors)
		p.weights[int(c.Fragment)] = w
	}
	if c.Base > 0 {
		p.figures.OwnerRestarts += uint64(e.Table.Restarts())
	}
	p.life.Height = e.Height
	p.askDue()
	p.retention.Commit(p.store, e.Height, c.Table, e.Table)
	p.store.Unpin(folder.PinSummed(c.Attempt))
	p.store.Unpin(folder.PinHeld(c.Attempt, c.Result))
}

// dataLoaded comes when the training text is here, or when it could not be had.
type dataLoaded struct {
	engine engine.Engine
	text   *stage.Text // of a trainer in a run with stages
	err    error
}

func (p *Peer) dataLoaded(ctx context.Context, d dataLoaded) {
	if d.err != nil {
		p.fail(d.err)
		return
	}
	p.worker = worker.New(p.spec, d.engine, p.configs, p.paced, p.inbox.Put)
	if p.pipe != nil {
		e, ok := d.engine.(*engine.Stage)
		if !ok {
			p.failure = fmt.Errorf("engine %T computes no stage", d.engine)
			return
		}
		p.worker.Serve(e, p.pipe.Inbox.Put)
		p.pipe.Inbox.Put(stage.Equipped{Worker: p.worker.Orders, Text: d.text})
	}
	p.life.Device = d.engine.Name()
	p.wg.Go(func() { p.worker.Run(ctx) })
	p.next(core.DataReady{})
}

// loadData fetches the training text once while the replica catches up,
// then makes the engine.
func (p *Peer) loadData(ctx context.Context) {
	if p.loading {
		return
	}
	p.loading = true
	from := p.reign.Others()
	p.wg.Go(func() {
		start := time.Now()
		tokens, text, err := p.loadText(ctx, from)
		if err != nil {
			p.inbox.Put(dataLoaded{err: err})
			return
		}
		var joiner bool // only the ledger tells, up to its head
		select {
		case joiner = <-p.caughtUp:
		case <-ctx.Done():
			return
		}
		e, err := p.cfg.NewEngine(p.spec, tokens, joiner)
		p.log.Debug("data ready", "tokens", len(tokens), "seconds", time.Since(start).Seconds())
		p.inbox.Put(dataLoaded{engine: e, text: text, err: err})
	})
}

// loadText reads the training text where it is needed: peers of later stages do
// without. The vocabulary, if there is one, is for who exports the model.
func (p *Peer) loadText(ctx context.Context, from []wire.PeerID) (tokens []byte, text *stage.Text, err error) {
	if err := p.shards.Fetch(ctx, p.spec.Data.Vocabulary, from); err != nil || p.cfg.Stage > 0 {
		return nil, nil, err
	}
	if tokens, err = p.shards.TextFrom(ctx, p.spec.Data.Train, from); err == nil && p.pipe != nil {
		text, err = stage.NewText(p.spec, tokens)
	}
	return tokens, text, err
}

// seedPause is the time between two tries to have the run's text.
const seedPause = 5 * time.Second

// seedData has a coordinator among several hold the run's text, so that it can
// give it to workers and measure held-out loss when it leads.
func (p *Peer) seedData(ctx context.Context) {
	shards := p.spec.Data.Shards()
	from := p.reign.Others()
	p.wg.Go(func() {
		for p.shards.Fetch(ctx, shards, from) != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(seedPause):
			}
		}
	})
}
