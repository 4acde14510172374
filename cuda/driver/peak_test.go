package driver

import (
	"math"
	"testing"
)

// Peaks and bandwidths are those that NVIDIA prints in the cards' data sheets, TFLOP/s and GB/s.
func TestPeakIsTheDataSheets(t *testing.T) {
	for _, c := range []struct {
		card                      Info
		vector, tensor, bandwidth float64
	}{
		{Info{Name: "NVIDIA GeForce GTX 1080 Ti", Major: 6, Minor: 1, Multiprocessors: 28, ClockKHz: 1_582_000, MemoryClockKHz: 5_505_000, BusWidthBits: 352}, 11.3, 0, 484},
		{Info{Name: "Tesla T4", Major: 7, Minor: 5, Multiprocessors: 40, ClockKHz: 1_590_000, MemoryClockKHz: 5_001_000, BusWidthBits: 256}, 8.1, 65, 320},
		{Info{Name: "NVIDIA A100-SXM4-40GB", Major: 8, Multiprocessors: 108, ClockKHz: 1_410_000, MemoryClockKHz: 1_215_000, BusWidthBits: 5120}, 19.5, 312, 1555},
		{Info{Name: "NVIDIA GeForce RTX 3060", Major: 8, Minor: 6, Multiprocessors: 28, ClockKHz: 1_777_000, MemoryClockKHz: 7_501_000, BusWidthBits: 192}, 12.7, 25.5, 360},
		{Info{Name: "NVIDIA GeForce RTX 4090", Major: 8, Minor: 9, Multiprocessors: 128, ClockKHz: 2_520_000, MemoryClockKHz: 10_501_000, BusWidthBits: 384}, 82.6, 165.2, 1008},
		{Info{Name: "NVIDIA H100 80GB HBM3", Major: 9, Multiprocessors: 132, ClockKHz: 1_830_000, MemoryClockKHz: 2_619_000, BusWidthBits: 5120}, 61.8, 989, 3352},
		{Info{Name: "NVIDIA GeForce RTX 5090", Major: 12, Multiprocessors: 170, ClockKHz: 2_407_000, MemoryClockKHz: 14_001_000, BusWidthBits: 512}, 104.8, 209.5, 1792},
		{Info{Name: "emulated", Major: 8, Minor: 6, Multiprocessors: 4}, 0, 0, 0},
		{Info{Name: "a card of tomorrow", Major: 30, Multiprocessors: 100, ClockKHz: 3_000_000}, 0, 0, 0},
	} {
		vector, tensor := c.card.Peak()
		for what, pair := range map[string][2]float64{"vector": {vector / 1e12, c.vector}, "tensor": {tensor / 1e12, c.tensor}, "bandwidth": {c.card.Bandwidth() / 1e9, c.bandwidth}} {
			if math.Abs(pair[0]-pair[1]) > 0.02*pair[1] {
				t.Errorf("%s: %s %.1f, the data sheet says %.1f", c.card.Name, what, pair[0], pair[1])
			}
		}
	}
}
