package peer

import (
	"fmt"
	"time"

	"dunlin/data"
	"dunlin/engine"
	"dunlin/pipeline"
	"dunlin/wire"
)

// Orders of a pipe to the worker's goroutine, which answers each but dropOrder.
type (
	passOrder struct {
		key      wire.StageKey
		backward bool
		cargo    *wire.Cargo
	}
	addOrder  struct{ key wire.StageKey }
	dropOrder struct{ key wire.StageKey }
	stepOrder struct {
		windows []wire.Range
		loss    float64
		sync    *pipeline.ApplyStep // the step that all make together; nil for one's own
		micros  int                 // of that
	}
	sumOrderOf  struct{ close *wire.StageClose }
	clearOrder  struct{}
	reduceOrder struct {
		close *wire.StageClose
		sums  [][]byte // by member; nil for this peer's
	}
)

// longestRest bounds the rest after a pass, in which nothing else is done either.
const longestRest = time.Second

// stageWorker is what a worker has for its stage.
type stageWorker struct {
	engine *engine.Stage
	tell   func(any) // the pipe
	last   time.Time // of the newest inner step
	busy   time.Duration
}

// obey carries out an order of the pipe.
func (w *worker) obeyPipe(order any) error {
	s := w.staged
	switch o := order.(type) {
	case passOrder:
		start := time.Now()
		done := passComputed{key: o.key}
		if o.cargo == nil {
			done.err = fmt.Errorf("%v: what it is computed from is gone", o.key)
		} else if o.backward {
			var gradient []byte
			gradient, done.loss, done.err = s.engine.Backward(o.key, o.cargo)
			done.answer = makeAnswer(answerBackward, done.loss, gradient)
		} else {
			var output []byte
			output, done.err = s.engine.Forward(o.cargo)
			done.answer = makeAnswer(answerForward, 0, output)
		}
		done.took = time.Since(start)
		s.busy += done.took
		s.tell(done)
		time.Sleep(min(w.duty.Rest(done.took), longestRest))
	case addOrder:
		s.tell(gradientAdded{o.key, s.engine.Add(o.key)})
	case dropOrder:
		s.engine.Drop(o.key)
	case sumOrderOf:
		s.tell(sumTaken{o.close, s.engine.Sum()})
	case reduceOrder:
		normSq, err := s.engine.Reduce(o.sums, int(o.close.Total))
		s.tell(sumsReduced{o.close, normSq, err})
	case clearOrder:
		s.engine.Clear()
	case stepOrder:
		return w.stageStep(o)
	}
	return nil
}

// stageStep makes an inner step of a stage and reports it like any other.
func (w *worker) stageStep(o stepOrder) error {
	start := time.Now()
	tokens := wire.Windows(o.windows) * w.spec.Model.Context
	w.own += tokens
	progress := w.spec.Progress(float64(w.committed) + float64(w.own)*float64(w.members))
	version, err := w.step+1, error(nil)
	if o.sync != nil {
		version = o.sync.Step + 1
		err = w.staged.engine.ApplyReduced(o.micros, o.sync.NormSq, progress)
	} else {
		err = w.staged.engine.Apply(progress)
	}
	if err != nil {
		return fmt.Errorf("inner step %d: %w", w.step+1, err)
	}
	w.step++
	now := time.Now()
	w.training += w.staged.busy + now.Sub(start)
	took := now.Sub(w.staged.last)
	if w.staged.last.Before(w.started) {
		took = w.staged.busy + now.Sub(start)
	}
	w.staged.last, w.staged.busy = now, 0
	w.report(stepDone{
		step: w.step, windows: o.windows, tokens: tokens, loss: o.loss, took: took, training: w.training, since: now.Sub(w.started),
	})
	w.staged.tell(stageStepped{version})
	return nil
}

// textWindows gives a trainer its micro-batches.
type textWindows struct {
	windows data.Windows
	order   data.Order
}

// newTextWindows opens a run's training text.
func newTextWindows(spec *wire.RunSpec, tokens []byte) (*textWindows, error) {
	windows, err := data.NewWindows(tokens, int(spec.Model.Context))
	if err != nil {
		return nil, fmt.Errorf("training text: %w", err)
	}
	if uint64(windows.Len()) != spec.Data.Windows {
		return nil, fmt.Errorf("training text has %d windows, the run spec says %d", windows.Len(), spec.Data.Windows)
	}
	return &textWindows{windows: windows, order: data.Order{Seed: spec.Data.Seed, N: windows.Len()}}, nil
}

// batch returns the tokens and targets of windows, by their positions in the data stream.
func (t *textWindows) batch(r wire.Range) (tokens, targets []int32, err error) {
	indices := make([]int, r.Len())
	for i := range indices {
		indices[i] = t.order.At(r.From + uint64(i))
	}
	n := len(indices) * t.windows.Length()
	tokens, targets = make([]int32, n), make([]int32, n)
	return tokens, targets, t.windows.Batch(tokens, targets, indices...)
}
