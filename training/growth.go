package training

import (
	"encoding/json"
	"fmt"

	"dunlin/optimizer"
)

// Growth of the batch that follows the gradient noise scale: measured over some
// tens of steps, decided as often, up to so many micro-batches.
const (
	noiseDecay  = 0.95
	growEvery   = 20
	growAtMost  = 64
	growAtLeast = 2 // micro-batches, so that there are two batches to compare
)

// growth decides how many micro-batches the steps of a Solo have, and measures the
// gradient noise scale wherever there are two or more.
type growth struct {
	adaptive bool
	schedule optimizer.BatchSchedule
	state    optimizer.BatchState
}

func newGrowth(micro, first int, adaptive bool) growth {
	g := growth{adaptive: adaptive, schedule: optimizer.BatchSchedule{
		Micro: micro, First: max(1, first), Most: max(1, first), Every: growEvery, Share: 1, Decay: noiseDecay,
	}}
	if adaptive {
		g.schedule.First = max(growAtLeast, first)
		g.schedule.Most = max(growAtMost, first)
	}
	g.state = g.schedule.Start()
	return g
}

// micros is how many micro-batches the next step has when so many are left.
func (g *growth) micros(left uint64) int { return int(min(uint64(g.state.Micros), left)) }

// factor is how much larger than the first batch one of so many micro-batches is.
func (g *growth) factor(micros int) float64 { return float64(micros) / float64(g.schedule.First) }

// learn takes in what a step of so many micro-batches showed.
func (g *growth) learn(micros int, r StepResult) {
	first, all := r.FirstNorm*r.FirstNorm, r.Norm*r.Norm
	switch {
	case g.adaptive && micros == g.state.Micros:
		g.state = g.schedule.Next(g.state, first, all)
	case micros > 1:
		g.state.Noise = g.state.Noise.Observe(g.schedule.Micro, first, micros*g.schedule.Micro, all)
	}
}

// save writes the state as text.
func (g *growth) save() (string, error) {
	b, err := json.Marshal(g.state)
	if err != nil {
		return "", fmt.Errorf("save batch state: %w", err)
	}
	return string(b), nil
}

// load takes a saved state and refuses one that this growth cannot have left.
func (g *growth) load(text string) error {
	var s optimizer.BatchState
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("its batch state cannot be read: %w", err)
	}
	if err := g.schedule.Check(s); err != nil {
		return fmt.Errorf("its batch state cannot be read: %w", err)
	}
	g.state = s
	return nil
}
