package peer

import (
	"slices"
	"time"

	"dunlin/coordinator"
	"dunlin/wire"
)

// heartbeat fills in the figures and sends them.
func (p *Peer) heartbeat(e coordinator.SendHeartbeat) {
	h := p.pulse(e)
	p.figures.Heard(p.self, h)
	lead := p.reign.Lead()
	if lead == p.self {
		p.next(coordinator.HeartbeatFrom{Peer: p.self, Heartbeat: *h})
		return
	}
	p.learned(lead, true)
	p.tell(lead, h)
}

func (p *Peer) pulse(e coordinator.SendHeartbeat) *wire.Heartbeat {
	l, traffic := &p.life, p.transport.Traffic()
	h := &wire.Heartbeat{
		Slot: e.Slot, State: e.State, Reason: e.Reason, Height: p.life.Height, Step: l.Step, Tokens: l.Tokens,
		Loss: wire.FloatOf(float32(l.Loss)), TokensPerSecond: wire.FloatOf(float32(l.Rate.PerSecond(time.Now()))),
		Utilisation: wire.FloatOf(float32(l.Utilisation())), Sent: traffic.Sent, Received: traffic.Received,
		StepTime: l.StepTime(), Holds: l.Holds, OuterSteps: p.figures.Merges / p.heldFragments(),
		RoundBytes:        traffic.ClassSent[wire.ClassContribution] + traffic.ClassSent[wire.ClassResult] + traffic.ClassSent[wire.ClassControl],
		ContributionBytes: p.figures.Contributed,
		Clock:             uint64(time.Since(p.figures.Started).Milliseconds()), Device: l.Device, Overlap: l.Tau(),
	}
	if t := l.Flow.Totals; p.pipe != nil {
		h.QueueWait, h.PassTime = uint64(l.Flow.Wait.Microseconds()), uint64(l.Flow.Pass.Microseconds())
		h.Micros, h.Partly = t.Counted+t.Partly+t.Abandoned, t.Partly+t.Somewhere
	}
	if heads := p.stateHeads(); heads != nil {
		h.StateHash = p.replica.HashHeld(heads)
	}
	return h
}

// stateHeads returns the present state's heads: with the hashes that the commits named, or, when training is over,
// with those computed from memory; nil until they are.
func (p *Peer) stateHeads() []wire.FragmentHead {
	heads := p.replica.Heads()
	if p.settingsIn.Phase != wire.PhaseEnded {
		return heads
	}
	if !slices.EqualFunc(p.hashed, heads, func(a, b wire.FragmentHead) bool { return a.Version == b.Version }) {
		return nil
	}
	return p.hashed
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

// serves tells whether an entry about a round concerns what this peer trains: the
// rounds of other stages are not its own.
func (p *Peer) serves(body wire.Body) bool {
	var fragment uint64
	switch b := body.(type) {
	case *wire.Attempt:
		fragment = b.Fragment
	case *wire.Commit:
		fragment = b.Fragment
	default:
		return true
	}
	return p.cfg.Stage == wire.AllStages || p.spec.StageOf(int(fragment)) == p.cfg.Stage //nolint:gosec // the ledger's rules bound it
}
