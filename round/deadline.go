package round

import (
	"slices"
	"time"
)

// readySamples is how many ready times a deadline looks back on.
const readySamples = 16

// readyTimes remembers how long after a round's first Ready the others came,
// the first (0) included.
type readyTimes struct {
	samples []time.Duration // oldest first
}

func (t *readyTimes) add(d time.Duration) {
	if len(t.samples) == readySamples {
		t.samples = append(t.samples[:0], t.samples[1:]...)
	}
	t.samples = append(t.samples, max(0, d))
}

// wait returns how long after its first Ready a round waits for the others:
// median + 4·MAD of what is remembered, within [least, 2·H·t], and 2·H·t in a
// fragment's first round (R4). step is the largest step time reported, 0 when
// none is.
func (t *readyTimes) wait(h uint64, step, least time.Duration) time.Duration {
	most := max(least, 2*time.Duration(h)*step)
	if len(t.samples) == 0 {
		return most
	}
	median := middle(t.samples)
	deviations := make([]time.Duration, len(t.samples))
	for i, s := range t.samples {
		deviations[i] = (s - median).Abs()
	}
	return min(most, max(least, median+4*middle(deviations)))
}

func middle(ds []time.Duration) time.Duration {
	sorted := slices.Clone(ds)
	slices.Sort(sorted)
	n := len(sorted)
	return sorted[(n-1)/2] + (sorted[n/2]-sorted[(n-1)/2])/2
}
