package optimizer

import (
	"fmt"
	"math"
)

// BatchSchedule lets a step's batch grow with the gradient noise scale. The noise
// scale rises while the loss falls, so that small steps early and large ones late
// reach a loss on less data than any fixed batch (McCandlish et al., section 2.5).
// It is a pure function; BatchState is all that it knows.
type BatchSchedule struct {
	Micro int     // windows in a micro-batch, at least 1
	First int     // micro-batches in a step at the start, at least 2, so that there are two batches to compare
	Most  int     // micro-batches in a step, at least First
	Every int     // steps between two decisions, at least 1
	Share float64 // of the noise scale that a step aims at, above 0
	Decay float64 // of the noise scale's running means with each step, [0, 1)
}

// Validate checks the ranges of the fields.
func (c BatchSchedule) Validate() error {
	switch {
	case c.Micro < 1:
		return fmt.Errorf("batch schedule with micro-batches of %d windows: at least 1 is needed", c.Micro)
	case c.First < 2 || c.Most < c.First:
		return fmt.Errorf("batch schedule from %d to %d micro-batches: allowed are 2 and more, the first at most the second", c.First, c.Most)
	case c.Every < 1:
		return fmt.Errorf("batch schedule that decides every %d steps: at least 1 is needed", c.Every)
	case !(c.Share > 0) || math.IsInf(c.Share, 0):
		return fmt.Errorf("batch schedule with a share of %g of the noise scale: allowed are finite values above 0", c.Share)
	}
	return checkDecay("batch schedule", "decay", c.Decay)
}

// BatchState is where a batch schedule stands.
type BatchState struct {
	Micros int // micro-batches in the next step
	Since  int // steps since the last decision
	Noise  NoiseScale
}

// Start returns the state before the first step.
func (c BatchSchedule) Start() BatchState {
	return BatchState{Micros: c.First, Noise: NoiseScale{Decay: c.Decay}}
}

// Check refuses a state that this schedule cannot have left, as a file may hold it.
func (c BatchSchedule) Check(s BatchState) error {
	if s.Micros < c.First || s.Micros > c.Most || s.Since < 0 || s.Since >= c.Every || s.Noise.Decay != c.Decay {
		return fmt.Errorf("%w: %+v is no state of the batch schedule %+v", ErrState, s, c)
	}
	return s.Noise.checkMeans()
}

// Next returns the state after a step of s.Micros micro-batches, from the squared
// norm of the first micro-batch's gradient and of the whole step's. The batch never
// shrinks, as a noise scale that falls is most often one that was measured badly,
// and at most doubles at a decision.
func (c BatchSchedule) Next(s BatchState, firstSquare, stepSquare float64) BatchState {
	s.Noise = s.Noise.Observe(c.Micro, firstSquare, s.Micros*c.Micro, stepSquare)
	if s.Since++; s.Since < c.Every {
		return s
	}
	s.Since = 0
	windows, ok := s.Noise.Windows()
	if !ok {
		return s
	}
	most := min(2*s.Micros, c.Most)
	if wanted := math.Ceil(c.Share * windows / float64(c.Micro)); wanted < float64(most) {
		most = int(wanted)
	}
	s.Micros = max(s.Micros, most)
	return s
}
