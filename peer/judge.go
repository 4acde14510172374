package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/data"
	"dunlin/model"
	"dunlin/wire"
)

// judge measures the held-out loss of committed states beside everything else,
// on a coordinator's device.
type judge struct {
	spec    *wire.RunSpec
	device  compute.Device
	windows int // most held-out windows to measure on
	text    func(names []wire.Hash) ([]byte, error)
	orders  *mailbox[judgeOrder]
	report  func(any)

	model   *model.Model
	heldOut data.Windows
	indices []int
}

// judgeShare is the share of its time that the judge works at most, but for the first state and the last: it computes on
// a machine that may train, and checkpoints of a small model follow each other within seconds.
const judgeShare = 0.02

type judgeOrder struct {
	tokens  uint64 // committed by then
	tensors []compute.Tensor
	last    bool // of the run
}

// Reports of the judge.
type (
	baselines struct{ unigram, bigram float64 }
	judged    struct {
		tokens uint64
		loss   float64
		took   time.Duration
		last   bool
		err    error
	}
)

func (j *judge) run(ctx context.Context) {
	err := j.prepare(ctx)
	defer func() {
		if j.model != nil {
			_ = j.model.Close() // gives memory back; nothing to lose
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.orders.ready:
		}
		for _, o := range j.orders.take() {
			done := judged{tokens: o.tokens, last: o.last, err: err}
			if err == nil {
				began := time.Now()
				done.loss, done.err = j.measure(ctx, o.tensors)
				done.took = time.Since(began)
			}
			if ctx.Err() == nil {
				j.report(done)
			}
		}
	}
}

// prepare reads the text and the n-gram losses that a model has to beat.
func (j *judge) prepare(ctx context.Context) error {
	cfg, err := modelConfig(j.spec)
	if err != nil {
		return err
	}
	heldOut, err := j.text(shardNames(j.spec.Data.HeldOut))
	if err != nil {
		return err
	}
	if j.heldOut, err = data.NewWindows(heldOut, cfg.Context); err != nil {
		return fmt.Errorf("held-out text: %w", err)
	}
	j.indices = j.heldOut.Spread(j.windows)
	if j.model, err = model.NewIn(forwardRoom(min(8, len(j.indices))), cfg, j.device); err != nil {
		return err
	}
	train, err := j.text(shardNames(j.spec.Data.Train))
	if err != nil {
		return err
	}
	b, err := data.NGram(train, j.heldOut, j.indices)
	if err != nil {
		return err
	}
	j.report(baselines{unigram: b.Unigram, bigram: b.Bigram})
	return nil
}

func (j *judge) measure(ctx context.Context, tensors []compute.Tensor) (float64, error) {
	if err := j.model.Load(tensors); err != nil {
		return 0, err
	}
	return j.model.Evaluate(ctx, j.heldOut, j.indices)
}

func shardNames(shards []wire.ShardSpec) []wire.Hash {
	names := make([]wire.Hash, len(shards))
	for i, s := range shards {
		names[i] = s.Hash
	}
	return names
}

// ask has the present state measured; the coordinator asks at the start, at
// checkpoints and at the end.
func (p *Peer) ask(last bool) {
	if p.judge != nil {
		p.judge.orders.put(judgeOrder{tokens: p.figures.tokens, tensors: p.replica.Tensors(), last: last})
	}
}

// export writes the run's model as a checkpoint folder that `dunlin sample` and
// `dunlin eval` open.
func (p *Peer) export() error {
	if p.cfg.Export == "" {
		return nil
	}
	c, err := ModelAt(p.replica, p.life.height)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	_, err = checkpoint.Save(p.cfg.Export, c, 1)
	return err
}

// checkEnd closes a run whose last commit is applied here: the model is
// exported and measured once.
func (p *Peer) checkEnd() {
	if p.settingsIn.Phase != wire.PhaseEnded || p.ended || p.life.height < p.figures.commitHeight {
		return
	}
	p.ended = true
	if err := p.export(); err != nil {
		p.failure = errors.Join(p.failure, err)
		return
	}
	p.ask(true)
}
