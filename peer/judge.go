package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/data"
	"dunlin/folder"
	"dunlin/model"
	"dunlin/peer/mailbox"
	"dunlin/recipe"
	"dunlin/training"
	"dunlin/wire"
)

// judge measures the held-out loss of committed states beside everything else,
// on a coordinator's device.
type judge struct {
	spec    *wire.RunSpec
	device  compute.Device
	windows int // most held-out windows to measure on
	text    func(names []wire.Hash) ([]byte, error)
	orders  *mailbox.Mailbox[judgeOrder]
	report  func(any)

	model   *model.Model
	heldOut data.Windows
	indices []int
	prompt  []int32 // the beginning of held-out text
}

// judgeShare is the share of its time that the judge works at most, but for the first state and the last: it computes on
// a machine that may train, and checkpoints of a small model follow each other within seconds.
const judgeShare = 0.02

type judgeOrder struct {
	height  uint64
	tokens  uint64 // committed by then
	tensors []compute.Tensor
	last    bool // of the run
}

// Reports of the judge.
type (
	baselines struct {
		unigram, bigram float64
		prompt          string
	}
	judged struct {
		height uint64
		tokens uint64
		loss   float64
		wrote  string // by the model, behind the judge's prompt
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
		case <-j.orders.Ready:
		}
		for _, o := range j.orders.Take() {
			done := judged{height: o.height, tokens: o.tokens, last: o.last, err: err}
			if err == nil {
				began := time.Now()
				if done.loss, done.err = j.measure(ctx, o.tensors); done.err == nil {
					done.wrote, done.err = j.write(ctx)
				}
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
	cfg, err := recipe.Model(j.spec)
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
	if j.model, err = model.NewIn(training.ForwardRoom(min(8, len(j.indices))), cfg, j.device); err != nil {
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
	first := make([]int32, cfg.Context)
	if err := j.heldOut.Batch(first, make([]int32, cfg.Context), j.indices[0]); err != nil {
		return err
	}
	j.prompt = first[:min(promptTokens, len(first))]
	j.report(baselines{unigram: b.Unigram, bigram: b.Bigram, prompt: plainText(j.prompt)})
	return nil
}

func (j *judge) measure(ctx context.Context, tensors []compute.Tensor) (float64, error) {
	if err := j.model.Load(tensors); err != nil {
		return 0, err
	}
	return j.model.Evaluate(ctx, j.heldOut, j.indices)
}

// The judge has each state it measures continue the same text with the same draws, so that what they write compares.
const (
	promptTokens = 32
	writtenBytes = 160
)

// write lets the model that was measured last continue the prompt.
func (j *judge) write(ctx context.Context) (string, error) {
	var tokens []int32
	err := j.model.Generate(ctx, j.prompt, writtenBytes, model.Sampling{Temperature: 0.8, TopP: 0.95, Seed: 1}, func(token int32) bool {
		tokens = append(tokens, token)
		return true
	})
	return plainText(tokens), err
}

// plainText is what tokens that are bytes say, without the ends of texts.
func plainText(tokens []int32) string {
	var b []byte
	for _, t := range tokens {
		if byte(t) != data.EndOfText {
			b = append(b, byte(t))
		}
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
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
		p.judge.orders.Put(judgeOrder{height: p.life.Height, tokens: p.figures.Tokens, tensors: p.replica.Tensors(), last: last})
	}
}

// export writes the run's model as a checkpoint folder that `dunlin sample` and
// `dunlin eval` open.
func (p *Peer) export() error {
	if p.cfg.Export == "" {
		return nil
	}
	c, err := folder.ModelAt(p.replica, p.life.Height)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	_, err = checkpoint.Save(p.cfg.Export, c, 1)
	return err
}

// checkEnd closes a run whose last commit is applied here: the model is
// exported and measured once.
func (p *Peer) checkEnd() {
	if p.settingsIn.Phase != wire.PhaseEnded || p.ended || p.life.Height < p.figures.CommitHeight {
		return
	}
	p.ended = true
	if err := p.export(); err != nil {
		p.failure = errors.Join(p.failure, err)
		return
	}
	p.ask(true)
}
