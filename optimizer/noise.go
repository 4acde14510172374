package optimizer

import (
	"errors"
	"fmt"
	"math"
)

// NoiseScale estimates the simple gradient noise scale tr(Σ)/|G|² (McCandlish et
// al., arXiv 1812.06162, appendix A.1): the batch, in windows, at which the noise of
// a gradient is as large as the gradient. Far below it twice the batch saves half
// the steps, far above it nothing. It is a value; the zero value with a Decay has
// seen nothing.
type NoiseScale struct {
	Decay float64 // of the running means with each observation, [0, 1)

	Signal float64 // running mean of the estimates of |G|²
	Noise  float64 // running mean of the estimates of tr(Σ), for a batch of one window
	Seen   int     // observations
}

// Observe takes in the squared norms of two gradients of the same step: of a small
// batch, and of a larger one that may contain it. Both estimates are unbiased and
// either may be negative in one step, so their means are kept apart and divided
// late. Batches that do not differ, and norms that are not finite, say nothing.
func (n NoiseScale) Observe(small int, smallSquare float64, big int, bigSquare float64) NoiseScale {
	if small < 1 || big <= small || !finite(smallSquare) || !finite(bigSquare) {
		return n
	}
	b, s := float64(big), float64(small)
	signal := (b*bigSquare - s*smallSquare) / (b - s)
	noise := (smallSquare - bigSquare) / (1/s - 1/b)
	n.Signal = n.Decay*n.Signal + (1-n.Decay)*signal
	n.Noise = n.Decay*n.Noise + (1-n.Decay)*noise
	n.Seen++
	return n
}

// Windows returns the noise scale in windows, +Inf when the gradient cannot be told
// from noise, 0 when the noise cannot be seen. ok is false before anything was seen.
func (n NoiseScale) Windows() (windows float64, ok bool) {
	switch {
	case n.Seen == 0:
		return 0, false
	case n.Noise <= 0:
		return 0, true
	case n.Signal <= 0:
		return math.Inf(1), true
	}
	return n.Noise / n.Signal, true // both means lack the same factor for their zero start
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// Validate refuses what Observe cannot have left, as a file may hold it.
func (n NoiseScale) Validate() error {
	return errors.Join(checkDecay("noise scale", "decay", n.Decay), n.checkMeans())
}

func (n NoiseScale) checkMeans() error {
	if !finite(n.Signal) || !finite(n.Noise) || n.Seen < 0 {
		return fmt.Errorf("noise scale: means %g and %g of %d observations are none", n.Signal, n.Noise, n.Seen)
	}
	return nil
}
