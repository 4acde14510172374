package main

import (
	"cmp"

	"dunlin/plan"
	"dunlin/status"
	"dunlin/wire"
)

// expects reckons what a worker that makes so many tokens a second will send and receive at most in a day of training, by
// the run's settings as it began and within the limits; nil for a stage, whose speed others make.
func (c *Config) expects(spec *wire.RunSpec, speed float64) *status.Traffic {
	contribution, err := bitsOf(spec.Contribution)
	result, err2 := bitsOf(spec.Result)
	if spec.Staged() || speed <= 0 || cmp.Or(err, err2) != nil {
		return nil
	}
	day := plan.Traffic(float64(spec.Parameters()), contribution+result, float64(spec.H), float64(spec.StepTokens()), speed*c.Duty)
	allowed := func(bits int, bytes int64) float64 {
		most := day
		if bits > 0 {
			most = min(most, 86400*float64(bits)/8)
		}
		if bytes > 0 {
			most = min(most, float64(bytes))
		}
		return most
	}
	return &status.Traffic{Sends: allowed(c.Up, c.UpPerDay), Receives: allowed(c.Down, c.DownPerDay)}
}
