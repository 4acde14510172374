package round

import (
	"cmp"
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

// latecomer is a worker whose Ready a round does not have yet.
type latecomer struct {
	work  float64       // tokens that its contribution would bring
	usual time.Duration // after the first Ready, when its own comes as a rule; below 0: not known
}

// leastShare of an interval is waited in any case: Readys never come at once.
const leastShare = 8

// worthwhile returns how long after its first Ready a round whose elapsed time brought
// arrived tokens should be open for the sake of latecomers, and false when no wait
// pays: with dynamic backup workers (Xu, Neglia and Sebastianelli 2020) a round is closed
// where its gain over its time is largest. Its time is an interval and what it waits;
// its gain is taken to grow with the tokens, which is the most that a contribution can
// bring: outer gradients of different workers are nearly orthogonal. One that is later
// than usual is expected to be so by as much again.
func worthwhile(arrived float64, late []latecomer, elapsed, interval time.Duration) (until time.Duration, wait bool) {
	least := interval / leastShare
	if len(late) > 0 && elapsed < least {
		return least, true
	}
	late = slices.Clone(late)
	for i := range late {
		if usual := late[i].usual; usual <= elapsed {
			late[i].usual = elapsed + max(elapsed-max(0, usual), least/2)
		}
	}
	slices.SortFunc(late, func(a, b latecomer) int { return cmp.Compare(a.usual, b.usual) })
	best := arrived / float64(interval+elapsed)
	for _, l := range late {
		arrived += l.work
		if rate := arrived / float64(interval+l.usual); rate > best {
			best, until, wait = rate, l.usual, true
		}
	}
	return until, wait
}

// mixed returns what is usual after something was seen.
func mixed(usual, seen time.Duration) time.Duration {
	if usual < 0 {
		return seen
	}
	return (usual + seen) / 2
}

func middle(ds []time.Duration) time.Duration {
	sorted := slices.Clone(ds)
	slices.Sort(sorted)
	n := len(sorted)
	return sorted[(n-1)/2] + (sorted[n/2]-sorted[(n-1)/2])/2
}
