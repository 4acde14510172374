package training

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
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
	Data        *data.Dataset
	Seed        uint64                 // of initial weights and data order
	Init        *checkpoint.Checkpoint // the weights to begin with instead of drawn ones; nil draws them
	Steps       int                    // of the whole training; progress is windows read ÷ windows that so many steps read
	Accumulate  int                    // micro-batches in a step, at most 4,096; 0 is 1
	Adaptive    bool                   // let that number grow with the gradient noise scale, from at least 2; fewer steps read the same windows
	Average     float64                // decay of the moving average of the weights with each step of the first batch; 0 keeps none
	Out         string                 // folder of the checkpoints
	SaveEvery   int                    // steps between checkpoints; 0 saves at the end only
	LogEvery    int                    // steps between reports
	EvalWindows int                    // most held-out windows to measure the loss on; 0 is all
	Duty        Duty                   // share of the time to train
	Cards       Cards                  // nil without telemetry
	Limits      CardLimits             // of the cards; training slows down to keep to them

	// Report hears of every LogEvery-th step and of the last, on the goroutine that trains.
	Report func(SoloReport)
}

// VocabRoom is how far a vocabulary may be rounded up: other tools fill it up to a multiple of 128.
const VocabRoom = 128

// Validate lists every fault.
func (c SoloConfig) Validate() error {
	faults := []error{c.Trainer.Validate(), c.Duty.Validate(), c.Limits.Validate()}
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Data == nil {
		fault("no data")
	} else if have, want := c.Trainer.Model.Vocab, c.Data.Tokenizer.Vocab(); have < want || have >= want+VocabRoom {
		fault("model with a vocabulary of %d: the data are %s, which have %d tokens; choose another preset or change the shape's vocabulary", have, c.Data.Tokenizer.Name(), want)
	}
	if c.Init != nil && c.Init.Tokenizer != nil && c.Data != nil && !bytes.Equal(c.Init.Tokenizer, c.Data.Tokenizer.File()) {
		fault("the weights to begin with belong to another tokenizer than the data, which are %s: prepare the data with the model's %s", c.Data.Tokenizer.Name(), data.TokenizerFile)
	}
	if c.Steps < 1 {
		fault("%d steps: at least 1 is needed", c.Steps)
	}
	if c.Accumulate < 0 || c.Accumulate > 4096 {
		fault("%d micro-batches in a step: allowed are 1 to 4096", c.Accumulate)
	}
	if c.Average != 0 {
		faults = append(faults, optimizer.AverageConfig{Decay: c.Average, Windows: 1}.Validate())
	}
	if c.SaveEvery < 0 || c.LogEvery < 1 || c.EvalWindows < 0 {
		fault("save every %d, log every %d steps, evaluate %d windows: not negative, and log every 1 or more", c.SaveEvery, c.LogEvery, c.EvalWindows)
	}
	if c.Out == "" {
		fault("no folder for checkpoints")
	}
	return errors.Join(faults...)
}

// Demand is what a plan for this training has to fit, but for the limit and what is used already.
func (c SoloConfig) Demand() Demand {
	return Demand{Micros: newGrowth(c.Trainer.Batch, c.Accumulate, c.Adaptive).schedule.Most, Average: c.Average > 0}
}

// SoloReport tells how training goes on.
type SoloReport struct {
	Step            int
	Loss            float64 // mean since the last report, nats a token
	Tokens          uint64  // trained on since step 0
	TokensPerSecond float64 // since the last report, saving apart
	LR              float64
	Progress        float64 // of the whole training, 0 to 1
	Windows         int     // in the last step
	NoiseScale      float64 // gradient noise scale in windows, +Inf when it is beyond measure; NaN when it is not measured
}

// SoloResult is the end of a training.
type SoloResult struct {
	Steps           int
	ResumedAt       int // step of the checkpoint it went on from, 0 for none
	Tokens          uint64
	TokensPerSecond float64 // of the steps that this process made, 0 when there were none
	ValLoss         float64 // held-out loss, nats a token
	AverageLoss     float64 // of the averaged weights; NaN when there are none
	Windows         int     // in the last step, 0 when this process made none
	Baselines       data.Baselines
	EvalWindows     int // held-out windows measured
}

// Stopped says that training ended early, in order, and can go on.
type Stopped struct {
	Step, Steps int // made, and to make; the latter 0 when the batch grows, which only the future tells
	Out         string
}

func (s *Stopped) Error() string {
	at := strconv.Itoa(s.Step)
	if s.Steps > 0 {
		at = fmt.Sprintf("%d of %d", s.Step, s.Steps)
	}
	return fmt.Sprintf("stopped at step %s, saved in %s: the same command goes on from there", at, s.Out)
}

// Solo is `dunlin train`: windows in the order of the run's permutation, one Trainer, checkpoints from which training
// goes on bit for bit on the same device. Make it with NewSolo, call Run once, and Close it.
type Solo struct {
	cfg      SoloConfig
	trainer  *Trainer
	train    data.Windows
	heldOut  data.Windows
	order    *data.Mixture
	settings map[string]string // what must be the same to go on
	growth   growth
	governor *Governor          // of the duty, by the cards
	paced    Duty               // what it allows now
	average  *optimizer.Average // nil for none
	step     int
	windows  uint64 // of the order that were trained on
	budget   uint64 // to train on
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
	s := &Solo{
		cfg: cfg, saved: -1, growth: newGrowth(cfg.Trainer.Batch, cfg.Accumulate, cfg.Adaptive),
		governor: NewGovernor(cfg.Limits, cfg.Duty), paced: cfg.Duty,
	}
	first := cfg.Trainer.Batch * s.growth.schedule.First
	s.budget = uint64(cfg.Steps) * uint64(first)
	length := cfg.Trainer.Model.Context
	var err error
	if s.train, s.heldOut, err = cfg.Data.Windows(length); err != nil {
		return nil, err
	}
	if s.order, err = cfg.Data.Order(cfg.Seed, s.train); err != nil {
		return nil, err
	}
	s.settings = cfg.settings()
	if s.settings["set of weights"], err = weightsID(cfg.Init); err != nil {
		return nil, fmt.Errorf("weights to begin with: %w", err)
	}
	if s.trainer, err = NewTrainer(device, cfg.Trainer); err != nil {
		return nil, err
	}
	if cfg.Average > 0 {
		how := optimizer.AverageConfig{Decay: cfg.Average, Windows: first}
		m := s.trainer.Model()
		if s.average, err = optimizer.NewAverage(Target(device, m.Params(), m.Grads(), s.trainer.params), how); err != nil {
			return nil, errors.Join(err, s.trainer.Close())
		}
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.cfg.Init = nil // as large as the model
	return s, nil
}

// Close gives the memory back to the device.
func (s *Solo) Close() error {
	if s.average != nil {
		s.average.Close()
	}
	return s.trainer.Close()
}

// ResumedAt returns the step that training goes on from, 0 for a new one.
func (s *Solo) ResumedAt() int { return s.resumed }

// settings names everything that the bits of a training depend on, but for the number of steps, which may grow, and the
// weights that it began with, which take reading.
func (c SoloConfig) settings() map[string]string {
	t := c.Trainer
	return map[string]string{
		"model":        t.Model.String(),
		"data":         c.Data.ID,
		"batch":        strconv.Itoa(t.Batch),
		"seed":         strconv.FormatUint(c.Seed, 10),
		"lr":           fmt.Sprintf("%+v", t.LR),
		"weight decay": fmt.Sprintf("%+v", t.WeightDecay),
		"optimizer":    fmt.Sprintf("%s %+v", t.Optimizer().Name(), t.Optimizer()),
		"accumulate":   strconv.Itoa(max(1, c.Accumulate)),
		"adaptive":     strconv.FormatBool(c.Adaptive),
		"average":      strconv.FormatFloat(c.Average, 'g', -1, 64),
	}
}

// weightsID changes with every bit of the weights; of none it is "".
func weightsID(c *checkpoint.Checkpoint) (string, error) {
	if c == nil {
		return "", nil
	}
	d := sha256.New()
	err := checkpoint.Write(d, c.Model, nil)
	return hex.EncodeToString(d.Sum(nil)[:8]), err
}

// start initialises the model or restores it from the newest checkpoint.
func (s *Solo) start() error {
	if checkpoint.Single(s.cfg.Out) {
		return fmt.Errorf("train into %s: it is one checkpoint and would stay the one that is read: name the folder that holds it, or begin with it by --weights", s.cfg.Out)
	}
	into, err := s.memory()
	if err != nil {
		return err
	}
	c, err := checkpoint.OpenInto(s.cfg.Out, into)
	if errors.Is(err, checkpoint.ErrNone) {
		if s.cfg.Init != nil {
			return s.trainer.Model().Load(s.cfg.Init.Model)
		}
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

// memory tells where the values of a checkpoint belong, so that going on needs no second copy of them.
func (s *Solo) memory() (checkpoint.Into, error) {
	weights, err1 := s.trainer.Model().View()
	moments, err2 := s.trainer.inner.Save()
	var average optimizer.AverageState
	var err3 error
	if s.average != nil {
		average, err3 = s.average.Save()
	}
	at := make(map[string][]float32)
	for _, t := range slices.Concat(weights, moments.Tensors, average.Tensors) {
		at[t.Name] = t.Data
	}
	return func(name string, _ int) []float32 { return at[name] }, errors.Join(err1, err2, err3)
}

// Keys of the trainer's state beside settings.
const (
	metaStep    = "step"
	metaInner   = "optimizer steps"
	metaWindows = "windows"
	metaBatch   = "batch"
	metaAverage = "average windows"
	metaPrefix  = "setting "
)

func (s *Solo) restore(c *checkpoint.Checkpoint) error {
	if c.Trainer == nil {
		return errors.New("it holds a model without the state of its training: choose another --out")
	}
	for _, key := range []string{"model", "data", "batch", "seed", "lr", "weight decay", "optimizer", "accumulate", "adaptive", "average", "set of weights"} {
		if was := c.Trainer.Meta[metaPrefix+key]; was != s.settings[key] {
			return fmt.Errorf("it was trained with another %s (%s, now %s): use the same settings, or another --out", key, was, s.settings[key])
		}
	}
	step, err := strconv.Atoi(c.Trainer.Meta[metaStep])
	inner, err2 := strconv.Atoi(c.Trainer.Meta[metaInner])
	windows, err3 := strconv.ParseUint(c.Trainer.Meta[metaWindows], 10, 64)
	if err := errors.Join(err, err2, err3); err != nil {
		return fmt.Errorf("its counters cannot be read: %w", err)
	}
	if step < 0 || windows%uint64(s.cfg.Trainer.Batch) != 0 {
		return fmt.Errorf("its counters cannot be right: %d steps on %d windows", step, windows)
	}
	if windows > s.budget {
		return fmt.Errorf("it has read %d windows in %d steps, more than %d steps of these settings read: ask for more --steps, or choose another --out",
			windows, step, s.cfg.Steps)
	}
	if err := s.growth.load(c.Trainer.Meta[metaBatch]); err != nil {
		return err
	}
	if err := s.trainer.Model().Load(c.Model); err != nil {
		return err
	}
	if err := s.trainer.inner.Load(optimizer.State{Steps: inner, Tensors: c.Trainer.Tensors}); err != nil {
		return err
	}
	if err := s.restoreAverage(c.Trainer); err != nil {
		return err
	}
	s.step, s.resumed, s.saved, s.windows = step, step, step, windows
	return nil
}

func (s *Solo) restoreAverage(t *checkpoint.Trainer) error {
	if s.average == nil {
		return nil
	}
	windows, err := strconv.ParseUint(t.Meta[metaAverage], 10, 64)
	if err != nil {
		return fmt.Errorf("its counters cannot be read: %w", err)
	}
	return s.average.Load(optimizer.AverageState{Windows: windows, Tensors: t.Tensors})
}

// save writes a checkpoint of the current step.
func (s *Solo) save() error {
	if s.saved == s.step {
		return nil
	}
	tensors, err := s.trainer.Model().View()
	if err != nil {
		return err
	}
	moments, err := s.trainer.inner.Save()
	if err != nil {
		return err
	}
	config, err := Describe(s.cfg.Trainer.Model, s.cfg.Data.Tokenizer)
	if err != nil {
		return err
	}
	batch, err := s.growth.save()
	if err != nil {
		return err
	}
	meta := map[string]string{
		metaStep: strconv.Itoa(s.step), metaInner: strconv.Itoa(moments.Steps),
		metaWindows: strconv.FormatUint(s.windows, 10), metaBatch: batch,
	}
	if s.average != nil {
		average, err := s.average.Save()
		if err != nil {
			return err
		}
		moments.Tensors = append(moments.Tensors, average.Tensors...)
		meta[metaAverage] = strconv.FormatUint(average.Windows, 10)
	}
	for key, value := range s.settings {
		meta[metaPrefix+key] = value
	}
	_, err = checkpoint.Save(s.cfg.Out, &checkpoint.Checkpoint{
		Step: uint64(s.step), Config: config, Model: tensors, Tokenizer: s.cfg.Data.Tokenizer.File(),
		Trainer: &checkpoint.Trainer{Tensors: moments.Tensors, Meta: meta},
	}, 2)
	if err == nil {
		s.saved = s.step
	}
	return err
}

// Run trains to the last step, saves, and measures the held-out loss. When ctx ends it saves and returns *Stopped.
func (s *Solo) Run(ctx context.Context) (SoloResult, error) {
	meter := newMeter(s.cfg)
	for s.windows < s.budget {
		if ctx.Err() != nil {
			return SoloResult{}, s.stopped()
		}
		began := time.Now()
		result, err := s.next()
		if err != nil {
			return SoloResult{}, fmt.Errorf("step %d: %w", s.step+1, s.advise(err))
		}
		s.rest(ctx, time.Since(began))
		meter.add(s, result, time.Since(began))
		if every := s.cfg.SaveEvery; every > 0 && s.step%every == 0 {
			if err := s.save(); err != nil {
				return SoloResult{}, err
			}
		}
	}
	if err := s.save(); err != nil {
		return SoloResult{}, err
	}
	r := SoloResult{
		Steps: s.step, ResumedAt: s.resumed, Tokens: meter.tokens(s.windows), TokensPerSecond: meter.rate(),
		Windows: len(s.indices), AverageLoss: math.NaN(),
	}
	err := s.measure(ctx, &r)
	if ctx.Err() != nil {
		return SoloResult{}, s.stopped()
	}
	return r, err
}

// rest keeps to the duty after a step, unless ctx ends first or nothing is left to do.
func (s *Solo) rest(ctx context.Context, step time.Duration) {
	rest := s.pace().Rest(step)
	if rest <= 0 || s.windows >= s.budget {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(rest):
	}
}

// pace returns the duty that the cards allow now.
func (s *Solo) pace() Duty {
	if s.cfg.Cards == nil {
		return s.cfg.Duty
	}
	if now := time.Now(); now.Sub(s.governor.seen) >= CardsEvery {
		if cards, err := s.cfg.Cards(); err == nil { // a card that tells nothing now is believed to be as before
			s.paced, _ = s.governor.Look(now, cards)
		}
	}
	return s.paced
}

// next makes a step on the next windows of the order and counts it.
func (s *Solo) next() (StepResult, error) {
	micros := s.growth.micros((s.budget - s.windows) / uint64(s.cfg.Trainer.Batch))
	s.room(micros * s.cfg.Trainer.Batch)
	for i := range s.indices {
		s.indices[i] = s.order.At(s.windows + uint64(i))
	}
	if err := s.train.Batch(s.inputs, s.targets, s.indices...); err != nil {
		return StepResult{}, err
	}
	after := s.windows + uint64(len(s.indices))
	factor := s.cfg.Trainer.Optimizer().RateFactor(s.growth.factor(micros))
	r, err := s.trainer.step(s.inputs, s.targets, float64(after)/float64(s.budget), factor)
	if err != nil {
		return r, err
	}
	s.growth.learn(micros, r)
	if s.average != nil {
		s.average.Add(len(s.indices))
	}
	s.windows = after
	s.step++
	return r, nil
}

// room makes the step's buffers hold so many windows; they keep the largest memory.
func (s *Solo) room(windows int) {
	tokens := windows * s.cfg.Trainer.Model.Context
	if cap(s.indices) < windows {
		s.indices, s.inputs, s.targets = make([]int, windows), make([]int32, tokens), make([]int32, tokens)
	}
	s.indices, s.inputs, s.targets = s.indices[:windows], s.inputs[:tokens], s.targets[:tokens]
}

// advise adds what to do about a training that has diverged, or whose device is gone.
func (s *Solo) advise(err error) error {
	switch {
	case errors.Is(err, model.ErrNotFinite) || errors.Is(err, optimizer.ErrNotFinite):
		return fmt.Errorf("%w: try a lower --lr", err)
	case errors.Is(err, compute.ErrLost) && s.saved >= 0:
		return fmt.Errorf("%w; the same command goes on from step %d, saved in %s", err, s.saved, s.cfg.Out)
	}
	return err
}

func (s *Solo) stopped() error {
	if err := s.save(); err != nil {
		return err
	}
	stopped := &Stopped{Step: s.step, Steps: s.cfg.Steps, Out: s.cfg.Out}
	if s.cfg.Adaptive {
		stopped.Steps = 0
	}
	return stopped
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
	if s.average != nil {
		s.average.Swap()
		r.AverageLoss, err = s.trainer.Model().Evaluate(ctx, s.heldOut, indices)
		s.average.Swap()
		if err != nil {
			return fmt.Errorf("held-out loss of the averaged weights: %w", err)
		}
	}
	if r.Baselines, err = data.CountNGrams(s.cfg.Data.Train, s.cfg.Data.Tokenizer.Vocab(), s.heldOut, indices); err != nil {
		return fmt.Errorf("baselines: %w", err)
	}
	return nil
}
