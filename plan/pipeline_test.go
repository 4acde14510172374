package plan

import (
	"math"
	"strings"
	"testing"
)

func stages() *Pipeline {
	return &Pipeline{
		Stages: []Stage{{Peers: 3, Layers: 5, Parameters: 75e6, Apart: 39e6, Use: 1}, {Peers: 2, Layers: 5, Parameters: 35e6, Use: 0.9}, {Peers: 3, Layers: 2, Parameters: 53e6, Apart: 39e6, Use: 0.95}},
		Micro:  1, Boundary: 800e3, TokensPerSec: 8000, ComputeOnly: 9000, Latency: 1.5, InFlight: 12, Enough: 7, Bound: "stage 0: computing",
	}
}

// TestPipelinePlansItsLargestStage checks whose rounds are planned, and what stays the whole model's.
func TestPipelinePlansItsLargestStage(t *testing.T) {
	c := Config{Groups: []Group{home(6)[0], {Count: 2, Speed: 90_000, Up: 1e9, Down: 1e9}}, Model: gpt2(), Recipes: recipes()[:1], Tokens: 2.5e9, Batch: 16}
	alone := mustMake(t, c)
	c.Pipeline = stages()
	p := mustMake(t, c)
	if p.Peers != 8 || p.Parameters != 124e6 || *p.Loss >= *alone.Loss {
		t.Errorf("%d peers, %v parameters, loss %v; with 3 replicas it is less than the %v of 8", p.Peers, p.Parameters, *p.Loss, *alone.Loss)
	}
	step := 16 * 1024 * 3 / 8000.0
	if want := int(math.Ceil(75e6 * 16 * 2 / 3 / (0.6 * 0.85 * 10e6 * step))); p.LeastH != want || math.Abs(p.StepSeconds/step-1) > 1e-9 {
		t.Errorf("H* %d and steps of %v s, want %d and %v: those of the stage of 75 million parameters", p.LeastH, p.StepSeconds, want, step)
	}
	if p.TokensPerSec > 8000 || p.TokensPerSec < 4000 {
		t.Errorf("%v tokens a second of a pipeline of 8000", p.TokensPerSec)
	}
	for _, want := range []string{"\nstages ", "held up by stage 0: computing", "; 12 are under way, 7 keep all busy"} {
		if !strings.Contains(p.Text(), want) {
			t.Errorf("the text lacks %q:\n%s", want, p.Text())
		}
	}
	for name, breakIt := range map[string]func(*Pipeline){
		"no peers": func(p *Pipeline) { p.Stages[1].Peers = 0 }, "one stage": func(p *Pipeline) { p.Stages = p.Stages[:1] },
		"no throughput": func(p *Pipeline) { p.TokensPerSec = math.NaN() },
	} {
		c.Pipeline = stages()
		breakIt(c.Pipeline)
		if _, err := Make(c); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}
