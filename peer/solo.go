package peer

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/data"
	"dunlin/model"
	"dunlin/optimizer"
)

// SoloConfig says how one machine trains without a network.
type SoloConfig struct {
	Trainer     TrainerConfig
	Corpus      *data.Corpus
	Seed        uint64 // of initial weights and data order
	Steps       int    // of the whole training; its progress is step ÷ Steps
	Out         string // folder of the checkpoints
	SaveEvery   int    // steps between checkpoints; 0 saves at the end only
	LogEvery    int    // steps between reports
	EvalWindows int    // most held-out windows to measure the loss on; 0 is all

	// Report hears of every LogEvery-th step and of the last, on the goroutine that trains.
	Report func(SoloReport)
}

// Validate lists every fault.
func (c SoloConfig) Validate() error {
	faults := []error{c.Trainer.Validate()}
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Trainer.Model.Vocab != data.Vocabulary {
		fault("model with a vocabulary of %d: text is read as bytes, which needs %d; choose another preset", c.Trainer.Model.Vocab, data.Vocabulary)
	}
	if c.Corpus == nil {
		fault("no corpus")
	}
	if c.Steps < 1 {
		fault("%d steps: at least 1 is needed", c.Steps)
	}
	if c.SaveEvery < 0 || c.LogEvery < 1 || c.EvalWindows < 0 {
		fault("save every %d, log every %d steps, evaluate %d windows: not negative, and log every 1 or more", c.SaveEvery, c.LogEvery, c.EvalWindows)
	}
	if c.Out == "" {
		fault("no folder for checkpoints")
	}
	return errors.Join(faults...)
}

// SoloReport tells how training goes on.
type SoloReport struct {
	Step            int
	Loss            float64 // mean since the last report, nats a token
	Tokens          uint64  // trained on since step 0
	TokensPerSecond float64 // since the last report, saving apart
	LR              float64
}

// SoloResult is the end of a training.
type SoloResult struct {
	Steps           int
	ResumedAt       int // step of the checkpoint it went on from, 0 for none
	Tokens          uint64
	TokensPerSecond float64 // of the steps that this process made, 0 when there were none
	ValLoss         float64 // held-out loss, nats a token
	Baselines       data.Baselines
	EvalWindows     int // held-out windows measured
}

// Stopped says that training ended early, in order, and can go on.
type Stopped struct {
	Step, Steps int
	Out         string
}

func (s *Stopped) Error() string {
	return fmt.Sprintf("stopped at step %d of %d, saved in %s: the same command goes on from there", s.Step, s.Steps, s.Out)
}

// Solo is `dunlin train`: windows in the order of the run's permutation, one Trainer, checkpoints from which training
// goes on bit for bit on the same device. Make it with NewSolo, call Run once, and Close it.
type Solo struct {
	cfg      SoloConfig
	trainer  *Trainer
	train    data.Windows
	heldOut  data.Windows
	order    data.Order
	settings map[string]string // what must be the same to go on
	step     int
	resumed  int
	saved    int // step of the newest checkpoint, -1 for none

	inputs, targets []int32
	indices         []int
}

// NewSolo prepares training and, when cfg.Out holds a checkpoint, goes on from it. It refuses a checkpoint that other
// settings made, naming them.
func NewSolo(device compute.Device, cfg SoloConfig) (*Solo, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Solo{cfg: cfg, saved: -1}
	length := cfg.Trainer.Model.Context
	var err error
	if s.train, err = data.NewWindows(cfg.Corpus.Train, length); err != nil {
		return nil, fmt.Errorf("training text: %w", err)
	}
	if s.heldOut, err = data.NewWindows(cfg.Corpus.HeldOut, length); err != nil {
		return nil, fmt.Errorf("held-out text: %w", err)
	}
	s.order = data.Order{Seed: cfg.Seed, N: s.train.Len()}
	s.inputs, s.targets = make([]int32, cfg.Trainer.Batch*length), make([]int32, cfg.Trainer.Batch*length)
	s.indices = make([]int, cfg.Trainer.Batch)
	s.settings = cfg.settings()
	if s.trainer, err = NewTrainer(device, cfg.Trainer); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close gives the memory back to the device.
func (s *Solo) Close() error { return s.trainer.Close() }

// ResumedAt returns the step that training goes on from, 0 for a new one.
func (s *Solo) ResumedAt() int { return s.resumed }

// settings names everything that the bits of a training depend on, but for the number of steps, which may grow.
func (c SoloConfig) settings() map[string]string {
	t := c.Trainer
	text := sha256.New()
	text.Write(c.Corpus.Train)
	text.Write([]byte{0})
	text.Write(c.Corpus.HeldOut)
	return map[string]string{
		"model":        t.Model.String(),
		"data":         fmt.Sprintf("%x", text.Sum(nil)[:8]),
		"batch":        strconv.Itoa(t.Batch),
		"seed":         strconv.FormatUint(c.Seed, 10),
		"lr":           fmt.Sprintf("%+v", t.LR),
		"weight decay": fmt.Sprintf("%+v", t.WeightDecay),
		"adamw":        fmt.Sprintf("%+v", t.AdamW),
	}
}

// start initialises the model or restores it from the newest checkpoint.
func (s *Solo) start() error {
	c, err := checkpoint.Open(s.cfg.Out)
	if errors.Is(err, checkpoint.ErrNone) {
		s.trainer.Model().Init(s.cfg.Seed)
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.restore(c); err != nil {
		return fmt.Errorf("go on from %s: %w", s.cfg.Out, err)
	}
	return nil
}

// Keys of the trainer's state beside settings.
const (
	metaStep   = "step"
	metaAdamW  = "adamw steps"
	metaPrefix = "setting "
)

func (s *Solo) restore(c *checkpoint.Checkpoint) error {
	if c.Trainer == nil {
		return errors.New("it holds a model without the state of its training: choose another --out")
	}
	for _, key := range []string{"model", "data", "batch", "seed", "lr", "weight decay", "adamw"} {
		if was := c.Trainer.Meta[metaPrefix+key]; was != s.settings[key] {
			return fmt.Errorf("it was trained with another %s (%s, now %s): use the same settings, or another --out", key, was, s.settings[key])
		}
	}
	step, err := strconv.Atoi(c.Trainer.Meta[metaStep])
	adamw, err2 := strconv.Atoi(c.Trainer.Meta[metaAdamW])
	if err := errors.Join(err, err2); err != nil || step < 0 {
		return fmt.Errorf("its counters cannot be read: %w", err)
	}
	if step > s.cfg.Steps {
		return fmt.Errorf("it has made %d steps, more than %d: ask for more --steps, or choose another --out", step, s.cfg.Steps)
	}
	if err := s.trainer.Model().Load(c.Model); err != nil {
		return err
	}
	if err := s.trainer.SetMoments(optimizer.State{Steps: adamw, Tensors: c.Trainer.Tensors}); err != nil {
		return err
	}
	s.step, s.resumed, s.saved = step, step, step
	return nil
}

// save writes a checkpoint of the current step.
func (s *Solo) save() error {
	if s.saved == s.step {
		return nil
	}
	tensors, err := s.trainer.Model().Tensors()
	if err != nil {
		return err
	}
	moments, err := s.trainer.Moments()
	if err != nil {
		return err
	}
	config, err := json.MarshalIndent(s.cfg.Trainer.Model, "", "  ")
	if err != nil {
		return err
	}
	meta := map[string]string{metaStep: strconv.Itoa(s.step), metaAdamW: strconv.Itoa(moments.Steps)}
	for key, value := range s.settings {
		meta[metaPrefix+key] = value
	}
	_, err = checkpoint.Save(s.cfg.Out, &checkpoint.Checkpoint{
		Step: uint64(s.step), Config: config, Model: tensors,
		Trainer: &checkpoint.Trainer{Tensors: moments.Tensors, Meta: meta},
	}, 2)
	if err == nil {
		s.saved = s.step
	}
	return err
}

// Run trains to the last step, saves, and measures the held-out loss. When ctx ends it saves and returns *Stopped.
func (s *Solo) Run(ctx context.Context) (SoloResult, error) {
	meter := newMeter(s.cfg, s.step)
	for s.step < s.cfg.Steps {
		if ctx.Err() != nil {
			return SoloResult{}, s.stopped()
		}
		began := time.Now()
		result, err := s.next()
		if err != nil {
			return SoloResult{}, fmt.Errorf("step %d: %w", s.step+1, advise(err))
		}
		s.step++
		meter.add(s.step, result, time.Since(began))
		if every := s.cfg.SaveEvery; every > 0 && s.step%every == 0 {
			if err := s.save(); err != nil {
				return SoloResult{}, err
			}
		}
	}
	if err := s.save(); err != nil {
		return SoloResult{}, err
	}
	r := SoloResult{Steps: s.step, ResumedAt: s.resumed, Tokens: meter.tokens(s.step), TokensPerSecond: meter.rate()}
	err := s.measure(ctx, &r)
	if ctx.Err() != nil {
		return SoloResult{}, s.stopped()
	}
	return r, err
}

// next trains on the next windows of the order.
func (s *Solo) next() (StepResult, error) {
	first := uint64(s.step) * uint64(s.cfg.Trainer.Batch)
	for i := range s.indices {
		s.indices[i] = s.order.At(first + uint64(i))
	}
	if err := s.train.Batch(s.inputs, s.targets, s.indices...); err != nil {
		return StepResult{}, err
	}
	return s.trainer.Step(s.inputs, s.targets, float64(s.step+1)/float64(s.cfg.Steps))
}

// advise adds what to do about a training that has diverged.
func advise(err error) error {
	if errors.Is(err, model.ErrNotFinite) || errors.Is(err, optimizer.ErrNotFinite) {
		return fmt.Errorf("%w: try a lower --lr", err)
	}
	return err
}

func (s *Solo) stopped() error {
	if err := s.save(); err != nil {
		return err
	}
	return &Stopped{Step: s.step, Steps: s.cfg.Steps, Out: s.cfg.Out}
}

// measure fills in the held-out loss and what counting models reach on the same windows.
func (s *Solo) measure(ctx context.Context, r *SoloResult) error {
	most := s.cfg.EvalWindows
	if most == 0 {
		most = s.heldOut.Len()
	}
	indices := s.heldOut.Spread(most)
	r.EvalWindows = len(indices)
	var err error
	if r.ValLoss, err = s.trainer.Model().Evaluate(ctx, s.heldOut, indices); err != nil {
		return fmt.Errorf("held-out loss: %w", err)
	}
	if r.Baselines, err = data.NGram(s.cfg.Corpus.Train, s.heldOut, indices); err != nil {
		return fmt.Errorf("baselines: %w", err)
	}
	return nil
}

// meter turns steps into reports.
type meter struct {
	cfg   SoloConfig
	first int // step at which this process began

	all, span time.Duration // inside steps: in all, and since the last report
	loss      float64       // sum since the last report
	steps     int           // since the last report
	done      int           // in all
}

func newMeter(cfg SoloConfig, first int) *meter { return &meter{cfg: cfg, first: first} }

func (m *meter) perStep() uint64 {
	return uint64(m.cfg.Trainer.Batch) * uint64(m.cfg.Trainer.Model.Context)
}

func (m *meter) tokens(step int) uint64 { return uint64(step) * m.perStep() }

// rate returns tokens a second over all steps so far, 0 before the first.
func (m *meter) rate() float64 {
	if m.all <= 0 {
		return 0
	}
	return float64(m.tokens(m.done)) / m.all.Seconds()
}

func (m *meter) add(step int, r StepResult, took time.Duration) {
	m.all, m.span = m.all+took, m.span+took
	m.loss += r.Loss
	m.steps++
	m.done++
	if m.cfg.Report == nil || (step%m.cfg.LogEvery != 0 && step != m.cfg.Steps) {
		return
	}
	m.cfg.Report(SoloReport{
		Step: step, Loss: m.loss / float64(m.steps), Tokens: m.tokens(step), LR: r.LR,
		TokensPerSecond: float64(m.tokens(m.steps)) / max(m.span.Seconds(), 1e-9),
	})
	m.span, m.loss, m.steps = 0, 0, 0
}
