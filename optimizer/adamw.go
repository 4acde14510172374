package optimizer

import (
	"errors"
	"math"

	"dunlin/compute"
)

// AdamWConfig holds the constants of AdamW: Adam with decoupled weight decay
// (Loshchilov and Hutter, arXiv 1711.05101).
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

// Name implements Config.
func (c AdamWConfig) Name() string { return "adamw" }

// Validate implements Config.
func (c AdamWConfig) Validate() error { return c.validate(c.Name()) }

func (c AdamWConfig) validate(name string) error {
	return errors.Join(
		checkDecay(name, "beta1", c.Beta1), checkDecay(name, "beta2", c.Beta2), checkEps(name, c.Eps), checkClip(name, c.Clip))
}

// RateFactor implements Config: the root of kappa, since Adam's step does not grow
// with the gradient but its noise does (Malladi et al., arXiv 2205.10287).
func (c AdamWConfig) RateFactor(kappa float64) float64 { return math.Sqrt(kappa) }

func (c AdamWConfig) clipping() float64 { return c.Clip }

// ramp is the factor of the k-th step's rate.
func (c AdamWConfig) ramp(k int) float64 {
	if !c.Joiner {
		return 1
	}
	return math.Min(1, float64(k)*(1-c.Beta2)/2)
}

// adamW is one device operation over everything.
type adamW struct {
	*core
	cfg AdamWConfig
	op  compute.AdamW
}

// Names of Adam's moments in a state.
const (
	firstMoment  = "adamw.m."
	secondMoment = "adamw.v."
)

func (c AdamWConfig) open(core *core) (Inner, error) {
	a := &adamW{core: core, cfg: c}
	a.op = compute.AdamW{Params: core.params, Grads: core.grads, Decay: core.decayed(), Beta1: c.Beta1, Beta2: c.Beta2, Eps: c.Eps}
	var err1, err2 error
	a.op.M, err1 = core.moment(firstMoment)
	a.op.V, err2 = core.moment(secondMoment)
	return a, errors.Join(err1, err2)
}

// Step implements Inner.
func (a *adamW) Step(learningRate, weightDecay, gradScale float64) (float64, error) {
	norm, scale, err := a.begin(gradScale)
	if err != nil {
		return norm, err
	}
	a.op.Step = a.steps
	a.op.GradScale = float32(scale)
	a.op.LR = learningRate * a.cfg.ramp(a.steps)
	a.op.WeightDecay = weightDecay
	a.device.AdamW(a.op)
	return norm, nil
}
