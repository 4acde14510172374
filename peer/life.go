package peer

import (
	"slices"
	"time"

	"dunlin/coordinator"
	"dunlin/wire"
)

// life is what a worker's heartbeat says of it.
type life struct {
	state   wire.WorkerState
	reason  string
	halted  string // why inner steps stand still
	device  string
	warming int    // steps since inner steps last began
	height  uint64 // of the newest commit applied
	holds   uint64 // newest checkpoint held durably
	left    uint64 // leased windows not yet read

	step     uint64
	tokens   uint64
	loss     float64 // smoothed
	training time.Duration
	since    time.Duration
	recent   []time.Duration // newest steps, at most recentSteps
	rate     rate
	flow     flow
	overlap  []uint64 // τ of the newest merges, at most recentMerges
}

const (
	recentSteps  = 32
	recentMerges = 16
)

// overlapped notes how many inner steps passed between a snapshot and the merge of the
// commit that decided it.
func (l *life) overlapped(steps uint64) {
	if steps == 0 {
		return
	}
	if len(l.overlap) == recentMerges {
		l.overlap = append(l.overlap[:0], l.overlap[1:]...)
	}
	l.overlap = append(l.overlap, steps)
}

// tau is the median of those, in inner steps; 0 before the first.
func (l *life) tau() uint64 {
	if len(l.overlap) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l.overlap))
	return sorted[len(sorted)/2]
}

// rate is tokens a second over the last seconds.
type rate struct {
	at     []time.Time
	tokens []uint64
}

const rateSpan = 10 * time.Second

func (r *rate) add(now time.Time, tokens uint64) {
	r.at, r.tokens = append(r.at, now), append(r.tokens, tokens)
	for len(r.at) > 2 && now.Sub(r.at[0]) > rateSpan {
		r.at, r.tokens = r.at[1:], r.tokens[1:]
	}
}

// perSecond returns the rate as of now: it falls when nothing comes any more.
func (r *rate) perSecond(now time.Time) float64 {
	if len(r.at) < 2 {
		return 0
	}
	span := max(r.at[len(r.at)-1].Sub(r.at[0]), now.Sub(r.at[0])-time.Second)
	return float64(r.tokens[len(r.tokens)-1]-r.tokens[0]) / span.Seconds()
}

// begin starts the counts of a new slot.
func (l *life) begin() {
	l.step, l.tokens, l.training, l.since, l.left = 0, 0, 0, 0, 0
	l.rate = rate{}
}

func (l *life) stepped(s stepDone) {
	l.step, l.training, l.since = s.step, s.training, s.since
	l.tokens += s.tokens
	switch {
	case s.loss == 0: // of a stage, which hears losses with other steps
	case l.loss == 0:
		l.loss = s.loss
	default:
		l.loss += (s.loss - l.loss) * 0.05
	}
	if l.recent = append(l.recent, s.took); len(l.recent) > recentSteps {
		l.recent = l.recent[1:]
	}
	l.rate.add(time.Now(), l.tokens)
}

// stepTime returns the median inner step in µs, 0 before the first.
func (l *life) stepTime() uint64 {
	if len(l.recent) == 0 {
		return 0
	}
	sorted := slices.Clone(l.recent)
	slices.Sort(sorted)
	return uint64(max(1, sorted[len(sorted)/2].Microseconds()))
}

// utilisation is the share of wall time inside inner steps since the slot's first.
func (l *life) utilisation() float64 {
	if l.since <= 0 {
		return 0
	}
	return min(1, float64(l.training)/float64(l.since))
}

// heartbeat fills in the figures and sends them.
func (p *Peer) heartbeat(e coordinator.SendHeartbeat) {
	h := p.pulse(e)
	p.figures.heard(p.self, h)
	if p.lead == p.self {
		p.next(coordinator.HeartbeatFrom{Peer: p.self, Heartbeat: *h})
		return
	}
	p.learned(p.lead, true)
	p.tell(p.lead, h)
}

func (p *Peer) pulse(e coordinator.SendHeartbeat) *wire.Heartbeat {
	l, traffic := &p.life, p.transport.Traffic()
	h := &wire.Heartbeat{
		Slot: e.Slot, State: e.State, Reason: e.Reason, Height: p.life.height, Step: l.step, Tokens: l.tokens,
		Loss: wire.FloatOf(float32(l.loss)), TokensPerSecond: wire.FloatOf(float32(l.rate.perSecond(time.Now()))),
		Utilisation: wire.FloatOf(float32(l.utilisation())), Sent: traffic.Sent, Received: traffic.Received,
		StepTime: l.stepTime(), Holds: l.holds, OuterSteps: p.figures.merges / p.heldFragments(),
		RoundBytes:        traffic.ClassSent[wire.ClassContribution] + traffic.ClassSent[wire.ClassResult] + traffic.ClassSent[wire.ClassControl],
		ContributionBytes: p.figures.contributed,
		Clock:             uint64(time.Since(p.figures.started).Milliseconds()), Device: l.device, Overlap: l.tau(),
	}
	if t := l.flow.totals; p.pipe != nil {
		h.QueueWait, h.PassTime = uint64(l.flow.wait.Microseconds()), uint64(l.flow.pass.Microseconds())
		h.Micros, h.Partly = t.Counted+t.Partly+t.Abandoned, t.Partly+t.Somewhere
	}
	h.StateHash = p.stateHash()
	return h
}

// stateHash hashes the replica from memory when training is over, when the
// hash is what everybody waits for; else it returns what the commits named.
func (p *Peer) stateHash() wire.Hash {
	if p.settingsIn.Phase == wire.PhaseEnded {
		p.sabotage()
		return p.replica.Hash()
	}
	return p.replica.HashHeld()
}

// heldFragments counts the fragments that this peer holds.
func (p *Peer) heldFragments() uint64 {
	var n uint64
	for f := range p.replica.Fragments() {
		if p.replica.Holds(f) {
			n++
		}
	}
	return n
}
