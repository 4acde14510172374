package peer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"dunlin/compute"
)

// Speed is how fast a device trains.
type Speed struct {
	Steps           int
	TokensPerSecond float64
	FLOPPerSecond   float64 // by model.Config.FLOPPerToken
}

// MeasureSpeed makes training steps on random tokens for the given time, after two steps that are not counted, and at
// least three that are. The model is thrown away.
func MeasureSpeed(ctx context.Context, device compute.Device, cfg TrainerConfig, lasting time.Duration) (Speed, error) {
	t, err := NewTrainer(device, cfg)
	if err != nil {
		return Speed{}, err
	}
	defer t.Close()
	t.Model().Init(1)
	rng := rand.New(rand.NewPCG(1, 1))
	n := cfg.Batch * cfg.Model.Context
	tokens, targets := make([]int32, n), make([]int32, n)
	for i := range tokens {
		tokens[i], targets[i] = rng.Int32N(int32(cfg.Model.Vocab)), rng.Int32N(int32(cfg.Model.Vocab))
	}
	const warm, least = 2, 3
	var began time.Time
	for made := 0; ; made++ {
		if made == warm {
			began = time.Now()
		}
		if took := time.Since(began); made >= warm+least && took >= lasting {
			rate := float64((made-warm)*n) / took.Seconds()
			return Speed{Steps: made - warm, TokensPerSecond: rate, FLOPPerSecond: rate * cfg.Model.FLOPPerToken(cfg.Model.Context)}, nil
		}
		if err := ctx.Err(); err != nil {
			return Speed{}, fmt.Errorf("measure speed: %w", err)
		}
		if _, err := t.Step(tokens, targets, 0.5); err != nil {
			return Speed{}, fmt.Errorf("measure speed: %w", err)
		}
	}
}
