package ptxemu

import "math"

// Card is what the model of Predict knows of a GPU, from the maker's data sheets.
type Card struct {
	Name            string  `json:"name"`
	Multiprocessors float64 `json:"multiprocessors"`
	GHz             float64 `json:"boost_ghz"`
	Lanes           float64 `json:"fma_per_clock"`           // float32 multiply-adds of a multiprocessor
	Tensor          float64 `json:"tensor_flop_per_clock"`   // of a multiprocessor, 16-bit factors with float32 sums
	MemoryBytes     float64 `json:"memory_bytes_per_second"` // of the card's memory
}

// Cards returns the cards that predictions are made for.
func Cards() []Card {
	return []Card{
		{"RTX 3060", 28, 1.777, 128, 512, 360e9},
		{"RTX 4090", 128, 2.52, 128, 512, 1008e9},
		{"A100 40GB", 108, 1.41, 64, 2048, 1555e9},
		{"H100 SXM", 132, 1.83, 128, 4096, 3350e9},
	}
}

// Constants of the model.
const (
	cacheBytes  = 64   // between a multiprocessor and the second cache in a clock
	schedulers  = 4    // instructions of warps that a multiprocessor issues in a clock
	launchDelay = 3e-6 // seconds between kernels of a stream
)

// Prediction is what the model says of a kernel on a card. Nobody measured it.
type Prediction struct {
	Card    Card    `json:"card"`
	Seconds float64 `json:"predicted_seconds"`    // of all launches
	Bound   string  `json:"bound"`                // what it waits for most
	Share   float64 `json:"predicted_peak_share"` // tensor cores' peak for kernels with MMA, else float32's
}

// Intensity returns operations for each byte of the footprint (Williams, Waterman
// and Patterson 2009, Roofline).
func (c *Counters) Intensity() float64 {
	return float64(c.Flops+c.MMAFlops) / math.Max(float64(c.Footprint), 1)
}

// MMAShare returns the share of operations that tensor cores do.
func (c *Counters) MMAShare() float64 { return share(c.MMAFlops, max(c.Flops+c.MMAFlops, 1)) }

// Predict estimates a kernel's time from its counters alone. Each part of the
// card works at its peak and beside the others, so that the slowest decides:
// memory moves the footprint (what a launch touches, once), the second cache
// moves all sectors, shared memory passes one wavefront in a clock, schedulers
// issue, float32 and tensor units compute. Blocks that do not fill all
// multiprocessors evenly leave some idle, and each launch costs a delay.
// Latency, occupancy, cache misses beyond the footprint and clocks that fall
// under load are left out: the truth is slower.
func (c *Counters) Predict(card Card) Prediction {
	clock := card.Multiprocessors * card.GHz * 1e9 // of all multiprocessors in a second
	launches := math.Max(float64(c.Launches), 1)
	perLaunch := float64(c.Blocks) / launches
	rounds := math.Ceil(perLaunch / card.Multiprocessors)
	even := perLaunch / (rounds * card.Multiprocessors)
	p := Prediction{Card: card, Bound: "launch"}
	slowest := 0.0
	for _, part := range []struct {
		name    string
		seconds float64
	}{
		{"memory", float64(c.Footprint) / card.MemoryBytes},
		{"cache", float64(c.Sectors) * 32 / (clock * cacheBytes) / even},
		{"shared", float64(c.Wavefronts) / clock / even},
		{"issue", float64(c.Instructions) / (clock * schedulers) / even},
		{"float32", float64(c.Flops) / (clock * 2 * card.Lanes) / even},
		{"tensor", float64(c.MMAFlops) / (clock * card.Tensor) / even},
	} {
		if part.seconds > slowest {
			slowest, p.Bound = part.seconds, part.name
		}
	}
	delay := launches * launchDelay
	if delay > slowest {
		p.Bound = "launch"
	}
	p.Seconds = slowest + delay
	peak := clock * 2 * card.Lanes
	if c.MMA > 0 {
		peak = clock * card.Tensor
	}
	p.Share = float64(c.Flops+c.MMAFlops) / p.Seconds / peak
	return p
}
