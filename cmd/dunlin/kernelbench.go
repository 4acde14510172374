package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dunlin/compute"
	"dunlin/cuda"
	"dunlin/cuda/ptxemu"
)

func newBenchKernels(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("kernels", "what the GPU kernels do, counted on an emulated card, and what that predicts for cards that nobody measured",
		"  dunlin bench kernels --precision bf16\n  dunlin bench kernels --positions 1024 --json", exactly(), t.benchKernels,
		c.precision(), whole(&c.Positions, "positions", 512, 32, 4096, "positions of the window: rows of the matrices"))
}

// kernelFigures is what `dunlin bench kernels` finds of one kernel; its JSON form is promised to scripts.
type kernelFigures struct {
	ptxemu.Counters
	CoalescedShare float64             `json:"coalesced_share"`
	ConflictFactor float64             `json:"conflict_factor"`
	Intensity      float64             `json:"flop_per_byte"`
	MMAShare       float64             `json:"mma_share"`
	Predictions    []ptxemu.Prediction `json:"predictions"`
}

// benchKernels runs the operations of one layer of GPT-2 (124 million parameters), forward and backward, once each.
func (t *terminal) benchKernels(ctx context.Context, c *Config, _ []string) error {
	emulator, err := ptxemu.New(ptxemu.Config{})
	if err != nil {
		return err
	}
	card, err := emulator.OpenContext(0)
	if err != nil {
		return err
	}
	device, err := cuda.New(card, cuda.Options{Precision: compute.Precision(c.Precision)})
	if err != nil {
		return err
	}
	err = layerOnce(ctx, device, c.Positions, t.progress(c))
	if err = errors.Join(err, device.Close()); err != nil {
		return err
	}
	var all []kernelFigures
	for _, k := range card.Counters() {
		f := kernelFigures{Counters: k, CoalescedShare: k.CoalescedShare(), ConflictFactor: k.ConflictFactor(), Intensity: k.Intensity(), MMAShare: k.MMAShare()}
		for _, gpu := range ptxemu.Cards() {
			f.Predictions = append(f.Predictions, k.Predict(gpu))
		}
		all = append(all, f)
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{"positions": c.Positions, "precision": c.Precision, "measured_on_a_gpu": false, "kernels": all})
	}
	table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "kernel\tinstructions\tflop/byte\tcoalesced\tconflicts\tMMA\t")
	for _, gpu := range ptxemu.Cards() {
		fmt.Fprintf(table, "%s\t", gpu.Name)
	}
	fmt.Fprintln(table)
	for _, f := range all {
		fmt.Fprintf(table, "%s\t%s\t%.2f\t%.1f %%\t%.3f\t%.0f %%\t", f.Kernel, grouped(f.Instructions), f.Intensity, 100*f.CoalescedShare, f.ConflictFactor, 100*f.MMAShare)
		for _, p := range f.Predictions {
			fmt.Fprintf(table, "%.0f %% %s\t", 100*p.Share, p.Bound)
		}
		fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "\nOne layer of GPT-2 at %d positions, %s. The columns of cards are predictions from these counts, of the share of peak and what bounds it: nobody measured them.\n", c.Positions, c.Precision)
	return err
}

// layerOnce runs each operation of a layer once, on values that are all zero: counts depend on token numbers only.
func layerOnce(ctx context.Context, d *cuda.Device, rows int, p *progress) error {
	const width, heads, hidden, vocabulary = 768, 12, 4 * 768, 4096
	var failed error
	values := func(n int) compute.Buffer {
		b, err := d.Alloc(n)
		failed = errors.Join(failed, err)
		return b
	}
	x, y, dy, dx := values(rows*width), values(rows*width), values(rows*width), values(rows*width)
	qkv, dqkv, inner, pre := values(3*rows*width), values(3*rows*width), values(rows*hidden), values(rows*hidden)
	w, dw, bias := values(hidden*width), values(hidden*width), values(hidden)
	m, v := values(hidden*width), values(hidden*width)
	mean, rstd, lse := values(rows), values(rows), values(rows*heads)
	logits, losses := values(rows*vocabulary), values(rows)
	tokens, err := d.AllocInts(rows)
	if failed = errors.Join(failed, err); failed != nil {
		return failed
	}
	numbers := make([]int32, rows)
	for i := range numbers {
		numbers[i] = int32(i) % hidden
	}
	d.UploadInts(tokens, numbers)
	linear := func(form compute.Form, m, n, k int, a, b, c compute.Buffer, e compute.Epilogue) func() {
		return func() { d.MatMul(compute.MatMul{Form: form, M: m, N: n, K: k, A: a, B: b, C: c, Epilogue: e}) }
	}
	for _, operation := range []struct {
		name string
		run  func()
	}{
		{"embedding", func() {
			d.Embed(compute.Embed{Out: x, Tokens: tokens, WTE: w, B: 1, T: rows, C: width})
			d.EmbedGrad(compute.EmbedGrad{DWTE: dw, DOut: dy, Tokens: tokens, B: 1, T: rows, C: width})
		}},
		{"layer norm", func() {
			d.LayerNorm(compute.LayerNorm{Y: y, X: x, Gain: bias, Bias: bias, Mean: mean, RStd: rstd, Rows: rows, N: width, Eps: 1e-5})
			d.LayerNormGrad(compute.LayerNormGrad{DX: dx, DY: dy, X: x, DGain: dw.Slice(0, width), DBias: dw.Slice(width, 2*width), Gain: bias, Mean: mean, RStd: rstd, Rows: rows, N: width})
		}},
		{"attention", func() {
			d.Attention(compute.Attention{Out: y, LSE: lse, QKV: qkv, B: 1, T: rows, H: heads, C: width})
			d.AttentionGrad(compute.AttentionGrad{DQKV: dqkv, DOut: dy, QKV: qkv, Out: y, LSE: lse, B: 1, T: rows, H: heads, C: width})
		}},
		{"product NN with bias and GELU", linear(compute.NN, rows, hidden, width, x, w, inner, compute.Epilogue{Bias: bias, Pre: pre, GELU: true})},
		{"product NT", linear(compute.NT, rows, width, hidden, inner, w, y, compute.Epilogue{})},
		{"product TN", linear(compute.TN, width, hidden, rows, x, inner, dw, compute.Epilogue{})},
		{"gradients of GELU and bias", func() {
			d.GELUGrad(inner, pre, inner, pre)
			d.BiasGrad(compute.BiasGrad{DBias: bias, DY: inner, Rows: rows, N: hidden})
		}},
		{"loss", func() {
			d.CrossEntropy(compute.CrossEntropy{Logits: logits, Losses: losses, Targets: tokens, Rows: rows, V: vocabulary, Grad: true, Scale: 1})
		}},
		{"optimizer", func() {
			d.SumSquares(dw)
			d.AdamW(compute.AdamW{Params: w, Grads: dw, M: m, V: v, LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, GradScale: 1, Step: 1})
		}},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.say("emulating      "+operation.name, "emulating")
		operation.run()
		if err := d.Sync(); err != nil {
			return fmt.Errorf("emulate %s: %w", operation.name, err)
		}
	}
	return nil
}
