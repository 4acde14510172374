package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/model"
	"dunlin/training"
)

func newBench(t *terminal) *cobra.Command {
	bench := &cobra.Command{
		Use: "bench", Short: "measure this machine", Example: "  dunlin bench train --preset nano --json",
		Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c := &t.settings.config
	options := append([]option{c.preset(model.Presets()...), c.context(), c.batch(), c.optimizer(), c.seconds(5), c.precision(), c.memory(), c.profile()}, c.compute()...)
	bench.AddCommand(t.command("train", "tokens a second of training, and the share of this machine's peak",
		"  dunlin bench train --preset small --batch 4 --threads 2 --json\n  dunlin bench train --preset gpt2 --context 256 --batch 4\n  dunlin bench train --preset small --batch 4 --threads 1 --profile", exactly(), t.benchTrain, options...), newBenchSwarm(t), newBenchCodecs(t), newBenchKernels(t),
		t.command("peak", "the most float32 multiply-adds that this machine makes a second",
			"  dunlin bench peak --threads 2 --json", exactly(), t.benchPeak, c.threads()),
		newBenchNet(t))
	return bench
}

// benchPeak takes a second. Beside other measurements it tells whether the machine gave all of its processors meanwhile.
func (t *terminal) benchPeak(_ context.Context, c *Config, _ []string) error {
	threads := c.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	peak := cpu.Peak(threads)
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{"threads": threads, "fma_peak_gflops": peak})
	}
	_, err := fmt.Fprintf(t.out, "%s GFLOP/s of float32 multiply-adds (threads: %d)\n", rate(peak), threads)
	return err
}

// probeTime is how long the processor's peak is measured between two samples.
const probeTime = 10 * time.Millisecond

func (t *terminal) benchTrain(ctx context.Context, c *Config, _ []string) error {
	shape, err := c.shape()
	if err != nil {
		return err
	}
	line := t.progress(c)
	defer line.close()
	device, err := c.device(line)
	if err != nil {
		return err
	}
	defer device.Close()
	line.machine(device, "")
	if on, ok := device.on.(*cpu.Device); ok {
		if c.Profile {
			return t.profileCPU(ctx, c, shape, on)
		}
		return t.benchCPU(ctx, c, shape, on)
	}
	if c.Profile {
		return errors.New("a profile is of a processor: leave --profile out, or take --device cpu")
	}
	return t.benchCard(ctx, c, shape, device)
}

// benchCPU measures the processor's peak beside the training.
func (t *terminal) benchCPU(ctx context.Context, c *Config, shape model.Config, device *cpu.Device) error {
	before, start := cpu.Peak(device.Threads()), residentBytes()
	trainer := c.trainer(shape)
	plan, err := c.fit(device, &trainer, c.Memory, training.Demand{Micros: 1})
	if err != nil {
		return err
	}
	probe := func() float64 { return cpu.Probe(device.Threads(), probeTime) }
	speed, err := training.MeasureSpeed(ctx, device, trainer, seconds(c.Seconds), probe)
	if err != nil {
		return err
	}
	peak := max(before, cpu.Peak(device.Threads()))
	share := speed.FLOPPerSecond / (peak * 1e9)
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"preset": c.Preset, "precision": c.Precision, "threads": device.Threads(), "batch": c.Batch, "context": shape.Context, "kernels": device.Path(),
			"emulated": device.Emulates(), "samples": speed.Samples, "rejected": speed.Rejected,
			"tokens_per_second": speed.TokensPerSecond, "fma_peak_gflops": peak, "peak_share": share,
			"max_rss_bytes": maxResidentBytes(), "start_rss_bytes": start, "predicted_rss_bytes": plan.Bytes, "plan": plan.String(),
		})
	}
	notes := ""
	switch {
	case speed.Rejected == speed.Samples:
		notes = "; the processor never gave its peak beside a step, so that nothing is left out"
	case speed.Rejected > 0:
		notes = fmt.Sprintf("; %d of %d samples left out, taken while the processor gave less", speed.Rejected, speed.Samples)
	}
	if device.Emulates() {
		notes += "; " + emulates
	}
	_, err = fmt.Fprintf(t.out, "%s, %s, batch %d of %d tokens on %s\n%s tokens/s, %.0f %% of the fp32 peak of %s GFLOP/s measured beside it, %s MB of memory, %s of them before the model%s\nplanned: %v\n",
		c.Preset, c.Precision, c.Batch, shape.Context, device.Name(), rate(speed.TokensPerSecond), 100*share, rate(peak), grouped(maxResidentBytes()/1_000_000), grouped(start/1_000_000), notes, plan)
	return err
}

// benchCard compares with the peak that the card's maker states.
func (t *terminal) benchCard(ctx context.Context, c *Config, shape model.Config, device *device) error {
	trainer := c.trainer(shape)
	plan, err := c.fit(device.on, &trainer, c.Memory, training.Demand{Micros: 1})
	if err != nil {
		return err
	}
	speed, err := training.MeasureSpeed(ctx, device.on, trainer, seconds(c.Seconds), nil)
	if err != nil {
		return err
	}
	peak, tensor := device.card.Peak()
	if compute.Precision(c.Precision) != compute.FP32 {
		peak = tensor
	}
	share, known := speed.FLOPPerSecond/peak, "the card's peak is not known"
	if peak > 0 {
		known = fmt.Sprintf("%.0f %% of the %s TFLOP/s that the card's clock and cores make", 100*share, rate(peak/1e12))
	} else {
		share = 0
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"preset": c.Preset, "precision": c.Precision, "batch": c.Batch, "context": shape.Context, "device": device.on.Name(), "samples": speed.Samples,
			"tokens_per_second": speed.TokensPerSecond, "stated_peak_gflops": peak / 1e9, "peak_share": share, "predicted_device_bytes": plan.Bytes, "plan": plan.String(),
		})
	}
	_, err = fmt.Fprintf(t.out, "%s, %s, batch %d of %d tokens on %s\n%s tokens/s, %s\nplanned: %v\n",
		c.Preset, c.Precision, c.Batch, shape.Context, device.on.Name(), rate(speed.TokensPerSecond), known, plan)
	return err
}
