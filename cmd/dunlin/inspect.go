package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/model"
)

func newInspect(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("inspect CHECKPOINT [OTHER]", "show a model's tensors, or how another one's differ",
		"  dunlin inspect out/first\n  dunlin inspect out/first/step-000000200 out/first/step-000000400 --json", oneOrTwo("CHECKPOINT", "OTHER"), t.inspect, c.average(), c.height())
}

// oneOrTwo wants the first named argument and allows the second.
func oneOrTwo(first, second string) cobra.PositionalArgs {
	one, two := exactly(first), exactly(first, second)
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < 2 {
			return one(cmd, args)
		}
		return two(cmd, args)
	}
}

func (t *terminal) inspect(_ context.Context, c *Config, args []string) error {
	first, err := c.model(args[0])
	if err != nil {
		return err
	}
	if len(args) == 1 {
		return t.describe(c, first)
	}
	second, err := c.model(args[1])
	if err != nil {
		return err
	}
	return t.compare(c, first, second)
}

// tensorLine is a tensor of `inspect --json`.
type tensorLine struct {
	Name      string    `json:"name"`
	Shape     []int     `json:"shape"`
	Values    int       `json:"values"`
	NotFinite int       `json:"not_finite"`
	Mean      float64   `json:"mean"`
	Deviation float64   `json:"deviation"`
	Norm      float64   `json:"norm"`
	Min       float64   `json:"min"`
	Max       float64   `json:"max"`
	Histogram []int     `json:"histogram"` // in equal steps between the edges; what lies beyond is in the outermost
	Edges     []float64 `json:"edges"`
}

func lineOf(t compute.Tensor) tensorLine {
	s := checkpoint.Summarise(t)
	return tensorLine{
		Name: t.Name, Shape: t.Shape, Values: s.Values, NotFinite: s.NotFinite, Mean: s.Mean, Deviation: s.Deviation,
		Norm: s.Norm, Min: s.Min, Max: s.Max, Histogram: s.Histogram[:], Edges: []float64{s.Mean - 3*s.Deviation, s.Mean + 3*s.Deviation},
	}
}

// describe prints the tensors of one checkpoint.
func (t *terminal) describe(c *Config, saved *checkpoint.Checkpoint) error {
	var shape model.Config
	if err := json.Unmarshal(saved.Config, &shape); err != nil {
		return err
	}
	var lines []tensorLine
	values, broken := 0, 0
	for _, tensor := range saved.Model {
		line := lineOf(tensor)
		lines = append(lines, line)
		values, broken = values+line.Values, broken+line.NotFinite
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"step": saved.Step, "family": shape.Family.String(), "model": shape.String(), "parameters": values, "not_finite": broken, "tensors": lines,
		})
	}
	if _, err := fmt.Fprintf(t.out, "%v\nstep %s, %s parameters in %d tensors\n\n", shape, grouped(saved.Step), grouped(values), len(lines)); err != nil {
		return err
	}
	err := table(t.out, "tensor\tshape\tnorm\tmean\tdeviation\tleast\tmost\tmean ± 3 deviations\n", func(w io.Writer) {
		for _, l := range lines {
			fmt.Fprintf(w, "%s\t%s\t%.3g\t%.3g\t%.3g\t%.3g\t%.3g\t%s\n", l.Name, extents(l.Shape), l.Norm, l.Mean, l.Deviation, l.Min, l.Max, bars(l.Histogram))
		}
	})
	if err == nil && broken > 0 {
		err = fmt.Errorf("%s values are infinite or no numbers: the training has diverged or the file is damaged", grouped(broken))
	}
	return err
}

// compare prints what changed between two checkpoints.
func (t *terminal) compare(c *Config, first, second *checkpoint.Checkpoint) error {
	differences, err := checkpoint.Compare(first.Model, second.Model)
	if err != nil {
		return err
	}
	changed, squares, largest := 0, 0.0, 0.0
	for _, d := range differences {
		changed, squares, largest = changed+d.Changed, squares+d.Norm*d.Norm, max(largest, d.Largest)
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"steps": []uint64{first.Step, second.Step}, "changed": changed, "norm": number64(math.Sqrt(squares)), "largest": number64(largest),
			"tensors": differenceLines(differences),
		})
	}
	if _, err := fmt.Fprintf(t.out, "step %s to step %s: %s values changed, distance %.4g, largest change %.4g\n\n",
		grouped(first.Step), grouped(second.Step), grouped(changed), math.Sqrt(squares), largest); err != nil {
		return err
	}
	return table(t.out, "tensor\tvalues\tchanged\tdistance\tof its norm\tlargest\n", func(w io.Writer) {
		for _, d := range differences {
			fmt.Fprintf(w, "%s\t%s\t%s\t%.3g\t%.3g %%\t%.3g\n", d.Name, grouped(d.Values), grouped(d.Changed), d.Norm, 100*d.Relative, d.Largest)
		}
	})
}

func differenceLines(all []checkpoint.Difference) []map[string]any {
	lines := make([]map[string]any, 0, len(all))
	for _, d := range all {
		lines = append(lines, map[string]any{
			"name": d.Name, "values": d.Values, "changed": d.Changed, "norm": number64(d.Norm), "relative": number64(d.Relative), "largest": number64(d.Largest),
		})
	}
	return lines
}

// number64 is x for JSON, which has no infinity and no NaN: null.
func number64(x float64) *float64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return nil
	}
	return &x
}

// table writes lines of tab-separated cells in columns.
func table(out io.Writer, header string, lines func(w io.Writer)) error {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, err := io.WriteString(w, header)
	lines(w)
	if err := errors.Join(err, w.Flush()); err != nil {
		return err
	}
	_, err = io.WriteString(out, text.String())
	return err
}

// extents prints a shape: "128×384".
func extents(shape []int) string {
	text := make([]string, len(shape))
	for i, extent := range shape {
		text[i] = fmt.Sprint(extent)
	}
	return strings.Join(text, "×")
}

// bars draws a histogram, the fullest bin as high as a line.
func bars(counts []int) string {
	heights := []rune(" ▁▂▃▄▅▆▇█")
	most := 1
	for _, n := range counts {
		most = max(most, n)
	}
	var text strings.Builder
	for _, n := range counts {
		height := (n*(len(heights)-1) + most - 1) / most // any value shows
		text.WriteRune(heights[height])
	}
	return text.String()
}
