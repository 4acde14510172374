package optimizer

import (
	"fmt"
	"math"
)

// Outer is the outer optimizer: Nesterov momentum in PyTorch's form, without
// dampening and weight decay (DiLoCo, arXiv 2311.08105, algorithm 1). The zero
// value is not valid.
type Outer struct {
	// LearningRate η, above 0, at most 2.
	LearningRate float32
	// Momentum μ, 0 to less than 1. With 0 the step is plain averaging.
	Momentum float32
}

// Validate checks the ranges of the fields.
func (o Outer) Validate() error {
	if !(o.LearningRate > 0 && o.LearningRate <= 2) {
		return fmt.Errorf("outer learning rate %g: allowed are values above 0, at most 2", o.LearningRate)
	}
	if !(o.Momentum >= 0 && o.Momentum < 1) {
		return fmt.Errorf("outer momentum %g: allowed are 0 to less than 1", o.Momentum)
	}
	return nil
}

// Step computes the next weights and momentum from the current ones and the mean
// outer gradient (old weights minus new). All five slices have one length; the
// destinations may be the sources. Per value:
//
//	b' = μ·b + g
//	w' = w − η·(g + μ·b')
//
// It reports whether every new weight and momentum is finite. If not, the result
// must be thrown away: the commit is a null commit for everyone (protocol, R9).
func (o Outer) Step(newWeights, newMomentum, weights, momentum, gradient []float32) bool {
	n := len(weights)
	if len(newWeights) != n || len(newMomentum) != n || len(momentum) != n || len(gradient) != n {
		panic(fmt.Sprintf("optimizer: outer step on slices of %d, %d, %d, %d and %d values",
			len(newWeights), len(newMomentum), n, len(momentum), len(gradient)))
	}
	return nesterov(newWeights, newMomentum, weights, momentum, gradient, o.LearningRate, o.Momentum)
}

// nesterov is normative (protocol, R9): every product is rounded to float32 before
// it is added to anything, so that no compiler may fuse the two.
//
//go:noinline
func nesterov(newWeights, newMomentum, weights, momentum, gradient []float32, rate, mu float32) bool {
	// One length for all lets the compiler drop the bounds checks.
	n := len(weights)
	newWeights, newMomentum, momentum, gradient = newWeights[:n], newMomentum[:n], momentum[:n], gradient[:n]
	var bad uint32
	for i, w := range weights {
		g := gradient[i]
		b := float32(mu*momentum[i]) + g
		d := g + float32(mu*b)
		w -= float32(rate * d)
		newMomentum[i] = b
		newWeights[i] = w
		bad |= exponentFull(b) | exponentFull(w)
	}
	return bad&0x80000000 == 0
}

// exponentFull returns a number whose highest bit is set exactly when x is infinite
// or not a number.
func exponentFull(x float32) uint32 {
	return math.Float32bits(x)&0x7fffffff + 0x00800000
}
