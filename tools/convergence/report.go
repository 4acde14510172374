package main

import (
	"fmt"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// reference is the arm that losses are compared with, seed by seed.
const reference = "diloco"

// names returns the arms in the order in which they were named.
func (r *report) names() []string {
	var names []string
	for _, o := range r.Outcomes {
		if !slices.Contains(names, o.Arm) {
			names = append(names, o.Arm)
		}
	}
	return names
}

// of returns an arm's outcomes by seed.
func (r *report) of(arm string) map[uint64]outcome {
	out := map[uint64]outcome{}
	for _, o := range r.Outcomes {
		if o.Arm == arm {
			out[o.Seed] = o
		}
	}
	return out
}

// table shows every arm: mean loss over seeds, mean and worst difference from the
// reference with the same seed and as many workers, bits, ratio and cost.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d steps of %d tokens, %s\nunigram %.4f, bigram %.4f\n\n", r.Preset, r.Steps, r.Tokens/r.Steps, r.Data, r.Unigram, r.Bigram)
	fmt.Fprintf(&b, "%-44s %7s %8s %8s %8s  %5s %5s %6s %7s %8s\n", "arm", "workers", "held-out", "vs "+reference, "worst", "up", "down", "upload", "ratio", "ns/param")
	for _, name := range r.names() {
		outcomes := r.of(name)
		var mean, gap, worst float64
		var one outcome
		paired := 0
		for seed, o := range outcomes {
			one = o
			mean += o.Loss / float64(len(outcomes))
			base, ok := r.of(referenceFor(o.Workers, r))[seed]
			if !ok {
				continue
			}
			d := 100 * (o.Loss/base.Loss - 1)
			if gap += d; paired == 0 || d > worst {
				worst = d
			}
			paired++
		}
		against := []string{"–", "–"}
		if paired > 0 {
			against = []string{fmt.Sprintf("%+.2f %%", gap/float64(paired)), fmt.Sprintf("%+.2f %%", worst)}
		}
		fmt.Fprintf(&b, "%-44s %7d %8.4f %8s %8s  %5.2f %5.2f %6.2f %6.0f× %8.1f\n", name, one.Workers, mean, against[0], against[1],
			one.ContributionBits, one.ResultBits, one.UploadBits, one.Ratio, one.CodecNanos)
	}
	return b.String()
}

// referenceFor names the reference arm with as many workers.
func referenceFor(workers int, r *report) string {
	for _, o := range r.Outcomes {
		if name, changes, _ := strings.Cut(o.Arm, ":"); name == reference && o.Workers == workers && (changes == "" || changes == fmt.Sprintf("workers=%d", workers)) {
			return o.Arm
		}
	}
	return reference
}

// draw writes the held-out losses over inner steps, one line an arm, of its first seed.
func (r *report) draw(path string) error {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s, held-out loss of the committed state", r.Preset)
	p.X.Label.Text, p.Y.Label.Text = "inner steps", "nats a byte"
	p.Legend.Top = true
	for i, name := range r.names() {
		var line plotter.XYs
		for _, pt := range r.of(name)[1].Curve {
			line = append(line, plotter.XY{X: float64(pt.Step), Y: pt.Loss})
		}
		if len(line) == 0 {
			continue
		}
		drawn, err := plotter.NewLine(line)
		if err != nil {
			return err
		}
		drawn.Color, drawn.Width = plotutil.Color(i), vg.Points(1.5)
		p.Add(drawn)
		p.Legend.Add(name, drawn)
	}
	bigram, err := plotter.NewLine(plotter.XYs{{X: 0, Y: r.Bigram}, {X: float64(r.Steps), Y: r.Bigram}})
	if err != nil {
		return err
	}
	bigram.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	p.Add(bigram)
	p.Legend.Add("bigram", bigram)
	return p.Save(24*vg.Centimeter, 14*vg.Centimeter, path)
}
