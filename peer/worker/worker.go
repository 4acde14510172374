package worker

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
	// Begin hands over the committed weights of every fragment and starts steps.
	Begin struct {
		Slot     wire.Slot
		Fresh    bool // a new slot: steps count from 0 and older leases are gone
		Versions []uint64
		Weights  [][]float32 // by fragment, block order, never written again
		Leases   []wire.Range
		Tokens   uint64 // committed in the run by then
		Members  int    // workers in the run
	}
	// Halt stops steps after the one that runs; orders are still carried out.
	Halt struct{}
	// Resume goes on where halt stopped.
	Resume struct{}
	// Pace changes the share of the time to train.
	Pace struct{ Duty training.Duty }
	// Remember keeps the moments for a restart.
	Remember struct{}
	// Grant adds leased windows.
	Grant struct{ Ranges []wire.Range }
	// TakeSnapshot ends an interval of a fragment.
	TakeSnapshot struct{ Fragment int }
	// TakeCommit merges a committed version.
	TakeCommit struct {
		Fragment int
		Asked    uint64              // version that the round's machine asked to merge
		Commit   contribution.Commit // of that version or a newer one
		Tokens   uint64              // committed in the run by then
		Members  int                 // contributors of that commit
	}
)

// Reports of the worker's goroutine to the loop.
type (
	// Begun answers Begin.
	Begun struct {
		Slot     wire.Slot
		Fresh    bool
		Versions []uint64
	}
	// StepDone says that an inner step was made.
	StepDone struct {
		Step     uint64 // inner steps of this slot, from 1
		Windows  []wire.Range
		Tokens   uint64
		Loss     float64
		Took     time.Duration // with the rest that follows
		Training time.Duration // in steps since begin
		Since    time.Duration // since begin
		Left     uint64        // leased windows not yet read
	}
	// SnapshotTaken hands on what a contribution is encoded from.
	SnapshotTaken struct {
		Order slabs.EncodeOrder
	}
	// CommitMerged says that a committed version is in the live weights.
	CommitMerged struct {
		Fragment int
		Version  uint64
		Overlap  uint64 // τ: inner steps since the snapshot; 0 without one
	}
	// Failed says that training has stopped for good.
	Failed struct{ Err error }
	// DeviceLost says that steps stand still until DeviceBack; both are followed
	// by an order to begin from committed weights.
	DeviceLost struct{ Err error }
	// DeviceBack says that the device of that name is open again.
	DeviceBack struct{ Name string }
)

// Worker is the inner loop. It never waits for the network while there is data
// to train on: orders are carried out between two steps.
type Worker struct {
	spec     *wire.RunSpec
	engine   engine.Engine
	trackers []*contribution.Tracker
	configs  []contribution.Config
	live     [][][]float32 // by fragment, tensors in layout order
	tensors  [][]int       // by fragment: their numbers
	Orders   *mailbox.Mailbox[any]
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

// New makes the worker of a run on an engine, which is its own from then on; configs are by fragment.
func New(spec *wire.RunSpec, e engine.Engine, configs []contribution.Config, duty training.Duty, report func(any)) *Worker {
	w := &Worker{spec: spec, engine: e, configs: configs, Orders: mailbox.New[any](), report: report, duty: duty, members: 1, snapshots: make([]uint64, spec.Fragments)}
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

// Close gives the device back, once run has ended.
func (w *Worker) Close() error { return w.engine.Close() }

// Run trains until the context ends. It reports what it did and never closes
// over another goroutine's state.
func (w *Worker) Run(ctx context.Context) {
	positions := make([]uint64, w.spec.Data.Batch)
	var rested <-chan time.Time // nil when it may train
	for ctx.Err() == nil {
		for _, order := range w.Orders.Take() {
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
			case <-w.Orders.Ready:
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

// fail stops steps: for good, or until a lost device is back. A stage whose device is lost has lost gradients that other
// peers count on, so that it ends.
func (w *Worker) fail(err error) {
	w.running = false
	if !errors.Is(err, compute.ErrLost) || w.staged != nil {
		w.report(Failed{err})
		return
	}
	if !w.adrift {
		w.report(DeviceLost{err})
	}
	w.adrift, w.patience = true, firstPatience
}

// reopen waits and tries to get a lost device back.
func (w *Worker) reopen(ctx context.Context) {
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
	w.report(DeviceBack{w.engine.Name()})
}

// next takes one batch of leased windows.
func (w *Worker) next(positions []uint64) (wire.Range, bool) {
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
func (w *Worker) train(positions []uint64, windows wire.Range) (rest time.Duration, err error) {
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
	w.report(StepDone{
		Step: w.step, Windows: []wire.Range{windows}, Tokens: tokens, Loss: loss, Took: took + rest,
		Training: w.training, Since: time.Since(w.started), Left: wire.Windows(w.leases),
	})
	return rest, nil
}

func (w *Worker) obey(order any) error {
	switch o := order.(type) {
	case Begin:
		return w.begin(o)
	case Halt:
		w.running = false
	case Resume:
		w.running = w.trackers != nil && !w.adrift
	case Pace:
		w.duty = o.Duty
	case Remember:
		if err := w.engine.Remember(); err != nil {
			w.report(mailbox.Complaint{Text: "moments not kept, a restart begins without them: " + err.Error()})
		}
	case Grant:
		w.leases = append(w.leases, o.Ranges...)
	case TakeSnapshot:
		return w.snapshot(o.Fragment)
	case TakeCommit:
		return w.merge(o)
	default:
		return w.obeyPipe(order)
	}
	return nil
}

// begin takes the committed weights over as live ones; everything local before
// it is gone.
func (w *Worker) begin(o Begin) error {
	if w.trackers == nil {
		w.trackers = make([]*contribution.Tracker, len(w.live))
	}
	for f := range w.live {
		if o.Weights[f] == nil {
			continue // of another stage
		}
		if w.trackers[f] == nil {
			t, err := contribution.New(w.configs[f], o.Versions[f], o.Weights[f])
			if err != nil {
				return err
			}
			w.trackers[f] = t
		}
		if err := w.trackers[f].Restart(w.live[f], o.Versions[f], o.Weights[f]); err != nil {
			return err
		}
	}
	if o.Fresh {
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
	w.adrift = w.patience > 0 // what was pushed to a device that is lost is nowhere
	clear(w.snapshots)
	w.committed, w.members, w.own = max(w.committed, o.Tokens), max(1, o.Members), 0
	w.leases = append(w.leases, o.Leases...)
	w.running = !w.adrift
	w.report(Begun{Slot: o.Slot, Fresh: o.Fresh, Versions: o.Versions})
	return nil
}

func (w *Worker) snapshot(fragment int) error {
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
	if t.Previews() {
		if err := w.engine.Push(w.tensors[fragment]); err != nil {
			return err
		}
	}
	w.snapshots[fragment] = w.step
	w.report(SnapshotTaken{slabs.EncodeOrder{Fragment: fragment, Base: t.Version(), Step: w.step, Tracker: t}})
	return nil
}

func (w *Worker) merge(o TakeCommit) error {
	t := w.trackers[o.Fragment]
	if o.Commit.Version <= t.Version() { // begin or a newer commit took it along
		w.report(CommitMerged{Fragment: o.Fragment, Version: o.Asked})
		return nil
	}
	if w.adrift {
		return nil // begin takes it along
	}
	if err := w.engine.Pull(w.tensors[o.Fragment]); err != nil {
		return err
	}
	outcome, err := t.Merge(w.live[o.Fragment], o.Commit)
	if err == nil && w.spec.Synchronous && outcome.Included < outcome.Slabs {
		// The others made the same steps: what the commit has of theirs must not be added to it once more.
		err = t.Restart(w.live[o.Fragment], o.Commit.Version, o.Commit.Weights)
	}
	if err == nil {
		err = w.engine.Push(w.tensors[o.Fragment])
	}
	if err != nil {
		return err
	}
	if o.Tokens > w.committed {
		w.committed, w.members, w.own = o.Tokens, max(1, o.Members), w.uncounted(o.Fragment)
	}
	merged := CommitMerged{Fragment: o.Fragment, Version: o.Asked}
	if at := w.snapshots[o.Fragment]; at > 0 {
		merged.Overlap = w.step - at
	}
	w.snapshots[o.Fragment] = 0
	w.report(merged)
	return nil
}

// uncounted returns the tokens trained since a fragment's undecided snapshot, which
// its commit cannot have counted; 0 when there was none.
func (w *Worker) uncounted(fragment int) uint64 {
	if at := w.snapshots[fragment]; at > 0 {
		return (w.step - at) * w.spec.StepTokens()
	}
	return 0
}
