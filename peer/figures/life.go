package figures

import (
	"slices"
	"time"

	"dunlin/pipeline"
	"dunlin/wire"
)

// Life is what a worker's heartbeat says of it.
type Life struct {
	State   wire.WorkerState
	Reason  string
	Halted  string // why inner steps stand still
	Device  string
	Warming int    // steps since inner steps last began
	Height  uint64 // of the newest commit applied
	Holds   uint64 // newest checkpoint held durably
	Left    uint64 // leased windows not yet read

	Step     uint64
	Tokens   uint64
	Loss     float64 // smoothed
	training time.Duration
	since    time.Duration
	recent   []time.Duration // newest steps, at most recentSteps
	Rate     Rate
	Flow     Flow
	overlap  []uint64 // τ of the newest merges, at most recentMerges
}

// Flow is how a pipeline's calls and micro-batches fare.
type Flow struct {
	Wait   time.Duration // of calls in the server's queue, moving average
	Pass   time.Duration // of a forward pass, moving average
	Totals pipeline.Totals
}

const (
	recentSteps  = 64
	recentMerges = 16
)

// Overlapped notes how many inner steps passed between a snapshot and the merge of the
// commit that decided it.
func (l *Life) Overlapped(steps uint64) {
	if steps == 0 {
		return
	}
	if len(l.overlap) == recentMerges {
		l.overlap = append(l.overlap[:0], l.overlap[1:]...)
	}
	l.overlap = append(l.overlap, steps)
}

// Tau is the median of those, in inner steps; 0 before the first.
func (l *Life) Tau() uint64 {
	if len(l.overlap) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l.overlap))
	return sorted[len(sorted)/2]
}

// Rate is tokens a second over the last seconds.
type Rate struct {
	at     []time.Time
	tokens []uint64
}

// A rate is over the last seconds. Over less than a moment it is not known: steps that were taken in together, after the
// driver was kept waiting, lie microseconds apart.
const (
	rateSpan  = 10 * time.Second
	rateLeast = 200 * time.Millisecond
)

func (r *Rate) add(now time.Time, tokens uint64) {
	r.at, r.tokens = append(r.at, now), append(r.tokens, tokens)
	for len(r.at) > 2 && now.Sub(r.at[0]) > rateSpan {
		r.at, r.tokens = r.at[1:], r.tokens[1:]
	}
}

// PerSecond returns the rate as of now: it falls when nothing comes any more.
func (r *Rate) PerSecond(now time.Time) float64 {
	if len(r.at) < 2 {
		return 0
	}
	span := max(r.at[len(r.at)-1].Sub(r.at[0]), now.Sub(r.at[0])-time.Second)
	if span < rateLeast {
		return 0
	}
	return float64(r.tokens[len(r.tokens)-1]-r.tokens[0]) / span.Seconds()
}

// Begin starts the counts of a new slot.
func (l *Life) Begin() {
	l.Step, l.Tokens, l.training, l.since, l.Left = 0, 0, 0, 0, 0
	l.Rate = Rate{}
}

// Step is an inner step as a worker reports it.
type Step struct {
	Step, Tokens    uint64
	Loss            float64       // 0 where it is not known
	Took            time.Duration // with the rest that follows
	Training, Since time.Duration // in steps, and in all, since the slot's first
}

// Stepped takes in a step.
func (l *Life) Stepped(s Step) {
	l.Step, l.training, l.since = s.Step, s.Training, s.Since
	l.Tokens += s.Tokens
	switch {
	case s.Loss == 0: // of a stage, which hears losses with other steps
	case l.Loss == 0:
		l.Loss = s.Loss
	default:
		l.Loss += (s.Loss - l.Loss) * 0.05
	}
	if l.recent = append(l.recent, s.Took); len(l.recent) > recentSteps {
		l.recent = l.recent[1:]
	}
	l.Rate.add(time.Now(), l.Tokens)
}

// StepTime returns the median inner step in µs, 0 before the first.
func (l *Life) StepTime() uint64 {
	if len(l.recent) == 0 {
		return 0
	}
	return uint64(max(1, l.step(0.5).Microseconds()))
}

// step returns what a share of the newest inner steps do not exceed; there must be one.
func (l *Life) step(share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(l.recent))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// Utilisation is the share of wall time inside inner steps since the slot's first.
func (l *Life) Utilisation() float64 {
	if l.since <= 0 {
		return 0
	}
	return min(1, float64(l.training)/float64(l.since))
}
