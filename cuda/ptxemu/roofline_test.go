package ptxemu

import (
	"math"
	"testing"
)

// TestPredictions works out by hand what the model says of kernels bound by one thing each.
func TestPredictions(t *testing.T) {
	card := Card{"test", 10, 1, 64, 1024, 100e9}
	cases := []struct {
		name    string
		c       Counters
		bound   string
		seconds float64
		share   float64
	}{
		{"copy of 1 GB", Counters{Launches: 1, Blocks: 1000, Footprint: 1e9, Sectors: 1e9 / 32}, "memory", 0.01, 0},
		{"no reuse in cache", Counters{Launches: 1, Blocks: 1000, Footprint: 1e6, Sectors: 64e9 / 32}, "cache", 0.1, 0},
		{"conflicts", Counters{Launches: 1, Blocks: 10, Wavefronts: 1e9}, "shared", 0.1, 0},
		{"multiply-adds", Counters{Launches: 1, Blocks: 10, Flops: 128e9, Instructions: 2e9}, "float32", 0.1, 1},
		{"half of the processors idle", Counters{Launches: 1, Blocks: 5, Flops: 128e9}, "float32", 0.2, 0.5},
		{"one block too many", Counters{Launches: 1, Blocks: 11, Flops: 128e9}, "float32", 0.1 * 20 / 11, 0.55},
		{"tensor cores", Counters{Launches: 1, Blocks: 10, MMA: 1, MMAFlops: 1024e9}, "tensor", 0.1, 1},
		{"many launches", Counters{Launches: 1000, Blocks: 1000}, "launch", 0.003, 0},
	}
	for _, c := range cases {
		p := c.c.Predict(card)
		if p.Bound != c.bound || math.Abs(p.Seconds-c.seconds) > 1e-3*c.seconds || math.Abs(p.Share-c.share) > 1e-3 {
			t.Errorf("%s: got %s, %g s, share %g, want %s, %g s, share %g", c.name, p.Bound, p.Seconds, p.Share, c.bound, c.seconds, c.share)
		}
	}
}

// TestFootprint counts each sector once, whoever touches it.
func TestFootprint(t *testing.T) {
	b := newBench(t, Config{}, kernelOf("", "add.s64 %d1, %in, %d0;\nld.global.u32 %r1, [%d1];\nld.global.u32 %r2, [%in+252];\nred.global.add.u32 [%out], %r1;"))
	in, out := b.buffer(make([]uint32, 64)), b.buffer(make([]uint32, 64))
	for range 2 {
		if err := b.launch("k", 20, 32, 0, uint64(in), uint64(out)); err != nil {
			t.Fatal(err)
		}
	}
	if c := b.Counters()[0]; c.Footprint != 2*(128+32+32) {
		t.Errorf("footprint %d, want 384", c.Footprint)
	}
}
