package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dunlin/compute"
	"dunlin/data"
	"dunlin/model"
	"dunlin/peer/mailbox"
	"dunlin/recipe"
	"dunlin/training"
	"dunlin/wire"
)

// Judge measures the held-out loss of committed states beside everything else,
// on a coordinator's device.
type Judge struct {
	spec    *wire.RunSpec
	device  compute.Device
	windows int // most held-out windows to measure on
	text    func(shards []wire.ShardSpec) ([]byte, error)
	Orders  *mailbox.Mailbox[Order]
	report  func(any)

	model   *model.Model
	heldOut data.Windows
	indices []int
	tokens  data.Tokenizer
	prompt  []int32 // the beginning of held-out text
}

// Share is the share of its time that the judge works at most, but for the first state and the last: it computes on
// a machine that may train, and checkpoints of a small model follow each other within seconds.
const Share = 0.02

// Order asks for a state to be measured.
type Order struct {
	Height  uint64
	Tokens  uint64                  // committed by then
	Tensors func() []compute.Tensor // a copy, made when it is measured
	Last    bool                    // of the run
}

// Reports of the judge.
type (
	// Baselines are the losses of n-grams, and what the model is asked to continue.
	Baselines struct {
		Unigram, Bigram float64
		Prompt          string
	}
	// Judged answers an Order.
	Judged struct {
		Height uint64
		Tokens uint64
		Loss   float64
		Wrote  string // by the model, behind the judge's prompt
		Took   time.Duration
		Last   bool
		Err    error
	}
)

// New makes one whose text comes from text and whose reports go to report.
func New(spec *wire.RunSpec, device compute.Device, windows int, text func([]wire.ShardSpec) ([]byte, error), report func(any)) *Judge {
	return &Judge{spec: spec, device: device, windows: windows, text: text, Orders: mailbox.New[Order](), report: report}
}

// Run measures what it is told to until the context ends.
func (j *Judge) Run(ctx context.Context) {
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
		case <-j.Orders.Ready:
		}
		for _, o := range j.Orders.Take() {
			done := Judged{Height: o.Height, Tokens: o.Tokens, Last: o.Last, Err: err}
			if err == nil {
				began := time.Now()
				if done.Loss, done.Err = j.measure(ctx, o.Tensors()); done.Err == nil {
					done.Wrote, done.Err = j.write(ctx)
				}
				done.Took = time.Since(began)
			}
			if ctx.Err() == nil {
				j.report(done)
			}
		}
	}
}

// prepare reads the text and the n-gram losses that a model has to beat.
func (j *Judge) prepare(ctx context.Context) error {
	cfg, err := recipe.Model(j.spec)
	if err != nil {
		return err
	}
	vocabulary, err := j.text(j.spec.Data.Vocabulary)
	if err != nil {
		return err
	}
	if j.tokens, err = recipe.Tokenizer(j.spec, vocabulary); err != nil {
		return err
	}
	heldOut, err := j.text(j.spec.Data.HeldOut)
	if err != nil {
		return err
	}
	if j.heldOut, err = data.WindowsOf(cfg.Context, recipe.Text(j.spec, heldOut)); err != nil {
		return fmt.Errorf("held-out text: %w", err)
	}
	j.indices = j.heldOut.Spread(j.windows)
	if j.model, err = model.NewIn(training.ForwardRoom(min(8, len(j.indices))), cfg, j.device); err != nil {
		return err
	}
	train, err := j.text(j.spec.Data.Train)
	if err != nil {
		return err
	}
	b, err := data.CountNGrams([]data.Tokens{recipe.Text(j.spec, train)}, cfg.Vocab, j.heldOut, j.indices)
	if err != nil {
		return err
	}
	first := make([]int32, cfg.Context)
	if err := j.heldOut.Batch(first, make([]int32, cfg.Context), j.indices[0]); err != nil {
		return err
	}
	j.prompt = first[:min(promptTokens, len(first))]
	j.report(Baselines{Unigram: b.Unigram, Bigram: b.Bigram, Prompt: j.plainText(j.prompt)})
	return nil
}

func (j *Judge) measure(ctx context.Context, tensors []compute.Tensor) (float64, error) {
	if err := j.model.Load(tensors); err != nil {
		return 0, err
	}
	return j.model.Evaluate(ctx, j.heldOut, j.indices)
}

// The judge has each state it measures continue the same text with the same draws, so that what they write compares.
const (
	promptTokens = 32
	writtenMost  = 160
)

// write lets the model that was measured last continue the prompt.
func (j *Judge) write(ctx context.Context) (string, error) {
	var tokens []int32
	err := j.model.Generate(ctx, j.prompt, writtenMost, model.Sampling{Temperature: 0.8, TopP: 0.95, Seed: 1}, func(token int32) bool {
		tokens = append(tokens, token)
		return true
	})
	return j.plainText(tokens), err
}

// plainText is what tokens say, without the ends of texts and tokens that a model
// has and its vocabulary has not.
func (j *Judge) plainText(tokens []int32) string {
	tokens = slices.DeleteFunc(slices.Clone(tokens), func(t int32) bool { return t == j.tokens.EndOfText() || int(t) >= j.tokens.Vocab() })
	b, _ := j.tokens.Decode(nil, tokens) // all are known
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
