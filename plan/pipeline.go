package plan

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Pipeline is a model spread over stages, each held by some of the peers, as the forecast of package pipeline has it. A
// plan with one is that of the rounds of its largest stage.
type Pipeline struct {
	Stages       []Stage `json:"stages"`
	Micro        int     `json:"micro_batch"`       // windows that pass through the stages at a time
	Boundary     float64 `json:"boundary_bytes"`    // between two stages, of one micro-batch
	TokensPerSec float64 `json:"tokens_per_second"` // without rounds
	ComputeOnly  float64 `json:"compute_only"`      // tokens a second if links took no time
	Latency      float64 `json:"latency_seconds"`   // of one micro-batch, there and back
	InFlight     int     `json:"in_flight"`         // micro-batches that all trainers keep under way
	Enough       int     `json:"enough_in_flight"`  // that would hide the latency
	Bound        string  `json:"bound"`             // what holds the pipeline up
	Steps        float64 `json:"inner_steps_cost"`  // share of its throughput that inner steps cost
}

// Stage is one stage of it.
type Stage struct {
	Peers      int     `json:"peers"`
	Layers     int     `json:"layers"` // blocks
	Parameters float64 `json:"parameters"`
	Apart      float64 `json:"apart"` // of embeddings and head
	Use        float64 `json:"use"`   // share of the time that its peers compute
}

func (p *Pipeline) validate() error {
	var errs []error
	if len(p.Stages) < 2 || p.Micro < 1 {
		errs = append(errs, fmt.Errorf("plan: a pipeline of %d stages and %d windows in a micro-batch", len(p.Stages), p.Micro))
	}
	for i, s := range p.Stages {
		if s.Peers < 1 || s.Layers < 0 || !(s.Parameters >= 1 && s.Parameters <= 1e13) || !(s.Apart >= 0 && s.Apart <= s.Parameters) {
			errs = append(errs, fmt.Errorf("plan: stage %d of %v parameters in %d layers with %d peers", i, s.Parameters, s.Layers, s.Peers))
		}
	}
	if !(p.TokensPerSec > 0 && p.TokensPerSec <= 1e15) || math.IsNaN(p.Latency) || !(p.Steps >= 0 && p.Steps < 1) {
		errs = append(errs, errors.New("plan: a pipeline without throughput"))
	}
	return errors.Join(errs...)
}

// largest returns the stage whose rounds have most to send.
func (p *Pipeline) largest() Stage {
	out := p.Stages[0]
	for _, s := range p.Stages {
		if s.Parameters > out.Parameters {
			out = s
		}
	}
	return out
}

// ofStage returns the configuration of the largest stage: its parameters, and as many of the peers, each with its
// share of what the pipeline lets through.
func (c Config) ofStage() Config {
	s := c.Pipeline.largest()
	c.Model.Parameters, c.Model.Apart, c.Model.Layers = s.Parameters, s.Apart, max(1, s.Layers)
	all := 0
	for _, g := range c.Groups {
		all += g.Count
	}
	groups := make([]Group, 0, len(c.Groups))
	left := s.Peers
	for i, g := range c.Groups {
		g.Count = min(left, int(math.Round(float64(g.Count*s.Peers)/float64(all))))
		if i == len(c.Groups)-1 {
			g.Count = left
		}
		left -= g.Count
		g.Speed = c.Pipeline.TokensPerSec / float64(s.Peers)
		if g.Count > 0 {
			groups = append(groups, g)
		}
	}
	c.Groups = groups
	return c
}

// text adds the pipeline's lines to a plan's.
func (p *Pipeline) text(row func(name, format string, args ...any)) {
	stages := make([]string, len(p.Stages))
	for i, s := range p.Stages {
		stages[i] = fmt.Sprintf("%s with %s of %s, computing %.0f %% of the time", count(s.Peers, "peer"), si(s.Parameters), count(s.Layers, "block"), 100*s.Use)
	}
	row("stages", "%s", strings.Join(stages, "; "))
	row("pipeline", "%s tokens a second before rounds (%s if links took no time), held up by %s; inner steps cost %.0f %%", si(p.TokensPerSec), si(p.ComputeOnly), p.Bound, 100*p.Steps)
	row("a micro-batch", "of %s takes %s there and back, with %s between two stages; %d are under way, %d keep all busy",
		count(p.Micro, "window"), seconds(p.Latency), bytesOf(p.Boundary), p.InFlight, p.Enough)
}
