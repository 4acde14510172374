package optimizer

import (
	"errors"
	"fmt"
	"math"

	"dunlin/compute"
)

// ErrNotFinite says that a gradient is infinite or not a number, so no step was made.
var ErrNotFinite = errors.New("gradient is not finite")

// ErrState is wrapped by every error about saved moments that do not fit.
var ErrState = errors.New("optimizer state does not fit")

// AdamWConfig holds the constants of AdamW. Rates that change with progress are
// arguments of Step.
type AdamWConfig struct {
	Beta1 float64 // decay of the first moment, [0, 1)
	Beta2 float64 // decay of the second moment, [0, 1)
	Eps   float64 // added to the root of the second moment, above 0
	Clip  float64 // largest global norm of a gradient, 0 for no clipping
	// Joiner slows the first steps of a worker that starts with zero moments in
	// the middle of a run: the rate of its k-th step is multiplied by
	// min(1, k·(1−Beta2)/2) (protocol, R3a).
	Joiner bool
}

// Validate checks the ranges of the fields.
func (c AdamWConfig) Validate() error {
	switch {
	case !(c.Beta1 >= 0 && c.Beta1 < 1), !(c.Beta2 >= 0 && c.Beta2 < 1):
		return fmt.Errorf("adamw betas %g and %g: allowed are 0 to less than 1", c.Beta1, c.Beta2)
	case !(c.Eps > 0) || math.IsInf(c.Eps, 0):
		return fmt.Errorf("adamw eps %g: allowed are finite values above 0", c.Eps)
	case !(c.Clip >= 0) || math.IsInf(c.Clip, 0):
		return fmt.Errorf("adamw clip %g: allowed are finite values above 0, or 0 for none", c.Clip)
	}
	return nil
}

// AdamW is the inner optimizer of one worker: Adam with decoupled weight decay
// (Loshchilov and Hutter, arXiv 1711.05101) and clipping by the global norm, over
// the flat parameters of a model. Tensors of two and more dimensions decay, the
// others (norms, biases) do not. Not safe for concurrent use.
type AdamW struct {
	cfg    AdamWConfig
	device compute.Device
	shapes []compute.Tensor // name and shape only
	op     compute.AdamW
}

// NewAdamW makes an optimizer with zero moments. params and grads are flat and of
// one length; tensors name their parts in order, from the first value to the last
// (only Name and Shape are read).
func NewAdamW(device compute.Device, params, grads compute.Buffer, tensors []compute.Tensor, cfg AdamWConfig) (*AdamW, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &AdamW{cfg: cfg, device: device}
	at := 0
	for _, t := range tensors {
		n, err := compute.Elements(t.Shape)
		if err != nil {
			return nil, fmt.Errorf("adamw: tensor %q: %w", t.Name, err)
		}
		a.shapes = append(a.shapes, compute.Tensor{Name: t.Name, Shape: t.Shape})
		if len(t.Shape) >= 2 {
			a.decay(at, at+n)
		}
		at += n
	}
	if params.Len() != at || grads.Len() != at {
		return nil, fmt.Errorf("adamw: %d parameters and %d gradients, the tensors have %d values", params.Len(), grads.Len(), at)
	}
	m, err := device.Alloc(at)
	if err != nil {
		return nil, fmt.Errorf("adamw: first moments: %w", err)
	}
	v, err := device.Alloc(at)
	if err != nil {
		device.Free(m)
		return nil, fmt.Errorf("adamw: second moments: %w", err)
	}
	a.op.Params, a.op.Grads, a.op.M, a.op.V = params, grads, m, v
	a.op.Beta1, a.op.Beta2, a.op.Eps = cfg.Beta1, cfg.Beta2, cfg.Eps
	return a, nil
}

// decay adds the values [from, to) to those that decay.
func (a *AdamW) decay(from, to int) {
	if last := len(a.op.Decay) - 1; last >= 0 && a.op.Decay[last].To == from {
		a.op.Decay[last].To = to
		return
	}
	a.op.Decay = append(a.op.Decay, compute.Range{From: from, To: to})
}

// Step makes one step with the gradients that are in the gradient buffer, each
// multiplied by gradScale first (1 divided by the number of accumulated
// micro-batches; 1 for none), and returns the norm of the scaled gradient before
// clipping. When that is not finite it changes nothing and returns ErrNotFinite.
func (a *AdamW) Step(learningRate, weightDecay, gradScale float64) (norm float64, err error) {
	norm = math.Sqrt(a.device.SumSquares(a.op.Grads)) * math.Abs(gradScale)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm, fmt.Errorf("adamw step %d: norm %g: %w", a.op.Step+1, norm, ErrNotFinite)
	}
	if a.cfg.Clip > 0 {
		gradScale *= math.Min(1, a.cfg.Clip/(norm+1e-6)) // PyTorch's clip_grad_norm_
	}
	a.op.Step++
	a.op.GradScale = float32(gradScale)
	a.op.LR = learningRate * a.ramp()
	a.op.WeightDecay = weightDecay
	a.device.AdamW(a.op)
	return norm, nil
}

func (a *AdamW) ramp() float64 {
	if !a.cfg.Joiner {
		return 1
	}
	return math.Min(1, float64(a.op.Step)*(1-a.cfg.Beta2)/2)
}

// Steps returns the number of steps made: the count of the bias correction.
func (a *AdamW) Steps() int { return a.op.Step }

// Close gives the moments' memory back to the device.
func (a *AdamW) Close() {
	a.device.Free(a.op.M)
	a.device.Free(a.op.V)
	a.op.M, a.op.V = compute.Buffer{}, compute.Buffer{}
}

// AdamWState is what an optimizer must keep to go on as if never stopped.
type AdamWState struct {
	Steps   int
	Tensors []compute.Tensor // "adamw.m.<name>" of every tensor, then "adamw.v.<name>"
}

const (
	firstMoment  = "adamw.m."
	secondMoment = "adamw.v."
)

// Save copies the state to the host.
func (a *AdamW) Save() (AdamWState, error) {
	s := AdamWState{Steps: a.op.Step}
	for _, part := range a.parts() {
		at := 0
		for _, shape := range a.shapes {
			t, err := compute.NewTensor(part.prefix+shape.Name, shape.Shape...)
			if err != nil {
				return AdamWState{}, fmt.Errorf("save optimizer state: %w", err)
			}
			if err := a.device.Download(t.Data, part.buffer.Slice(at, at+len(t.Data))); err != nil {
				return AdamWState{}, fmt.Errorf("save optimizer state: %w", err)
			}
			at += len(t.Data)
			s.Tensors = append(s.Tensors, t)
		}
	}
	return s, nil
}

// Load takes a saved state: the tensors in any order, each exactly once, others
// ignored. An error wraps ErrState and leaves the optimizer as it was.
func (a *AdamW) Load(s AdamWState) error {
	if s.Steps < 0 {
		return fmt.Errorf("load optimizer state: %w: %d steps", ErrState, s.Steps)
	}
	byName := make(map[string]compute.Tensor, len(s.Tensors))
	for _, t := range s.Tensors {
		if _, twice := byName[t.Name]; twice {
			return fmt.Errorf("load optimizer state: %w: %s is there twice", ErrState, t.Name)
		}
		byName[t.Name] = t
	}
	for _, part := range a.parts() {
		for _, shape := range a.shapes {
			t, ok := byName[part.prefix+shape.Name]
			n, _ := compute.Elements(shape.Shape) // checked by NewAdamW
			if !ok || len(t.Data) != n {
				return fmt.Errorf("load optimizer state: %w: %s has %d values, want %d", ErrState, part.prefix+shape.Name, len(t.Data), n)
			}
		}
	}
	for _, part := range a.parts() {
		at := 0
		for _, shape := range a.shapes {
			t := byName[part.prefix+shape.Name]
			a.device.Upload(part.buffer.Slice(at, at+len(t.Data)), t.Data)
			at += len(t.Data)
		}
	}
	a.op.Step = s.Steps
	return nil
}

type part struct {
	prefix string
	buffer compute.Buffer
}

func (a *AdamW) parts() [2]part {
	return [2]part{{firstMoment, a.op.M}, {secondMoment, a.op.V}}
}
