package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
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
			"  dunlin plan --preset small --peers \"8 x RTX 3060 up 10mbit down 10mbit, 40 x 150gflops up 5mbit down 20mbit cores 4\"\n"+
			"  dunlin plan --preset gpt2 --stages 3 --peers \"6 x 3k up 100mbit down 100mbit\"\n"+
			"  dunlin plan --preset gpt2 --stages 3 --subspace 64 --peers \"6 x 3k up 10mbit down 20mbit\"\n"+
			"  dunlin plan --preset llama-1b --peers \"4 x 5k up 5mbit down 20mbit\" --json",
		exactly(), t.plan,
		c.spread()[0], c.spread()[1], c.spread()[2], c.spread()[3],
		groups(&c.Peers, "peers"),
		c.preset(model.Presets()...),
		whole(&c.Tokens, "tokens", 1_000_000_000, 1, 1<<56, "token budget of the run"),
		choice(&c.Recipe, "recipe", anyRecipe, "how the swarm trains; auto takes the best for learning that the links carry", append([]string{anyRecipe}, recipe.Names()...)...),
		whole(&c.WorkerBatch, "worker-batch", 0, 0, 4096, "training windows in one inner step of a worker; 0 lets the plan choose"),
		whole(&c.H, "h", 0, 0, wire.MaxH, "inner steps between two rounds of a fragment; 0 lets the plan choose"),
		text(&c.Figure, "svg", "", "path", "file for a figure of the time in steps by bandwidth"))
}

// planned is a group of peers and, where nobody has measured its speed, what is known of its devices instead.
type planned struct {
	plan.Group
	device string  // as it was given
	peak   float64 // operations a second; 0 where Speed is known
}

// assumedShare of a device's peak is what training is taken to reach where nobody has measured it.
const assumedShare = 0.4

// cardPeaks are float32 operations a second of common cards, in TFLOP/s, by the makers' data sheets.
func cardPeaks() map[string]float64 {
	return map[string]float64{
		"GTX 1060": 4.4, "GTX 1080": 8.9, "RTX 2060": 6.5, "RTX 2080": 10.1, "RTX 3060": 12.7, "RTX 3070": 20.3, "RTX 3080": 29.8, "RTX 3090": 35.6,
		"RTX 4060": 15.1, "RTX 4070": 29.1, "RTX 4080": 48.7, "RTX 4090": 82.6, "T4": 8.1, "L4": 30.3, "A100": 19.5, "H100": 66.9,
	}
}

// groups is peers by their properties.
func groups(to *[]planned, key string) option {
	return option{
		key, "who trains: COUNT x SPEED with up and down, and if known latency (ms), churn (departures an hour), cores (0: a GPU trains); groups with a comma between. SPEED is tokens a second, a peak like 200gflops or 12tflops, or a card", "groups",
		"4 x 5k up 10mbit down 50mbit", `like "4 x 5k up 10mbit down 50mbit latency 40 churn 0.1 cores 8" or "8 x RTX 3060 up 10mbit down 10mbit"`, func(text string) (err error) {
			*to, err = parseGroups(text)
			return err
		},
	}
}

func parseGroups(text string) ([]planned, error) {
	var all []planned
	for part := range strings.SplitSeq(text, ",") {
		words := strings.Fields(part)
		from := slices.IndexFunc(words, func(w string) bool { return slices.Contains([]string{"up", "down", "latency", "churn", "cores"}, w) })
		if from < 0 {
			from = len(words)
		}
		if from < 3 || words[1] != "x" {
			return nil, fmt.Errorf("%q is no group of peers", shorten(strings.TrimSpace(part)))
		}
		g := planned{Group: plan.Group{Latency: 0.05, Cores: 1}}
		var err error
		if g.Count, err = strconv.Atoi(words[0]); err != nil {
			return nil, fmt.Errorf("%q is no number of peers", shorten(words[0]))
		}
		if err := g.setSpeed(strings.Join(words[2:from], " ")); err != nil {
			return nil, err
		}
		for i := from; i < len(words); i += 2 {
			if i+1 == len(words) {
				return nil, fmt.Errorf("%q has no value", words[i])
			}
			if err := setGroup(&g.Group, words[i], words[i+1]); err != nil {
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

// setSpeed reads tokens a second, a peak, or the name of a card.
func (g *planned) setSpeed(text string) (err error) {
	if g.Speed, err = parseAmount(text); err == nil {
		return nil
	}
	g.device = text
	for unit, factor := range map[string]float64{"gflops": 1e9, "tflops": 1e12} {
		if digits, ok := strings.CutSuffix(strings.ToLower(text), unit); ok {
			x, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
			if err != nil || !(x > 0 && x < 1e9) {
				return fmt.Errorf("%q is no peak like 200gflops or 12tflops", shorten(text))
			}
			g.peak = x * factor
			return nil
		}
	}
	plain := strings.NewReplacer(" ", "", "-", "", "_", "")
	for name, peak := range cardPeaks() {
		if strings.EqualFold(plain.Replace(text), plain.Replace(name)) {
			g.device, g.peak, g.Cores = name, peak*1e12, 0
			return nil
		}
	}
	return fmt.Errorf("%q is neither tokens a second like 20000 or 20k, nor a peak like 12tflops, nor one of these cards: %s", shorten(text), strings.Join(slices.Sorted(maps.Keys(cardPeaks())), ", "))
}

// reckoned returns groups with a speed each, and says which are assumed.
func reckoned(peers []planned, shape model.Config) (groups []plan.Group, assumed []string) {
	for _, g := range peers {
		if g.peak > 0 {
			g.Speed = assumedShare * g.peak / shape.FLOPPerToken(shape.Context)
			assumed = append(assumed, fmt.Sprintf("%s: %s tokens/s are assumed, %.0f %% of %s TFLOP/s; measure one with dunlin bench train", g.device, rate(g.Speed), 100*assumedShare, rate(g.peak/1e12)))
		}
		groups = append(groups, g.Group)
	}
	return groups, assumed
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
	groups, assumed := reckoned(c.Peers, shape)
	config := plan.Config{Groups: groups, Model: planModel(c.Preset, shape), Recipes: recipes, Tokens: float64(c.Tokens), Batch: c.WorkerBatch, H: c.H, Given: fmt.Sprintf("--preset %s --tokens %d", c.Preset, c.Tokens)}
	if c.Stages > 1 {
		config.Given += fmt.Sprintf(" --stages %d --activations %s --micro-batch %d", c.Stages, c.Activations, c.Micro)
		if c.Subspace > 0 {
			config.Given += fmt.Sprintf(" --subspace %d", c.Subspace)
		}
	}
	p, err := c.makePlan(config, shape)
	if err != nil {
		return err
	}
	p.Advice = append(assumed, p.Advice...)
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

// makePlan makes the plan of a configuration, and of the pipeline where there are stages: what inner steps cost it depends
// on how many windows they take, which the plan may choose.
func (c *Config) makePlan(config plan.Config, shape model.Config) (*plan.Plan, error) {
	if c.Stages == 1 {
		return plan.Make(config)
	}
	bits, err := bitsOf(c.Activations)
	if err != nil {
		return nil, err
	}
	first, err := recipe.Named(c.recipeNames()[0])
	if err != nil {
		return nil, err
	}
	for {
		if config.Pipeline, err = planPipeline(config.Groups, shape, c.Stages, c.Micro, config.Batch, first.Inner == wire.InnerMuon, bits); err != nil {
			return nil, err
		}
		p, err := plan.Make(config)
		if err != nil || config.Batch > 0 {
			return p, err
		}
		config.Batch = p.Batch
	}
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

// recipeNames lists what the plan may choose from, the best for learning first; all make the same inner steps.
func (c *Config) recipeNames() []string {
	if c.Recipe == anyRecipe {
		return []string{"muloco", "default"} // the second has a quarter of the bits
	}
	return []string{c.Recipe}
}

// planRecipes is what the plan needs to know of them.
func (c *Config) planRecipes() ([]plan.Recipe, error) {
	var out []plan.Recipe
	for _, name := range c.recipeNames() {
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
