package optimizer

import (
	"errors"
	"math"

	"dunlin/compute"
)

// LAMBConfig holds the constants of LAMB (You et al., arXiv 1904.00962, algorithm
// 2, with the bias corrections): Adam's direction with weight decay inside of it,
// for every matrix scaled to the matrix's own norm, for large batches:
//
//	r = m̂/(√v̂ + Eps) + wd·w      w ← w − lr · |w|/|r| · r
//
// The ratio is 1 where either norm is 0 and for tensors of one dimension, which do
// not decay.
type LAMBConfig struct {
	Beta1 float64 // decay of the first moment, [0, 1)
	Beta2 float64 // decay of the second moment, [0, 1)
	Eps   float64 // added to the root of the second moment, above 0
	Clip  float64 // largest global norm of a gradient, 0 for no clipping
}

// Name implements Config.
func (c LAMBConfig) Name() string { return "lamb" }

// Validate implements Config.
func (c LAMBConfig) Validate() error {
	name := c.Name()
	return errors.Join(
		checkDecay(name, "beta1", c.Beta1), checkDecay(name, "beta2", c.Beta2), checkEps(name, c.Eps), checkClip(name, c.Clip))
}

// RateFactor implements Config: the root of kappa (the paper's section 4.2).
func (c LAMBConfig) RateFactor(kappa float64) float64 { return math.Sqrt(kappa) }

func (c LAMBConfig) clipping() float64 { return c.Clip }

type lamb struct {
	*core
	op compute.AdamW // whose parameters are the update
}

func (c LAMBConfig) open(core *core) (Inner, error) {
	l := &lamb{core: core}
	// With a rate of −1 and no decay, Adam's step from zero is its direction.
	l.op = compute.AdamW{Grads: core.grads, LR: -1, Beta1: c.Beta1, Beta2: c.Beta2, Eps: c.Eps}
	var err1, err2, err3 error
	l.op.Params, err1 = core.alloc(core.params.Len())
	l.op.M, err2 = core.moment("lamb.m.")
	l.op.V, err3 = core.moment("lamb.v.")
	return l, errors.Join(err1, err2, err3)
}

// Step implements Inner.
func (l *lamb) Step(learningRate, weightDecay, gradScale float64) (float64, error) {
	norm, scale, err := l.begin(gradScale)
	if err != nil {
		return norm, err
	}
	update := l.op.Params
	l.device.Zero(update)
	l.op.Step, l.op.GradScale = l.steps, float32(scale)
	l.device.AdamW(l.op)
	for _, p := range l.pieces {
		w, r := p.of(l.params), p.of(update)
		ratio := 1.0
		if p.decays {
			l.device.Combine(r, 1, r, float32(weightDecay), w)
			ratio = l.ratio(w, r)
		}
		l.device.Combine(w, 1, w, float32(-learningRate*ratio), r)
	}
	return norm, nil
}

// ratio is how much longer w is than r.
func (l *lamb) ratio(w, r compute.Buffer) float64 {
	long, short := math.Sqrt(l.device.SumSquares(w)), math.Sqrt(l.device.SumSquares(r))
	if long == 0 || short == 0 {
		return 1
	}
	return long / short
}
