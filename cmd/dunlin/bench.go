package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dunlin/compute/cpu"
	"dunlin/model"
	"dunlin/peer"
)

func newBench(t *terminal) *cobra.Command {
	bench := &cobra.Command{
		Use: "bench", Short: "measure this machine", Example: "  dunlin bench train --preset nano --json",
		Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c := &t.settings.config
	options := append([]option{c.preset(model.Presets()...), c.batch(), c.optimizer(), c.seconds(5), c.precision()}, c.compute()...)
	bench.AddCommand(t.command("train", "tokens a second of training, and the share of this machine's peak",
		"  dunlin bench train --preset small --batch 4 --threads 2 --json", exactly(), t.benchTrain, options...), newBenchSwarm(t))
	return bench
}

func (t *terminal) benchTrain(ctx context.Context, c *Config, _ []string) error {
	shape, err := c.shape()
	if err != nil {
		return err
	}
	device, err := c.device()
	if err != nil {
		return err
	}
	defer device.Close()
	before := cpu.Peak(device.Threads())
	speed, err := peer.MeasureSpeed(ctx, device, c.trainer(shape), time.Duration(c.Seconds*float64(time.Second)))
	if err != nil {
		return err
	}
	peak := max(before, cpu.Peak(device.Threads()))
	share := speed.FLOPPerSecond / (peak * 1e9)
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"preset": c.Preset, "precision": c.Precision, "threads": device.Threads(), "batch": c.Batch, "kernels": device.Path(),
			"tokens_per_second": speed.TokensPerSecond, "fma_peak_gflops": peak, "peak_share": share, "max_rss_bytes": maxRSS(),
		})
	}
	_, err = fmt.Fprintf(t.out, "%s, %s, batch %d on %s\n%s tokens/s, %.0f %% of the fp32 peak of %s GFLOP/s measured beside it, %s MB of memory\n",
		c.Preset, c.Precision, c.Batch, device.Name(), rate(speed.TokensPerSecond), 100*share, rate(peak), grouped(maxRSS()/1_000_000))
	return err
}
