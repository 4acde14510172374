package cpu_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dunlin/compute"
	"dunlin/compute/cpu"
)

// BenchmarkStepTime measures what BenchmarkStep does on one thread by the
// processor time that a step took, so that a busy machine can tell it too: the
// best step's rate, and its share of the best of many short runs of the peak.
func BenchmarkStepTime(b *testing.B) {
	for _, path := range cpu.Paths() {
		if path == "portable" {
			continue
		}
		for _, c := range []struct {
			preset string
			batch  int
		}{{"nano", 8}, {"small", 4}, {"gpt2", 4}} {
			for _, precision := range []compute.Precision{compute.FP32, compute.BF16} {
				b.Run(fmt.Sprintf("%s/%s/%s/batch=%d", path, precision, c.preset, c.batch), func(b *testing.B) {
					stepTime(b, newTrainer(b, path, c.preset, precision, c.batch, 1))
				})
			}
		}
	}
}

func stepTime(b *testing.B, t *trainer) {
	if t.dev.Emulates() {
		b.Skip("this path has no bf16 instructions")
	}
	if err := t.step(); err != nil {
		b.Fatal(err)
	}
	best, peak := time.Duration(1<<62), 0.0
	for b.Loop() {
		before := processorTime(b)
		if err := t.step(); err != nil {
			b.Fatal(err)
		}
		best = min(best, processorTime(b)-before)
		for range 50 {
			peak = max(peak, cpu.Probe(1, time.Millisecond))
		}
	}
	reportRate(b, t, len(t.tokens), best, peak)
}

func processorTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}
