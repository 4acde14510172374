package training

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/compute"
)

// Speed is how fast a device trains.
type Speed struct {
	Steps           int
	Samples         int     // stretches of steps timed one by one
	Rejected        int     // of them, taken while the processor gave less than it can
	TokensPerSecond float64 // median of the samples that count
	FLOPPerSecond   float64 // by model.Config.FLOPPerToken
}

// sampleTime is the least that one sample lasts.
const sampleTime = 100 * time.Millisecond

// MeasureSpeed makes whole training steps on random tokens for the given time, after two steps that are not counted, and
// at least three samples that are. The model is thrown away. With a probe, which measures the processor's peak for a
// moment, every sample lies between two of them and counts only if both came near the best one (see steady); it then goes
// on for up to three times as long to find three samples that count.
func MeasureSpeed(ctx context.Context, device compute.Device, cfg TrainerConfig, lasting time.Duration, probe func() float64) (Speed, error) {
	b, err := newBenchmark(device, cfg)
	if err != nil {
		return Speed{}, err
	}
	defer b.trainer.Close()
	if probe == nil {
		probe = func() float64 { return 1 }
	}
	for range 2 {
		if _, _, err := b.steps(ctx, 0); err != nil {
			return Speed{}, err
		}
	}
	const least = 3
	var speed Speed
	var samples []sample
	last := probe()
	for began := time.Now(); ; {
		made, took, err := b.steps(ctx, min(lasting, sampleTime))
		if err != nil {
			return Speed{}, err
		}
		s := sample{rate: float64(made*len(b.tokens)) / took.Seconds(), before: last, after: probe()}
		last = s.after
		samples = append(samples, s)
		speed.Steps += made
		rate, accepted := steady(samples)
		if passed := time.Since(began); len(samples) >= least && passed >= lasting && (accepted >= least || passed >= 3*lasting) {
			speed.Samples, speed.Rejected = len(samples), len(samples)-accepted
			speed.TokensPerSecond, speed.FLOPPerSecond = rate, rate*cfg.Model.FLOPPerToken(cfg.Model.Context)
			return speed, nil
		}
	}
}

// benchmark trains on random tokens.
type benchmark struct {
	trainer         *Trainer
	tokens, targets []int32
}

func newBenchmark(device compute.Device, cfg TrainerConfig) (*benchmark, error) {
	t, err := NewTrainer(device, cfg)
	if err != nil {
		return nil, err
	}
	t.Model().Init(1)
	rng := rand.New(rand.NewPCG(1, 1))
	n := cfg.Batch * cfg.Model.Context
	b := &benchmark{trainer: t, tokens: make([]int32, n), targets: make([]int32, n)}
	for i := range b.tokens {
		b.tokens[i], b.targets[i] = rng.Int32N(int32(cfg.Model.Vocab)), rng.Int32N(int32(cfg.Model.Vocab))
	}
	return b, nil
}

// steps makes steps until the time is over, at least one.
func (b *benchmark) steps(ctx context.Context, lasting time.Duration) (made int, took time.Duration, err error) {
	for began := time.Now(); made == 0 || took < lasting; took = time.Since(began) {
		if err := ctx.Err(); err != nil {
			return made, took, fmt.Errorf("measure speed: %w", err)
		}
		if _, err := b.trainer.Step(b.tokens, b.targets, 0.5); err != nil {
			return made, took, fmt.Errorf("measure speed: %w", err)
		}
		made++
	}
	return made, took, nil
}

// Profile says where the time of training steps goes.
type Profile struct {
	Steps      int
	Step       time.Duration // mean
	Operations []compute.Lap // of all steps, the longest first
}

// MeasureProfile makes steps as MeasureSpeed does and times the device's operations by a clock that runs from any moment.
// The device is a processor: one that is done when a call returns.
func MeasureProfile(ctx context.Context, device compute.Device, cfg TrainerConfig, lasting time.Duration, clock func() time.Duration) (Profile, error) {
	watch := &compute.Stopwatch{Device: device, Clock: clock}
	b, err := newBenchmark(watch, cfg)
	if err != nil {
		return Profile{}, err
	}
	defer b.trainer.Close()
	for range 2 {
		if _, _, err := b.steps(ctx, 0); err != nil {
			return Profile{}, err
		}
	}
	watch.Reset()
	began := clock()
	made, _, err := b.steps(ctx, lasting)
	if err != nil {
		return Profile{}, err
	}
	return Profile{Steps: made, Step: (clock() - began) / time.Duration(made), Operations: watch.Laps()}, nil
}

// sample is a rate and the peaks measured right before and after it.
type sample struct{ rate, before, after float64 }

// near is the share of the best probe that the probes beside a sample must reach. A virtual machine may, for seconds,
// run two processors on one core; then they reach half.
const near = 0.8

// steady returns the median rate of the samples whose probes came near the best one, and their number. If there is none
// it is the median of all.
func steady(samples []sample) (rate float64, accepted int) {
	best := 0.0
	for _, s := range samples {
		best = max(best, s.before, s.after)
	}
	var rates, all []float64
	for _, s := range samples {
		all = append(all, s.rate)
		if min(s.before, s.after) >= near*best {
			rates = append(rates, s.rate)
		}
	}
	accepted = len(rates)
	if accepted == 0 {
		rates = all
	}
	slices.Sort(rates)
	mid := len(rates) / 2
	return (rates[mid] + rates[(len(rates)-1)/2]) / 2, accepted
}
