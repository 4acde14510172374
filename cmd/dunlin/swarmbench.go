package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dunlin/cmd/dunlin/localswarm"
	"dunlin/data"
	"dunlin/status"
)

func newBenchSwarm(t *terminal) *cobra.Command {
	return t.command("swarm", "what rounds cost: tokens a second of a swarm on this machine with rounds on and off",
		"  dunlin bench swarm\n  dunlin bench swarm --workers 2 --seconds 100 --json", exactly(), t.benchSwarm,
		append(t.settings.config.local(180, "out/bench-swarm"), t.settings.config.page())...)
}

// How a swarm is measured.
const (
	leastWindows = 10              // alternating, at least
	bestWindow   = 9 * time.Second // of measurement
	leastWindow  = 3 * time.Second
	settleWithin = 1500 * time.Millisecond // after a change, before counting
	startShare   = time.Minute             // for the first steps of all workers
)

// swarmSpeed is the outcome of `dunlin bench swarm`; its JSON form is promised to scripts.
type swarmSpeed struct {
	Preset             string        `json:"preset"`
	Workers            int           `json:"workers"`
	Threads            int           `json:"threads"` // of a worker
	InnerStepsPerOuter int           `json:"inner_steps_per_outer"`
	Fragments          int           `json:"fragments"`
	Efficiency         float64       `json:"efficiency"`            // ratio of the medians below
	Interval           [2]float64    `json:"efficiency_interval"`   // 95 %, bootstrap over windows
	On                 float64       `json:"tokens_per_second"`     // of all workers, rounds on: median of the windows
	Off                float64       `json:"tokens_per_second_off"` // rounds off
	Commits            uint64        `json:"commits"`
	Windows            []swarmWindow `json:"windows"`
}

// swarmWindow is one stretch of time with rounds on or off.
type swarmWindow struct {
	Rounds          bool    `json:"rounds"`
	TokensPerSecond float64 `json:"tokens_per_second"` // of all workers
}

func (t *terminal) benchSwarm(ctx context.Context, c *Config, _ []string) error {
	line := t.progress(c)
	defer line.close()
	result, err := c.measureSwarm(ctx, line)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(result)
	}
	_, err = fmt.Fprintf(t.out, "%s, %d workers of %d threads, H %d, %d fragments: %s tokens/s with rounds, %s without\nefficiency %.3f (%.3f to %.3f), medians of %d windows, %d commits\n",
		result.Preset, result.Workers, result.Threads, result.InnerStepsPerOuter, result.Fragments, rate(result.On), rate(result.Off),
		result.Efficiency, result.Interval[0], result.Interval[1], len(result.Windows), result.Commits)
	return err
}

// measureSwarm runs a swarm and switches its rounds on and off.
func (c *Config) measureSwarm(ctx context.Context, line *progress) (*swarmSpeed, error) {
	corpus, err := data.OpenWhole(c.Data)
	if err != nil {
		return nil, err
	}
	c.vocabulary = corpus.Coder().Vocab()
	recipe, err := c.chosen()
	if err != nil {
		return nil, err
	}
	s := &localswarm.Swarm{Dir: c.Out, Threads: c.Threads, Device: c.Device, Up: limitText(c.Up), Down: limitText(c.Down), Verbose: c.Verbose, Listen: c.Listen}
	if err := s.Prepare(); err != nil {
		return nil, err
	}
	s.Flags = c.runFlags("bench swarm", 1<<50) // a budget that is never reached: rates stay at their peak
	defer s.Stop()
	if err := s.Start(ctx, 1, c.Workers); err != nil {
		return nil, err
	}
	line.say(fmt.Sprintf("swarm          a coordinator and %d workers · page %s · logs in %s", c.Workers, s.Page, s.Path("logs")), "swarm", slog.String("page", s.Page))
	if _, err := s.AwaitTraining(ctx, c.Workers, startShare); err != nil {
		return nil, err
	}
	r := &swarmSpeed{Preset: c.Preset, Workers: c.Workers, Threads: c.Threads, InnerStepsPerOuter: recipe.H, Fragments: recipe.Fragments}
	count, length := windowPlan(seconds(c.Seconds))
	for i := range count {
		w := swarmWindow{Rounds: i%4 == 0 || i%4 == 3} // on off off on: a drift of the machine's speed cancels
		var err error
		if w.TokensPerSecond, err = window(ctx, s, w.Rounds, length); err != nil {
			return nil, err
		}
		r.Windows = append(r.Windows, w)
		word := map[bool]string{true: "on", false: "off"}[w.Rounds]
		line.step(fmt.Sprintf("measuring      window %d of %d · rounds %s · %s tokens/s", i+1, count, word, rate(w.TokensPerSecond)),
			slog.Int("window", i+1), slog.Bool("rounds", w.Rounds), slog.Float64("tokens_per_second", w.TokensPerSecond))
	}
	shot, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	r.Commits = shot.Health.Commits
	if r.Commits == 0 {
		return nil, errors.New("no round was committed: nothing was measured; give it more --seconds")
	}
	r.conclude()
	return r, nil
}

// windowPlan divides the time into an even number of windows.
func windowPlan(whole time.Duration) (count int, length time.Duration) {
	count = max(leastWindows, int(whole/(bestWindow+settleWithin)))
	count += count % 2
	return count, max(leastWindow, whole/time.Duration(count)-settleWithin)
}

// reading is one heartbeat's counters.
type reading struct{ tokens, clock uint64 }

// window switches rounds on or off, lets that settle and measures for a while: the sum of the workers' rates, each by
// its own clock, between the first heartbeat after settling and the newest one at the end.
func window(ctx context.Context, s *localswarm.Swarm, rounds bool, length time.Duration) (float64, error) {
	order := orderSoloOn
	if rounds {
		order = orderSoloOff
	}
	if err := s.Order(order); err != nil {
		return 0, err
	}
	begin := time.Now()
	before := readings(s)
	first := map[string]reading{}
	err := s.Watch(ctx, settleWithin+length+leastWindow, func(*status.Snapshot) bool {
		since := time.Since(begin)
		for id, now := range readings(s) {
			if _, taken := first[id]; !taken && since >= settleWithin && now.clock > before[id].clock {
				first[id] = now
			}
		}
		if since < settleWithin {
			before = readings(s)
		}
		return since >= settleWithin+length
	})
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for id, last := range readings(s) {
		start, ok := first[id]
		if !ok || last.clock <= start.clock || last.tokens < start.tokens {
			return 0, fmt.Errorf("worker %s said nothing for %s", id, length)
		}
		sum += float64(last.tokens-start.tokens) / (float64(last.clock-start.clock) / 1000)
	}
	return sum, nil
}

// readings returns every worker's newest counters.
func readings(s *localswarm.Swarm) map[string]reading {
	out := map[string]reading{}
	for _, w := range s.Workers {
		out[w.ID] = reading{tokens: w.Tally.Last.Tokens, clock: w.Tally.Last.Clock}
	}
	return out
}

// conclude computes the ratio of the medians and its interval.
func (r *swarmSpeed) conclude() {
	var on, off []float64
	for _, w := range r.Windows {
		if w.Rounds {
			on = append(on, w.TokensPerSecond)
		} else {
			off = append(off, w.TokensPerSecond)
		}
	}
	r.On, r.Off = median(on), median(off)
	r.Efficiency = r.On / r.Off
	r.Interval = bootstrap(on, off)
}

// resamples is how many times windows are drawn anew for an interval.
const resamples = 4000

// bootstrap returns the 95 % percentile interval of median(a) ÷ median(b).
func bootstrap(a, b []float64) [2]float64 {
	rng := rand.New(rand.NewPCG(1, 1))
	draw := func(from []float64) float64 {
		sample := make([]float64, len(from))
		for i := range sample {
			sample[i] = from[rng.IntN(len(from))]
		}
		return median(sample)
	}
	ratios := make([]float64, resamples)
	for i := range ratios {
		ratios[i] = draw(a) / draw(b)
	}
	slices.Sort(ratios)
	return [2]float64{ratios[resamples*25/1000], ratios[resamples*975/1000-1]}
}

// median returns the middle of the values, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
