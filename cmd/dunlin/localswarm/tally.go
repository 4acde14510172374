package localswarm

import "dunlin/status"

// Counters are figures of a worker that only grow while its process, or its slot, lives.
type Counters struct {
	Tokens, Steps             uint64 // of a slot
	Outer, Round, Contributed uint64 // of a process
	Sent, Received            uint64
}

// Tally sums a worker's counters over its slots and processes, as heartbeats tell them.
type Tally struct {
	Last  status.Peer                    // the newest heartbeat
	base  Counters                       // of earlier slots and processes
	first struct{ tokens, clock uint64 } // of the present slot, once it trains
	least uint64                         // slot of the present process: a rejoin gets one above any before
}

// Restart says that a new process follows: what was heard so far is not its.
func (t *Tally) Restart() {
	if t.Last.Clock > 0 {
		t.least = t.Last.Slot + 1
	}
}

// Present reports whether the present process was heard.
func (t *Tally) Present() bool { return t.Last.Clock > 0 && t.Last.Slot >= t.least }

// Heard takes in a worker's newest figures.
func (t *Tally) Heard(p *status.Peer) {
	if p.Clock == 0 {
		t.Last.Alive, t.Last.Reason, t.Last.State = p.Alive, p.Reason, p.State
		return // admitted, and nothing heard yet
	}
	restarted := p.Clock < t.Last.Clock
	if restarted {
		t.base.Outer += t.Last.OuterSteps
		t.base.Round += t.Last.RoundBytes
		t.base.Contributed += t.Last.ContributionBytes
		t.base.Sent += t.Last.Sent
		t.base.Received += t.Last.Received
	}
	if restarted || p.Slot != t.Last.Slot {
		t.base.Tokens += t.Last.Tokens
		t.base.Steps += t.Last.Step
		t.first.tokens, t.first.clock = 0, 0
	}
	if t.first.clock == 0 && p.Tokens > 0 {
		t.first.tokens, t.first.clock = p.Tokens, p.Clock
	}
	t.Last = *p
}

// Total returns the sums.
func (t *Tally) Total() Counters {
	return Counters{
		Tokens: t.base.Tokens + t.Last.Tokens, Steps: t.base.Steps + t.Last.Step, Outer: t.base.Outer + t.Last.OuterSteps,
		Round: t.base.Round + t.Last.RoundBytes, Contributed: t.base.Contributed + t.Last.ContributionBytes,
		Sent: t.base.Sent + t.Last.Sent, Received: t.base.Received + t.Last.Received,
	}
}

// TokensPerSecond is the rate of the present slot, from its first heartbeat with tokens to its newest.
func (t *Tally) TokensPerSecond() float64 {
	if t.first.clock == 0 || t.Last.Clock <= t.first.clock {
		return 0
	}
	return float64(t.Last.Tokens-t.first.tokens) / (float64(t.Last.Clock-t.first.clock) / 1000)
}
