package optimizer

import (
	"errors"

	"dunlin/compute"
)

// SGDConfig holds the constants of stochastic gradient descent with heavy-ball or
// Nesterov momentum, in PyTorch's form without dampening, and with decoupled
// weight decay:
//
//	b ← Momentum·b + g      u = g + Momentum·b (Nesterov), else b      p ← p·(1 − lr·wd) − lr·u
type SGDConfig struct {
	Momentum float64 // [0, 1); 0 keeps no state
	Nesterov bool    // needs a momentum
	Clip     float64 // largest global norm of a gradient, 0 for no clipping
}

// Name implements Config.
func (c SGDConfig) Name() string { return "sgd" }

// Validate implements Config.
func (c SGDConfig) Validate() error {
	var nesterov error
	if c.Nesterov && c.Momentum == 0 {
		nesterov = errors.New("sgd nesterov: needs a momentum above 0")
	}
	return errors.Join(checkDecay(c.Name(), "momentum", c.Momentum), checkClip(c.Name(), c.Clip), nesterov)
}

// RateFactor implements Config: kappa, since the mean of more gradients has the
// same size and less noise (Goyal et al., arXiv 1706.02677).
func (c SGDConfig) RateFactor(kappa float64) float64 { return kappa }

func (c SGDConfig) clipping() float64 { return c.Clip }

type sgd struct {
	*core
	cfg      SGDConfig
	momentum compute.Buffer // empty without momentum
}

func (c SGDConfig) open(core *core) (Inner, error) {
	s := &sgd{core: core, cfg: c}
	var err error
	if c.Momentum > 0 {
		s.momentum, err = core.moment("sgd.momentum.")
	}
	return s, err
}

// Step implements Inner.
func (s *sgd) Step(learningRate, weightDecay, gradScale float64) (float64, error) {
	norm, scale, err := s.begin(gradScale)
	if err != nil {
		return norm, err
	}
	decay := learningRate * weightDecay
	mu := s.cfg.Momentum
	if mu == 0 {
		s.descend(decay, learningRate*scale, s.grads)
		return norm, nil
	}
	s.device.Combine(s.momentum, float32(mu), s.momentum, float32(scale), s.grads)
	if !s.cfg.Nesterov {
		s.descend(decay, learningRate, s.momentum)
		return norm, nil
	}
	s.descend(decay, learningRate*mu, s.momentum)
	s.device.Combine(s.params, 1, s.params, float32(-learningRate*scale), s.grads)
	return norm, nil
}
