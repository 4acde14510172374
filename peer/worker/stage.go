package worker

import (
	"errors"
	"fmt"
	"time"

	"dunlin/compute"
	"dunlin/engine"
	"dunlin/peer/mailbox"
	"dunlin/pipeline"
	"dunlin/wire"
)

// Orders of a pipe to the worker's goroutine, which answers each but dropOrder.
type (
	// PassOrder has a pass computed of what a call brought.
	PassOrder struct {
		Key      wire.StageKey
		Backward bool
		Cargo    *wire.Cargo
	}
	// AddOrder makes a gradient count, DropOrder forgets one.
	AddOrder  struct{ Key wire.StageKey }
	DropOrder struct{ Key wire.StageKey }
	// StepOrder makes an inner step on what counts, of which these windows were read.
	StepOrder struct {
		Windows []wire.Range
		Loss    float64
		Sync    *pipeline.ApplyStep // the step that all make together; nil for one's own
		Micros  int                 // of that
	}
	// SumOrder asks for the sum of what counts, ClearOrder forgets it.
	SumOrder   struct{ Close *wire.StageClose }
	ClearOrder struct{}
	// ReduceOrder adds up what the members of a stage have.
	ReduceOrder struct {
		Close *wire.StageClose
		Sums  [][]byte // by member; nil for this peer's
	}
)

// What a worker did for its pipe, in the order that it was asked for.
type (
	// PassComputed answers PassOrder.
	PassComputed struct {
		Key    wire.StageKey
		Answer []byte
		Loss   float32
		Took   time.Duration
		Err    error
	}
	// GradientAdded answers AddOrder.
	GradientAdded struct {
		Key wire.StageKey
		Err error
	}
	// StageStepped answers StepOrder with the version of the weights.
	StageStepped struct{ Version uint64 }
	// SumTaken answers SumOrder.
	SumTaken struct {
		Close *wire.StageClose
		Sum   []byte
		Err   error
	}
	// SumsReduced answers ReduceOrder with the squared norm of the mean.
	SumsReduced struct {
		Close  *wire.StageClose
		NormSq float64
		Err    error
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
	lost   int // inner steps in a row whose gradient was not finite
}

// maxLost is how many such steps in a row are left out: micro-batches of one bad trainer
// must not end a peer, weights that are no good must.
const maxLost = 8

// Serve has the worker compute a stage for a pipe, which tell reaches.
func (w *Worker) Serve(e *engine.Stage, tell func(any)) {
	w.staged = &stageWorker{engine: e, tell: tell}
}

// obeyPipe carries out an order of the pipe, which hears of every error. Only a lost device's is returned: nothing more
// comes of this worker.
func (w *Worker) obeyPipe(order any) error {
	s := w.staged
	switch o := order.(type) {
	case PassOrder:
		start := time.Now()
		done := PassComputed{Key: o.Key}
		if o.Cargo == nil {
			done.Err = fmt.Errorf("%v: what it is computed from is gone", o.Key)
		} else if o.Backward {
			var gradient []byte
			gradient, done.Loss, done.Err = s.engine.Backward(o.Key, o.Cargo)
			done.Answer = MakeAnswer(AnswerBackward, done.Loss, gradient)
		} else {
			var output []byte
			output, done.Err = s.engine.Forward(o.Cargo)
			done.Answer = MakeAnswer(AnswerForward, 0, output)
		}
		done.Took = time.Since(start)
		s.busy += done.Took
		s.tell(done)
		if errors.Is(done.Err, compute.ErrLost) {
			return done.Err
		}
		time.Sleep(min(w.duty.Rest(done.Took), longestRest))
	case AddOrder:
		s.tell(GradientAdded{o.Key, s.engine.Add(o.Key)})
	case DropOrder:
		s.engine.Drop(o.Key)
	case SumOrder:
		sum, err := s.engine.Sum()
		s.tell(SumTaken{o.Close, sum, err})
		if errors.Is(err, compute.ErrLost) {
			return err
		}
	case ReduceOrder:
		normSq, err := s.engine.Reduce(o.Sums, int(o.Close.Total))
		s.tell(SumsReduced{o.Close, normSq, err})
		if errors.Is(err, compute.ErrLost) {
			return err
		}
	case ClearOrder:
		s.engine.Clear()
	case StepOrder:
		return w.stageStep(o)
	}
	return nil
}

// stageStep makes an inner step of a stage and reports it like any other.
func (w *Worker) stageStep(o StepOrder) error {
	start := time.Now()
	tokens := wire.Windows(o.Windows) * w.spec.Model.Context
	w.own += tokens
	progress := w.spec.Progress(float64(w.committed) + float64(w.own)*float64(w.members))
	version, err := w.step+1, error(nil)
	if o.Sync != nil {
		version = o.Sync.Step + 1
		err = w.staged.engine.ApplyReduced(o.Micros, o.Sync.NormSq, progress)
	} else {
		err = w.staged.engine.Apply(progress)
	}
	if errors.Is(err, engine.ErrNotFinite) && o.Sync == nil && w.staged.lost < maxLost {
		w.staged.lost++
		w.own -= tokens
		w.report(mailbox.Complaint{Text: fmt.Sprintf("inner step %d is left out, its micro-batches are lost: %v", w.step+1, err)})
		w.staged.tell(StageStepped{w.step})
		return nil
	}
	if err != nil {
		return fmt.Errorf("inner step %d: %w", w.step+1, err)
	}
	w.staged.lost = 0
	w.step++
	now := time.Now()
	w.training += w.staged.busy + now.Sub(start)
	took := now.Sub(w.staged.last)
	if w.staged.last.Before(w.started) {
		took = w.staged.busy + now.Sub(start)
	}
	w.staged.last, w.staged.busy = now, 0
	w.report(StepDone{
		Step: w.step, Windows: o.Windows, Tokens: tokens, Loss: o.Loss, Took: took, Training: w.training, Since: now.Sub(w.started),
	})
	w.staged.tell(StageStepped{version})
	return nil
}
