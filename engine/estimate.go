package engine

import (
	"context"
	"time"

	"dunlin/compute"
	"dunlin/recipe"
	"dunlin/training"
	"dunlin/wire"
)

// A worker's first estimate of its speed takes about estimateTime. A model whose step takes more arithmetic than
// estimateFLOPs is stood for by one layer of it.
const (
	estimateTime  = 300 * time.Millisecond
	estimateFLOPs = 2e9
)

// EstimateSpeed returns the tokens a second at which a device would train a run's model, before anything of the run is
// here: timed for a moment (exact) or, for a large model, scaled by arithmetic from one layer of it.
func EstimateSpeed(ctx context.Context, spec *wire.RunSpec, device compute.Device) (tokensPerSecond float64, exact bool, err error) {
	cfg, err := recipe.Trainer(spec, false)
	if err != nil {
		return 0, false, err
	}
	perToken := cfg.Model.FLOPPerToken(cfg.Model.Context)
	exact = perToken*float64(cfg.Batch*cfg.Model.Context) <= estimateFLOPs
	if !exact {
		cfg.Model.Layers, cfg.Model.Vocab, cfg.Batch = 1, min(cfg.Model.Vocab, 256), 1
	}
	speed, err := training.MeasureSpeed(ctx, device, cfg, estimateTime, nil)
	return speed.FLOPPerSecond / perToken, exact, err
}
