package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/compress"
	"dunlin/model"
	"dunlin/plan"
	"dunlin/recipe"
	"dunlin/wire"
)

// anyRecipe lets the plan choose.
const anyRecipe = "auto"

func newPlan(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("plan", "tell before a run starts whether it can work, what it costs and which settings suit it",
		"  dunlin plan --preset small --peers \"8 x 3k up 10mbit down 50mbit\" --tokens 1000000000\n"+
			"  dunlin plan --preset gpt2 --peers \"8 x 20k up 10mbit down 50mbit latency 40 churn 0.1 cores 0, 2 x 90k up 1gbit down 1gbit cores 0\" --svg plan.svg\n"+
			"  dunlin plan --preset gpt2 --stages 3 --peers \"6 x 3k up 100mbit down 100mbit\"\n"+
			"  dunlin plan --preset llama-1b --peers \"4 x 5k up 5mbit down 20mbit\" --json",
		exactly(), t.plan,
		c.spread()[0], c.spread()[1], c.spread()[2],
		groups(&c.Peers, "peers"),
		c.preset(model.Presets()...), c.context(),
		whole(&c.Tokens, "tokens", 1_000_000_000, 1, 1<<56, "token budget of the run"),
		choice(&c.Recipe, "recipe", anyRecipe, "how the swarm trains; auto takes the best for learning that the links carry", append([]string{anyRecipe}, recipe.Names()...)...),
		whole(&c.WorkerBatch, "worker-batch", 0, 0, 4096, "training windows in one inner step of a worker; 0 lets the plan choose"),
		whole(&c.H, "h", 0, 0, wire.MaxH, "inner steps between two rounds of a fragment; 0 lets the plan choose"),
		text(&c.Figure, "svg", "", "path", "file for a figure of the time in steps by bandwidth"))
}

// groups is peers by their properties.
func groups(to *[]plan.Group, key string) option {
	return option{
		key, "who trains: COUNT x TOKENS/S with up and down, and if known latency (ms), churn (departures an hour), cores (0: a GPU trains); groups with a comma between", "groups",
		"4 x 5k up 10mbit down 50mbit", `like "4 x 5k up 10mbit down 50mbit latency 40 churn 0.1 cores 8"`, func(text string) (err error) {
			*to, err = parseGroups(text)
			return err
		},
	}
}

func parseGroups(text string) ([]plan.Group, error) {
	var all []plan.Group
	for part := range strings.SplitSeq(text, ",") {
		words := strings.Fields(part)
		if len(words) < 3 || words[1] != "x" || len(words)%2 == 0 {
			return nil, fmt.Errorf("%q is no group of peers", shorten(strings.TrimSpace(part)))
		}
		g := plan.Group{Latency: 0.05, Cores: 1}
		var err error
		if g.Count, err = strconv.Atoi(words[0]); err != nil {
			return nil, fmt.Errorf("%q is no number of peers", shorten(words[0]))
		}
		if g.Speed, err = parseAmount(words[2]); err != nil {
			return nil, err
		}
		for i := 3; i < len(words); i += 2 {
			if err := setGroup(&g, words[i], words[i+1]); err != nil {
				return nil, fmt.Errorf("%s %q: %w", shorten(words[i]), shorten(words[i+1]), err)
			}
		}
		if g.Up == 0 || g.Down == 0 {
			return nil, fmt.Errorf("%q says nothing of up or down", shorten(strings.TrimSpace(part)))
		}
		all = append(all, g)
	}
	return all, nil
}

func setGroup(g *plan.Group, key, value string) (err error) {
	switch key {
	case "up":
		g.Up, err = parseRate(value)
	case "down":
		g.Down, err = parseRate(value)
	case "latency":
		g.Latency, err = parseAmount(value)
		g.Latency /= 1000
	case "churn":
		g.Churn, err = parseAmount(value)
	case "cores":
		g.Cores, err = parseAmount(value)
	default:
		err = errors.New("unknown; known are up, down, latency, churn and cores")
	}
	return err
}

// parseAmount reads a number that may end in k or M.
func parseAmount(text string) (float64, error) {
	digits := strings.TrimRight(text, "kM")
	unit, known := map[string]float64{"": 1, "k": 1e3, "M": 1e6}[text[len(digits):]]
	x, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || math.IsNaN(x) {
		return 0, fmt.Errorf("%q is no number like 20000 or 20k", shorten(text))
	}
	return x * unit, nil
}

func (t *terminal) plan(_ context.Context, c *Config, _ []string) error {
	shape, err := c.shape()
	if err != nil {
		return err
	}
	recipes, err := c.planRecipes()
	if err != nil {
		return err
	}
	config := plan.Config{Groups: c.Peers, Model: planModel(c.Preset, shape), Recipes: recipes, Tokens: float64(c.Tokens), Batch: c.WorkerBatch, H: c.H}
	if c.Stages > 1 {
		bits, err := bitsOf(c.Activations)
		if err != nil {
			return err
		}
		if config.Pipeline, err = planPipeline(c.Peers, shape, c.Stages, c.Micro, bits); err != nil {
			return err
		}
	}
	p, err := plan.Make(config)
	if err != nil {
		return err
	}
	if c.Figure != "" {
		if err := os.WriteFile(c.Figure, []byte(p.SVG()), 0o644); err != nil {
			return fmt.Errorf("write figure: %w", err)
		}
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(p)
	}
	_, err = fmt.Fprint(t.out, p.Text())
	return err
}

func planModel(name string, shape model.Config) plan.Model {
	m := plan.Model{Name: name, Layers: shape.Layers, Context: shape.Context}
	for _, p := range shape.Params() {
		m.Parameters += float64(p.Size)
		if p.Layer < 0 {
			m.Apart += float64(p.Size)
		}
	}
	return m
}

// planRecipes lists what the plan may choose from, the best for learning first.
func (c *Config) planRecipes() ([]plan.Recipe, error) {
	names := []string{c.Recipe}
	if c.Recipe == anyRecipe {
		names = []string{"default", "ternary"} // the second for stages, where the first is int8
	}
	var out []plan.Recipe
	for _, name := range names {
		r, err := recipe.Named(name)
		if err != nil {
			return nil, err
		}
		if c.Stages > 1 {
			r = r.Staged(false)
		}
		contribution, err := bitsOf(r.Contribution)
		if err != nil {
			return nil, err
		}
		result, err := bitsOf(r.Result)
		if err != nil {
			return nil, err
		}
		out = append(out, plan.Recipe{Name: r.Name, Contribution: contribution, Result: result, OuterLR: r.OuterLR, InnerLR: r.LR, Fragments: r.Fragments})
	}
	return out, nil
}

// bitsOf is what a codec takes a value, at most.
func bitsOf(codec string) (float64, error) {
	c, err := compress.ByName(codec)
	if err != nil {
		return 0, err
	}
	return 8 * float64(compress.EncodedBlockBytes(c)) / compress.BlockValues, nil
}
