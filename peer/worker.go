package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dunlin/compute"
	"dunlin/contribution"
	"dunlin/engine"
	"dunlin/peer/mailbox"
	"dunlin/peer/slabs"
	"dunlin/training"
	"dunlin/wire"
)

// Orders to the worker's goroutine.
type (
	// begin hands over the committed weights of every fragment and starts steps.
	begin struct {
		slot     wire.Slot
		fresh    bool // a new slot: steps count from 0 and older leases are gone
		versions []uint64
		weights  [][]float32 // by fragment, block order, never written again
		leases   []wire.Range
		tokens   uint64 // committed in the run by then
		members  int    // workers in the run
	}
	// halt stops steps after the one that runs; orders are still carried out.
	halt struct{}
	// resume goes on where halt stopped.
	resume struct{}
	// pace changes the share of the time to train.
	pace struct{ duty training.Duty }
	// remember keeps the moments for a restart.
	remember struct{}
	// grant adds leased windows.
	grant struct{ ranges []wire.Range }
	// takeSnapshot ends an interval of a fragment.
	takeSnapshot struct{ fragment int }
	// takeCommit merges a committed version.
	takeCommit struct {
		fragment int
		asked    uint64              // version that the round's machine asked to merge
		commit   contribution.Commit // of that version or a newer one
		tokens   uint64              // committed in the run by then
		members  int                 // contributors of that commit
	}
)

// Reports of the worker's goroutine to the loop.
type (
	begun struct { // answers begin
		slot     wire.Slot
		fresh    bool
		versions []uint64
	}
	stepDone struct {
		step     uint64 // inner steps of this slot, from 1
		windows  []wire.Range
		tokens   uint64
		loss     float64
		took     time.Duration // with the rest that follows
		training time.Duration // in steps since begin
		since    time.Duration // since begin
		left     uint64        // leased windows not yet read
	}
	snapshotTaken struct {
		order slabs.EncodeOrder
	}
	commitMerged struct {
		fragment int
		version  uint64
		outcome  contribution.Outcome
		overlap  uint64 // τ: inner steps since the snapshot; 0 without one
	}
	workerFailed struct{ err error }
	// deviceLost says that steps stand still until deviceBack; both are followed
	// by an order to begin from committed weights.
	deviceLost struct{ err error }
	deviceBack struct{}
)

// worker is the inner loop. It never waits for the network while there is data
// to train on: orders are carried out between two steps.
type worker struct {
	spec     *wire.RunSpec
	engine   engine.Engine
	trackers []*contribution.Tracker
	configs  []contribution.Config
	live     [][][]float32 // by fragment, tensors in layout order
	tensors  [][]int       // by fragment: their numbers
	orders   *mailbox.Mailbox[any]
	report   func(any)
	duty     training.Duty
	staged   *stageWorker // nil in a run without stages

	running   bool
	adrift    bool          // live weights are undefined until begin: the device was lost
	patience  time.Duration // until the device is opened again; 0 unless it is lost
	step      uint64
	leases    []wire.Range
	committed uint64   // tokens, of the newest merged commit
	members   int      // of that commit
	own       uint64   // tokens trained here that it cannot have
	snapshots []uint64 // by fragment: step of the newest snapshot
	started   time.Time
	training  time.Duration
}

func newWorker(spec *wire.RunSpec, e engine.Engine, configs []contribution.Config, duty training.Duty, report func(any)) *worker {
	w := &worker{spec: spec, engine: e, configs: configs, orders: mailbox.New[any](), report: report, duty: duty, members: 1, snapshots: make([]uint64, spec.Fragments)}
	live := e.Live()
	for f := range int(spec.Fragments) {
		var tensors [][]float32
		for _, i := range spec.FragmentTensors(f) {
			tensors = append(tensors, live[i])
		}
		w.live, w.tensors = append(w.live, tensors), append(w.tensors, spec.FragmentTensors(f))
	}
	return w
}

// run trains until the context ends. It reports what it did and never closes
// over another goroutine's state.
func (w *worker) run(ctx context.Context) {
	positions := make([]uint64, w.spec.Data.Batch)
	var rested <-chan time.Time // nil when it may train
	for ctx.Err() == nil {
		for _, order := range w.orders.Take() {
			if err := w.obey(order); err != nil {
				w.fail(err)
			}
		}
		if w.patience > 0 {
			w.reopen(ctx)
			continue
		}
		var windows wire.Range
		ok := rested == nil
		if ok {
			windows, ok = w.next(positions)
		}
		if !ok {
			select {
			case <-ctx.Done():
			case <-w.orders.Ready:
			case <-rested:
				rested = nil
			}
			continue
		}
		rest, err := w.train(positions, windows)
		if err != nil {
			w.fail(err)
		}
		if rest > 0 {
			rested = time.After(rest)
		}
	}
}

// Waits before a lost device is opened again: the driver may need a moment, and a card that stays away costs nothing.
const (
	firstPatience = time.Second
	lastPatience  = time.Minute
)

// fail stops steps: for good, or until a lost device is back.
func (w *worker) fail(err error) {
	w.running = false
	if !errors.Is(err, compute.ErrLost) {
		w.report(workerFailed{err})
		return
	}
	if !w.adrift {
		w.report(deviceLost{err})
	}
	w.adrift, w.patience = true, firstPatience
}

// reopen waits and tries to get a lost device back.
func (w *worker) reopen(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(w.patience):
	}
	if err := w.engine.Reopen(); err != nil {
		w.patience = min(2*w.patience, lastPatience)
		w.report(mailbox.Complaint{Text: fmt.Sprintf("the device is not back, trying again in %v: %v", w.patience, err)})
		return
	}
	w.patience = 0
	w.report(deviceBack{})
}

// next takes one batch of leased windows.
func (w *worker) next(positions []uint64) (wire.Range, bool) {
	batch := uint64(len(positions))
	if !w.running {
		return wire.Range{}, false
	}
	// A lease is whole batches, so that an interval's windows stay few ranges.
	for len(w.leases) > 0 && w.leases[0].Len() < batch {
		w.leases = w.leases[1:]
	}
	if len(w.leases) == 0 {
		return wire.Range{}, false
	}
	r := &w.leases[0]
	windows := wire.Range{From: r.From, To: r.From + batch}
	for i := range positions {
		positions[i] = r.From + uint64(i)
	}
	if r.From += batch; r.From == r.To {
		w.leases = w.leases[1:]
	}
	return windows, true
}

// train makes a step and returns how long to rest after it.
func (w *worker) train(positions []uint64, windows wire.Range) (rest time.Duration, err error) {
	start := time.Now()
	tokens := w.spec.StepTokens()
	w.own += tokens
	progress := w.spec.Progress(float64(w.committed) + float64(w.own)*float64(w.members))
	loss, err := w.engine.Step(positions, progress)
	if err != nil {
		return 0, fmt.Errorf("inner step %d: %w", w.step+1, err)
	}
	took := time.Since(start)
	rest = w.duty.Rest(took)
	w.step++
	w.training += took
	w.report(stepDone{
		step: w.step, windows: []wire.Range{windows}, tokens: tokens, loss: loss, took: took + rest,
		training: w.training, since: time.Since(w.started), left: wire.Windows(w.leases),
	})
	return rest, nil
}

func (w *worker) obey(order any) error {
	switch o := order.(type) {
	case begin:
		return w.begin(o)
	case halt:
		w.running = false
	case resume:
		w.running = w.trackers != nil && !w.adrift
	case pace:
		w.duty = o.duty
	case remember:
		if err := w.engine.Remember(); err != nil {
			w.report(mailbox.Complaint{Text: "moments not kept, a restart begins without them: " + err.Error()})
		}
	case grant:
		w.leases = append(w.leases, o.ranges...)
	case takeSnapshot:
		return w.snapshot(o.fragment)
	case takeCommit:
		return w.merge(o)
	default:
		return w.obeyPipe(order)
	}
	return nil
}

// begin takes the committed weights over as live ones; everything local before
// it is gone.
func (w *worker) begin(o begin) error {
	if w.trackers == nil {
		w.trackers = make([]*contribution.Tracker, len(w.live))
	}
	for f := range w.live {
		if o.weights[f] == nil {
			continue // of another stage
		}
		if w.trackers[f] == nil {
			t, err := contribution.New(w.configs[f], o.versions[f], o.weights[f])
			if err != nil {
				return err
			}
			w.trackers[f] = t
		}
		if err := w.trackers[f].Restart(w.live[f], o.versions[f], o.weights[f]); err != nil {
			return err
		}
	}
	if o.fresh {
		w.step, w.leases, w.training = 0, nil, 0
		w.started = time.Now()
	}
	for f := range w.live {
		if w.trackers[f] == nil {
			continue
		}
		if err := w.engine.Push(w.tensors[f]); err != nil {
			return err
		}
	}
	w.adrift = false
	clear(w.snapshots)
	w.committed, w.members, w.own = max(w.committed, o.tokens), max(1, o.members), 0
	w.leases = append(w.leases, o.leases...)
	w.running = true
	w.report(begun{slot: o.slot, fresh: o.fresh, versions: o.versions})
	return nil
}

func (w *worker) snapshot(fragment int) error {
	if w.adrift {
		return nil // the round's machine was told that nothing is contributed
	}
	if err := w.engine.Pull(w.tensors[fragment]); err != nil {
		return err
	}
	if err := w.trackers[fragment].Snapshot(w.live[fragment]); err != nil {
		if errors.Is(err, contribution.ErrUndecided) {
			return nil // the round's machine asked twice; the first one stands
		}
		return err
	}
	t := w.trackers[fragment]
	w.snapshots[fragment] = w.step
	w.report(snapshotTaken{slabs.EncodeOrder{Fragment: fragment, Base: t.Version(), Step: w.step, Tracker: t}})
	return nil
}

func (w *worker) merge(o takeCommit) error {
	t := w.trackers[o.fragment]
	if o.commit.Version <= t.Version() { // begin or a newer commit took it along
		w.report(commitMerged{fragment: o.fragment, version: o.asked})
		return nil
	}
	if w.adrift {
		return nil // begin takes it along
	}
	if err := w.engine.Pull(w.tensors[o.fragment]); err != nil {
		return err
	}
	outcome, err := t.Merge(w.live[o.fragment], o.commit)
	if err == nil && w.spec.Synchronous && outcome.Included < outcome.Slabs {
		// The others made the same steps: what the commit has of theirs must not be added to it once more.
		err = t.Restart(w.live[o.fragment], o.commit.Version, o.commit.Weights)
	}
	if err == nil {
		err = w.engine.Push(w.tensors[o.fragment])
	}
	if err != nil {
		return err
	}
	if o.tokens > w.committed {
		w.committed, w.members, w.own = o.tokens, max(1, o.members), w.uncounted(o.fragment)
	}
	merged := commitMerged{fragment: o.fragment, version: o.asked, outcome: outcome}
	if at := w.snapshots[o.fragment]; at > 0 {
		merged.overlap = w.step - at
	}
	w.snapshots[o.fragment] = 0
	w.report(merged)
	return nil
}

// uncounted returns the tokens trained since a fragment's undecided snapshot, which
// its commit cannot have counted; 0 when there was none.
func (w *worker) uncounted(fragment int) uint64 {
	if at := w.snapshots[fragment]; at > 0 {
		return (w.step - at) * w.spec.StepTokens()
	}
	return 0
}
