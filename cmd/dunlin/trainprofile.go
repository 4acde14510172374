package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/model"
	"dunlin/training"
)

// profileCPU tells where the time of a training step goes.
func (t *terminal) profileCPU(ctx context.Context, c *Config, shape model.Config, device *cpu.Device) error {
	trainer := c.trainer(shape)
	if _, err := c.fit(device, &trainer, c.Memory, training.Demand{Micros: 1}); err != nil {
		return err
	}
	began, measured := time.Now(), "the clock"
	clock := func() time.Duration { return time.Since(began) }
	if device.Threads() == 1 && cpuSeconds() > 0 {
		measured, clock = "the processor's time", func() time.Duration { return seconds(cpuSeconds()) }
	}
	peak, memory, err := limits(device)
	if err != nil {
		return err
	}
	p, err := training.MeasureProfile(ctx, device, trainer, seconds(c.Seconds), clock)
	if err != nil {
		return err
	}
	peak = max(peak, shortPeak(device.Threads()))
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"preset": c.Preset, "precision": c.Precision, "threads": device.Threads(), "batch": c.Batch, "context": shape.Context, "kernels": device.Path(),
			"measured_by": measured, "steps": p.Steps, "step_seconds": p.Step.Seconds(), "fma_peak_gflops": peak, "memory_gb_per_second": memory, "operations": laps(p),
		})
	}
	_, err = fmt.Fprint(t.out, profileText(c, shape, device.Name(), measured, p, peak, memory))
	return err
}

// shortPeak is the best of many moments, of which some are undisturbed by other work.
func shortPeak(threads int) (gflops float64) {
	for range 500 {
		gflops = max(gflops, cpu.Probe(threads, time.Millisecond))
	}
	return gflops
}

// limits measures what bounds a step: multiply-adds, in GFLOP/s, and a copy of more than caches hold, in GB/s read and
// written.
func limits(device *cpu.Device) (peak, memory float64, err error) {
	const values = 32 << 20
	var b [2]compute.Buffer
	for i := range b {
		if b[i], err = device.Alloc(values); err != nil {
			return 0, 0, err
		}
	}
	for range 20 {
		began := time.Now()
		device.Copy(b[0], b[1])
		memory = max(memory, 2*4*values/time.Since(began).Seconds()/1e9)
	}
	return shortPeak(device.Threads()), memory, nil
}

// laps are the operations of a step's, for scripts.
func laps(p training.Profile) []map[string]any {
	var all []map[string]any
	for _, o := range p.Operations {
		all = append(all, map[string]any{
			"name": o.Name, "calls": float64(o.Calls) / float64(p.Steps), "seconds": o.Time.Seconds() / float64(p.Steps),
			"gflop": o.FLOP / 1e9 / float64(p.Steps), "gb": o.Bytes / 1e9 / float64(p.Steps),
		})
	}
	return all
}

func profileText(c *Config, shape model.Config, device, measured string, p training.Profile, peak, memory float64) string {
	var b strings.Builder
	tokens := float64(c.Batch * shape.Context)
	share := tokens * shape.FLOPPerToken(shape.Context) / p.Step.Seconds() / (peak * 1e9)
	fmt.Fprintf(&b, "%s, %s, batch %d of %d tokens on %s\n", c.Preset, c.Precision, c.Batch, shape.Context, device)
	fmt.Fprintf(&b, "a step takes %.1f ms by %s, %.0f %% of the fp32 peak of %s GFLOP/s; memory copies at %.1f GB/s\n\n",
		1e3*p.Step.Seconds(), measured, 100*share, rate(peak), memory)
	fmt.Fprintf(&b, "%-22s %6s %9s %7s  %s\n", "operation", "calls", "ms", "share", "rate")
	rest := p.Step
	for _, o := range p.Operations {
		each := o.Time / time.Duration(p.Steps)
		rest -= each
		pace := fmt.Sprintf("%.1f GB/s", o.Bytes/o.Time.Seconds()/1e9)
		if o.FLOP > 0 {
			pace = fmt.Sprintf("%.1f GFLOP/s, %.0f %% of the peak", o.FLOP/o.Time.Seconds()/1e9, 100*o.FLOP/o.Time.Seconds()/1e9/peak)
		}
		fmt.Fprintf(&b, "%-22s %6.0f %9.2f %6.1f%%  %s\n", o.Name, float64(o.Calls)/float64(p.Steps), 1e3*each.Seconds(), 100*each.Seconds()/p.Step.Seconds(), pace)
	}
	fmt.Fprintf(&b, "%-22s %6s %9.2f %6.1f%%\n", "between them", "", 1e3*rest.Seconds(), 100*rest.Seconds()/p.Step.Seconds())
	return b.String()
}
