package optimizer

import (
	"errors"
	"math"

	"dunlin/compute"
)

// RMSPropConfig holds the constants of RMSProp (Tieleman and Hinton, lecture 6.5
// of 2012) in PyTorch's form, with decoupled weight decay:
//
//	v ← Alpha·v + (1 − Alpha)·g²      p ← p·(1 − lr·wd) − lr·g / (√v + Eps)
type RMSPropConfig struct {
	Alpha float64 // decay of the mean square, [0, 1)
	Eps   float64 // added to its root, above 0
	Clip  float64 // largest global norm of a gradient, 0 for no clipping
}

// Name implements Config.
func (c RMSPropConfig) Name() string { return "rmsprop" }

// Validate implements Config.
func (c RMSPropConfig) Validate() error {
	return errors.Join(checkDecay(c.Name(), "alpha", c.Alpha), checkEps(c.Name(), c.Eps), checkClip(c.Name(), c.Clip))
}

// RateFactor implements Config, as AdamW does.
func (c RMSPropConfig) RateFactor(kappa float64) float64 { return math.Sqrt(kappa) }

func (c RMSPropConfig) clipping() float64 { return c.Clip }

// rmsProp is Adam whose first moment is the gradient and whose corrections for the
// zero start are over: one device operation.
type rmsProp struct {
	*core
	op compute.AdamW
}

// uncorrected is a step number at which Adam's corrections are 1 in float64 for
// every decay that float32 can hold.
const uncorrected = math.MaxInt32

func (c RMSPropConfig) open(core *core) (Inner, error) {
	r := &rmsProp{core: core}
	r.op = compute.AdamW{
		Params: core.params, Grads: core.grads, Decay: core.decayed(),
		Beta1: 0, Beta2: c.Alpha, Eps: c.Eps, Step: uncorrected,
	}
	var err1, err2 error
	r.op.M, err1 = core.alloc(core.params.Len()) // scratch: with Beta1 = 0 a step does not depend on it
	r.op.V, err2 = core.moment("rmsprop.v.")
	return r, errors.Join(err1, err2)
}

// Step implements Inner.
func (r *rmsProp) Step(learningRate, weightDecay, gradScale float64) (float64, error) {
	norm, scale, err := r.begin(gradScale)
	if err != nil {
		return norm, err
	}
	r.op.GradScale, r.op.LR, r.op.WeightDecay = float32(scale), learningRate, weightDecay
	r.device.AdamW(r.op)
	return norm, nil
}
