package peer

import (
	"errors"
	"fmt"

	"dunlin/compute"
	"dunlin/model"
	"dunlin/optimizer"
)

// TrainerConfig says what one inner step is.
type TrainerConfig struct {
	Model       model.Config
	Batch       int                // windows in one step, 1 to 4,096
	LR          optimizer.Schedule // learning rate, a function of progress
	WeightDecay optimizer.Schedule // decoupled weight decay, a function of progress
	AdamW       optimizer.AdamWConfig
	Inner       optimizer.Config // what makes the steps instead of AdamW; nil for AdamW
}

// Validate lists every fault.
func (c TrainerConfig) Validate() error {
	var batch error
	if c.Batch < 1 || c.Batch > 4096 {
		batch = fmt.Errorf("batch of %d windows: allowed are 1 to 4096", c.Batch)
	}
	return errors.Join(c.Model.Validate(), batch, c.LR.Validate(), c.WeightDecay.Validate(), c.inner().Validate())
}

// inner is the configuration of the optimizer that makes the steps.
func (c TrainerConfig) inner() optimizer.Config {
	if c.Inner == nil {
		return c.AdamW
	}
	return c.Inner
}

// Trainer is the inner loop's step: gradients of one batch, then the inner optimizer. It serves `dunlin train` and the workers of a
// swarm alike. One goroutine at a time uses it; between two steps that goroutine may read and write parameters, which
// is how commits are merged.
type Trainer struct {
	cfg    TrainerConfig
	device compute.Device
	model  *model.Model
	inner  optimizer.Inner
	params []model.Param
}

// StepResult is what one step tells.
type StepResult struct {
	Loss float64 // mean over the batch before the step, nats a token
	Norm float64 // of the gradient before clipping
	LR   float64 // learning rate of the step, without a joiner's ramp
}

// NewTrainer allocates a model with zero parameters and an optimizer with zero moments on a device, which stays the
// caller's.
func NewTrainer(device compute.Device, cfg TrainerConfig) (*Trainer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := model.New(cfg.Model, device, cfg.Batch)
	if err != nil {
		return nil, err
	}
	inner, err := optimizer.New(target(device, m), cfg.inner())
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &Trainer{cfg: cfg, device: device, model: m, inner: inner, params: cfg.Model.Params()}, nil
}

// target is what an optimizer steps: all parameters of a model.
func target(device compute.Device, m *model.Model) optimizer.Target {
	t := optimizer.Target{Device: device, Params: m.Params(), Grads: m.Grads(), Tensors: m.Shapes()}
	for _, p := range m.Config().Params() {
		if p.Layer < 0 {
			t.Lookups = append(t.Lookups, p.Name)
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

// Steps counts the steps that the optimizer's moments have seen.
func (t *Trainer) Steps() int { return t.inner.Steps() }

// Step trains on one batch: Batch windows of Context inputs and their targets, one after the other. progress is the
// run's clock at the end of the step, in [0, 1] (protocol, R3a). When loss or gradient are not finite it returns an
// error that wraps model.ErrNotFinite or optimizer.ErrNotFinite and changes no parameter.
func (t *Trainer) Step(tokens, targets []int32, progress float64) (StepResult, error) {
	t.model.ZeroGrad()
	loss, err := t.model.ForwardBackward(tokens, targets, t.cfg.Batch)
	if err != nil {
		return StepResult{}, err
	}
	result := StepResult{Loss: float64(loss), LR: t.cfg.LR.At(progress)}
	result.Norm, err = t.inner.Step(result.LR, t.cfg.WeightDecay.At(progress), 1)
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

// Moments copies the optimizer's state.
func (t *Trainer) Moments() (optimizer.State, error) { return t.inner.Save() }

// SetMoments restores what Moments returned. An error leaves the optimizer as it was.
func (t *Trainer) SetMoments(s optimizer.State) error { return t.inner.Load(s) }
