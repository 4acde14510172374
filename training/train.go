package training

import (
	"errors"
	"fmt"
	"math"

	"dunlin/compute"
	"dunlin/model"
	"dunlin/optimizer"
)

// TrainerConfig says what one inner step is.
type TrainerConfig struct {
	Model       model.Config
	Batch       int                // windows in one micro-batch, 1 to 4,096
	LR          optimizer.Schedule // learning rate, a function of progress
	WeightDecay optimizer.Schedule // decoupled weight decay, a function of progress
	AdamW       optimizer.AdamWConfig
	Inner       optimizer.Config // what makes the steps instead of AdamW; nil for AdamW
	Room        model.Room       // of a Plan; the zero value passes a micro-batch at once and keeps everything
}

// Validate lists every fault.
func (c TrainerConfig) Validate() error {
	var batch error
	if c.Batch < 1 || c.Batch > 4096 {
		batch = fmt.Errorf("batch of %d windows: allowed are 1 to 4096", c.Batch)
	}
	if room := c.room(); batch == nil && (room.Batch < 1 || c.Batch%room.Batch != 0) {
		batch = fmt.Errorf("passes of %d windows: a micro-batch of %d is no multiple", room.Batch, c.Batch)
	}
	return errors.Join(c.Model.Validate(), batch, c.room().Validate(c.Model.Layers), c.LR.Validate(), c.WeightDecay.Validate(), c.Optimizer().Validate())
}

// Optimizer is the configuration of the optimizer that makes the steps.
func (c TrainerConfig) Optimizer() optimizer.Config {
	if c.Inner == nil {
		return c.AdamW
	}
	return c.Inner
}

// room is where the model lies.
func (c TrainerConfig) room() model.Room {
	if c.Room == (model.Room{}) {
		return model.Room{Batch: c.Batch}
	}
	return c.Room
}

// Trainer is the inner loop's step: gradients of one or more micro-batches, then the inner optimizer. It serves
// `dunlin train` and the workers of a swarm alike. One goroutine at a time uses it; between two steps that goroutine
// may read and write parameters, which is how commits are merged.
type Trainer struct {
	cfg    TrainerConfig
	device compute.Device
	model  *model.Model
	inner  optimizer.Inner
	params []model.Param
}

// StepResult is what one step tells.
type StepResult struct {
	Loss      float64 // mean over the batch before the step, nats a token
	Norm      float64 // of the gradient before clipping
	FirstNorm float64 // of the first micro-batch's gradient; 0 when there was one
	LR        float64 // learning rate of the step, without a joiner's ramp
}

// NewTrainer allocates a model with zero parameters and an optimizer with zero moments on a device, which stays the
// caller's.
func NewTrainer(device compute.Device, cfg TrainerConfig) (*Trainer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := model.NewIn(cfg.room(), cfg.Model, device)
	if err != nil {
		return nil, err
	}
	inner, err := optimizer.New(Target(device, m.Params(), m.Grads(), cfg.Model.Params()), cfg.Optimizer())
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	t := &Trainer{cfg: cfg, device: device, model: m, inner: inner, params: cfg.Model.Params()}
	if err := t.rehearse(); err != nil {
		return nil, errors.Join(fmt.Errorf("rehearse a step: %w", err), t.Close())
	}
	return t, nil
}

// rehearse passes zeros through a model on a device with memory of its own. What such a device takes for itself it takes
// as it computes; if there is too little, that shows now, when there can still be another plan.
func (t *Trainer) rehearse() error {
	if _, apart := t.device.(compute.Meter); !apart {
		return nil
	}
	windows := t.cfg.room().Batch
	tokens := make([]int32, windows*t.cfg.Model.Context)
	_, err := t.model.ForwardBackward(tokens, tokens, windows)
	return errors.Join(err, t.device.Sync())
}

// Target is what an optimizer steps: the parameters of a model or of a part of it, which these are.
func Target(device compute.Device, values, grads compute.Buffer, params []model.Param) optimizer.Target {
	t := optimizer.Target{Device: device, Params: values, Grads: grads}
	for _, p := range params {
		t.Tensors = append(t.Tensors, compute.Tensor{Name: p.Name, Shape: p.Shape})
		if p.Layer < 0 {
			t.Lookups = append(t.Lookups, p.Name)
		}
		if p.Init == model.InitRows {
			t.Lasting = append(t.Lasting, p.Name)
		}
	}
	return t
}

// Close gives the memory back to the device.
func (t *Trainer) Close() error {
	err := t.model.Close()
	t.inner.Close()
	return err
}

// Model gives access to evaluation, generation and initial values between steps.
func (t *Trainer) Model() *model.Model { return t.model }

// Params lists the parameters in buffer order.
func (t *Trainer) Params() []model.Param { return t.params }

// Inner is the optimizer, whose moments are a part of what training goes on from.
func (t *Trainer) Inner() optimizer.Inner { return t.inner }

// Step trains on one or more micro-batches: each Batch windows of Context inputs and their targets, one after the
// other. Their gradients are summed and divided by their number, which is the gradient of one large batch but for
// rounding; so are those of the passes that make up a micro-batch. A model that lends its gradients' memory takes one
// pass a step. progress is the run's clock at the end of the step, in [0, 1] (protocol, R3a). When loss or gradient are
// not finite it returns an error that wraps model.ErrNotFinite or optimizer.ErrNotFinite and changes no parameter.
func (t *Trainer) Step(tokens, targets []int32, progress float64) (StepResult, error) {
	return t.step(tokens, targets, progress, 1)
}

// step is Step with a learning rate multiplied by rateFactor.
func (t *Trainer) step(tokens, targets []int32, progress, rateFactor float64) (StepResult, error) {
	context, room := t.cfg.Model.Context, t.cfg.room()
	size, pass := t.cfg.Batch*context, room.Batch*context
	if len(tokens) == 0 || len(tokens)%size != 0 || len(targets) != len(tokens) {
		return StepResult{}, fmt.Errorf("step on %d tokens and %d targets: whole micro-batches of %d are needed", len(tokens), len(targets), size)
	}
	passes, first := len(tokens)/pass, size/pass
	if room.Lend && passes > 1 {
		return StepResult{}, fmt.Errorf("step of %d passes: gradients that lend their memory take one", passes)
	}
	result := StepResult{LR: t.cfg.LR.At(progress) * rateFactor}
	t.model.ZeroGrad()
	for i := range passes {
		from, to := i*pass, (i+1)*pass
		loss, err := t.model.ForwardBackward(tokens[from:to], targets[from:to], room.Batch)
		if err != nil {
			return StepResult{}, err
		}
		result.Loss += float64(loss) / float64(passes)
		if i == first-1 && passes > first {
			result.FirstNorm = math.Sqrt(t.device.SumSquares(t.model.Grads())) / float64(first)
		}
	}
	var err error
	result.Norm, err = t.inner.Step(result.LR, t.cfg.WeightDecay.At(progress), 1/float64(passes))
	if errors.Is(err, optimizer.ErrNotFinite) {
		// The norm of a device that failed meanwhile is not a number either.
		if failed := t.device.Sync(); failed != nil {
			err = failed
		}
	}
	return result, err
}

// Read copies parameter number i of Params to dst, which has its size.
func (t *Trainer) Read(dst []float32, i int) error {
	p := t.params[i]
	if len(dst) != p.Size {
		return fmt.Errorf("read %s: room for %d values, it has %d", p.Name, len(dst), p.Size)
	}
	return t.device.Download(dst, t.model.Params().Slice(p.Offset, p.Offset+p.Size))
}

// Write sets parameter number i of Params.
func (t *Trainer) Write(i int, src []float32) error {
	p := t.params[i]
	if len(src) != p.Size {
		return fmt.Errorf("write %s: %d values, it has %d", p.Name, len(src), p.Size)
	}
	t.device.Upload(t.model.Params().Slice(p.Offset, p.Offset+p.Size), src)
	return nil
}
