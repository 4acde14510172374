package optimizer

import (
	"errors"
	"fmt"
	"math"

	"dunlin/compute"
)

// AdaGradConfig holds the constants of AdaGrad-Norm (Ward, Wu and Bottou, arXiv
// 1806.01811, algorithm 1), one rate for all parameters that falls with the sum of
// all squared norms so far, and with it the weight decay:
//
//	b² ← b² + |g|²      p ← p·(1 − lr/b · wd) − lr/b · g
//
// Its only state is b², so that it costs no memory.
type AdaGradConfig struct {
	Start float64 // b before the first step, above 0: a norm that is small for this model
	Clip  float64 // largest global norm of a gradient, 0 for no clipping
}

// Name implements Config.
func (c AdaGradConfig) Name() string { return "adagrad" }

// Validate implements Config.
func (c AdaGradConfig) Validate() error {
	var start error
	if !(c.Start > 0) || math.IsInf(c.Start, 0) {
		start = fmt.Errorf("adagrad start %g: allowed are finite values above 0", c.Start)
	}
	return errors.Join(start, checkClip(c.Name(), c.Clip))
}

// RateFactor implements Config: 1, since b follows the gradients by itself.
func (c AdaGradConfig) RateFactor(float64) float64 { return 1 }

func (c AdaGradConfig) clipping() float64 { return c.Clip }

type adaGrad struct {
	*core
	sum float64 // b², always a value that splitSum can write
}

func (c AdaGradConfig) open(core *core) (Inner, error) {
	a := &adaGrad{core: core}
	a.sum = joinSum(splitSum(c.Start * c.Start))
	return a, nil
}

// Step implements Inner.
func (a *adaGrad) Step(learningRate, weightDecay, gradScale float64) (float64, error) {
	norm, scale, err := a.begin(gradScale)
	if err != nil {
		return norm, err
	}
	if gradScale != 0 {
		clipped := norm * (scale / gradScale)
		a.sum = joinSum(splitSum(a.sum + clipped*clipped))
	}
	rate := learningRate / math.Sqrt(a.sum)
	a.descend(rate*weightDecay, rate*scale, a.grads)
	return norm, nil
}

// sumTensor is the name of b² in a state: a high and a low part.
const sumTensor = "adagrad.sum"

// splitSum writes a float64 as the sum of two float32, in which tensors are kept;
// the last bits that they cannot hold are lost, and steps do without them too.
func splitSum(x float64) (high, low float32) {
	x = math.Min(x, math.MaxFloat32)
	high = float32(x)
	return high, float32(x - float64(high))
}

func joinSum(high, low float32) float64 { return float64(high) + float64(low) }

// Save implements Inner.
func (a *adaGrad) Save() (State, error) {
	high, low := splitSum(a.sum)
	t := compute.Tensor{Name: sumTensor, Shape: []int{2}, Data: []float32{high, low}}
	return State{Steps: a.steps, Tensors: []compute.Tensor{t}}, nil
}

// Load implements Inner.
func (a *adaGrad) Load(s State) error {
	byName, err := a.check(s)
	if err != nil {
		return err
	}
	data := byName[sumTensor].Data
	if len(data) != 2 {
		return fmt.Errorf("load optimizer state: %w: %s has %d values, want 2", ErrState, sumTensor, len(data))
	}
	sum := joinSum(data[0], data[1])
	if !(sum > 0) || math.IsInf(sum, 0) {
		return fmt.Errorf("load optimizer state: %w: %s is %g, want a finite value above 0", ErrState, sumTensor, sum)
	}
	a.sum, a.steps = sum, s.Steps
	return nil
}
