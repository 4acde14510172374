package round

import (
	"fmt"
	"math"
	"slices"
	"time"

	"dunlin/wire"
)

type readyRecord struct {
	signed wire.SignedReady
	quoted bool // an attempt named it, so owners may hold its slabs
}

// ready takes in a Ready or refuses it with the reason.
func (l *Leader) ready(ev ReadyFrom) {
	ready := &ev.Ready.Ready
	if reason := l.refuseReady(ev.Peer, ready); reason != "" {
		l.note("%s: the contribution of %s, slot %d, is refused: %s", about(ready.Fragment, ready.Base), ev.Peer.Short(), ready.Slot, reason)
		return
	}
	r := l.rounds[ready.Fragment]
	delete(r.strikes, ready.Slot)
	old := r.readys[ready.Slot]
	if old != nil && sameReady(&old.signed.Ready, ready) {
		return
	}
	r.readys[ready.Slot] = &readyRecord{signed: ev.Ready}
	if r.first.IsZero() {
		r.first = l.now
		h, _ := l.tunings.At(r.fragment, r.head.Version+1)
		step := l.slowest(r.fragment, ready.StepTime)
		wait := r.times.wait(h, step, millis(l.cfg.Deadlines.ReadyMin))
		r.due = l.now.Add(max(wait, min(l.leftOut(r), 2*time.Duration(h)*step)))
		r.wake = l.now
	}
	if old == nil {
		late := l.now.Sub(r.first)
		r.times.add(late)
		s := l.record(ready.Slot)
		s.usual[r.fragment] = mixed(s.usual[r.fragment], late)
	}
	if w := l.worker(ready.Slot); ready.StepTime > 0 {
		w.StepTime = ready.StepTime
	}
}

// refuseReady returns why a Ready does not count, or "".
func (l *Leader) refuseReady(peer wire.PeerID, ready *wire.Ready) string {
	w := l.worker(ready.Slot)
	if w == nil || w.Peer != peer {
		return "the slot is not this peer's"
	}
	if ready.Fragment >= uint64(len(l.rounds)) {
		return "no such fragment"
	}
	if l.cfg.Stages != nil && w.Stage != l.cfg.Stages[ready.Fragment] {
		return fmt.Sprintf("the fragment is in stage %d, the slot in %d", l.cfg.Stages[ready.Fragment], w.Stage)
	}
	r, s := l.rounds[ready.Fragment], l.record(ready.Slot)
	if ready.Base != r.head.Version {
		return fmt.Sprintf("the fragment's head is version %d", r.head.Version)
	}
	if s.refuse[ready.Fragment] == ready.Base+1 {
		return "the round was open when the slot was given"
	}
	if reason := l.refuseWork(ready); reason != "" {
		return reason
	}
	if end := l.history.at(ready.Slot, r.fragment).end; ready.From < end {
		return fmt.Sprintf("steps up to %d are committed", end)
	}
	if l.cfg.Stages != nil {
		if other, twice := r.claimed(ready); twice {
			return fmt.Sprintf("windows of it are in the contribution of slot %d: a micro-batch counts once in a stage", other)
		}
	}
	if old := r.readys[ready.Slot]; old != nil && old.quoted && !sameReady(&old.signed.Ready, ready) {
		return "another contribution of this slot was in an attempt"
	}
	return ""
}

// claimed returns another slot that is ready with one of the windows (R11). Without
// stages leases keep them apart.
func (r *leaderRound) claimed(ready *wire.Ready) (other wire.Slot, twice bool) {
	for slot, record := range r.readys {
		if slot == ready.Slot || twice && slot > other {
			continue
		}
		for _, a := range record.signed.Ready.Windows {
			if slices.ContainsFunc(ready.Windows, func(b wire.Range) bool { return a.From < b.To && b.From < a.To }) {
				other, twice = slot, true
				break
			}
		}
	}
	return other, twice
}

// refuseWork returns why the claimed work cannot be, or "".
func (l *Leader) refuseWork(ready *wire.Ready) string {
	norm := float64(ready.Norm.Value())
	if ready.Root.IsZero() || math.IsNaN(norm) || math.IsInf(norm, 0) || norm < 0 {
		return "no root or no norm"
	}
	if ready.From >= ready.To || ready.Tokens == 0 || ready.Tokens > maxTokens {
		return "steps or tokens out of bounds"
	}
	if (ready.Tokens-1)/l.cfg.StepTokens >= ready.To-ready.From {
		return fmt.Sprintf("%d steps cannot train %d tokens", ready.To-ready.From, ready.Tokens)
	}
	if len(ready.Windows) > wire.MaxClaims {
		return fmt.Sprintf("%d ranges of windows, at most %d are allowed", len(ready.Windows), wire.MaxClaims)
	}
	var windows uint64
	for _, w := range ready.Windows {
		if w.From >= w.To || w.Len() > maxTokens {
			return "a range of windows is out of bounds"
		}
		windows += w.Len()
	}
	if (ready.Tokens-1)/l.cfg.Context >= windows {
		return fmt.Sprintf("%d windows do not hold %d tokens", windows, ready.Tokens)
	}
	return ""
}

func sameReady(a, b *wire.Ready) bool {
	return a.Root == b.Root && a.From == b.From && a.To == b.To && a.Tokens == b.Tokens && a.Norm == b.Norm && slices.Equal(a.Windows, b.Windows)
}

// slowest returns the largest step time reported, but not more than slowFactor
// times the pace, so that nobody makes rounds wait at will.
func (l *Leader) slowest(fragment int, own uint64) time.Duration {
	t, workers := own, l.stage(fragment)
	for _, w := range workers {
		if w.Active {
			t = max(t, w.StepTime)
		}
	}
	if pace := paceOf(workers); pace > 0 {
		t = min(t, slowFactor*pace)
	}
	return time.Duration(min(t, maxStepTime)) * time.Microsecond
}

const slowFactor = 16

// waiting returns the slots whose Ready the round should have, ascending.
func (l *Leader) waiting(r *leaderRound) []Waiting {
	var out []Waiting
	for _, w := range l.stage(r.fragment) {
		if !w.Active && w.Connected {
			continue
		}
		s := l.record(w.Slot)
		mark := r.head.Version + 1
		if r.readys[w.Slot] != nil || s.refuse[r.fragment] == mark || s.ignore[r.fragment] == mark {
			continue
		}
		switch {
		case w.Active:
			out = append(out, Waiting{w.Slot, "not ready yet"})
		case s.returning:
			out = append(out, Waiting{w.Slot, "not back since the coordinator started"})
		}
	}
	return out
}

// maxMisses bounds how many rounds' work a latecomer is taken to bring.
const maxMisses = 8

// leftOut returns when those come as a rule, and a quarter later, who have missed so many commits that a round is to be open for them
// once: with the others' pace one who is always a little late would be in none.
func (l *Leader) leftOut(r *leaderRound) (late time.Duration) {
	for _, w := range l.stage(r.fragment) {
		if w.Active && w.Connected && l.misses(r, w.Slot) == maxMisses {
			usual := l.record(w.Slot).usual[r.fragment]
			late = max(late, usual+usual/4)
		}
	}
	return late
}

// misses returns how many commits of the fragment in a row a slot is not in.
func (l *Leader) misses(r *leaderRound, slot wire.Slot) uint64 {
	return min(maxMisses, r.head.Version-min(r.head.Version, l.history.at(slot, r.fragment).included))
}

// worthUntil returns until when the round should wait for those that are not ready,
// before it asks again; it is the time now when it should not.
func (l *Leader) worthUntil(r *leaderRound, waiting []Waiting) time.Time {
	h, _ := l.tunings.At(r.fragment, r.head.Version+1)
	interval := time.Duration(h*paceOf(l.stage(r.fragment))) * time.Microsecond
	if interval == 0 {
		return r.due
	}
	if len(l.candidates(r)) < l.quorum(r) {
		return earliest(r.due, l.now.Add(interval/leastShare))
	}
	var tokens []uint64
	for _, ready := range r.readys {
		tokens = append(tokens, ready.signed.Ready.Tokens)
	}
	typical := medianOf(tokens)
	arrived := 0.0
	for _, n := range tokens {
		arrived += float64(min(n, weightCap*typical))
	}
	var late []latecomer
	for _, w := range waiting {
		late = append(late, latecomer{work: float64(typical * (1 + l.misses(r, w.Slot))), usual: l.record(w.Slot).usual[r.fragment]})
	}
	until, wait := worthwhile(arrived, late, l.now.Sub(r.first), interval)
	if !wait {
		return l.now
	}
	return earliest(r.due, r.first.Add(until))
}

// quorum returns how many members an attempt needs: two, or one when nobody
// else that may take part in this round trains or can be back before its slot
// ends.
func (l *Leader) quorum(r *leaderRound) int {
	n := 0
	for _, w := range l.stage(r.fragment) {
		s := l.record(w.Slot)
		if s.refuse[r.fragment] == r.head.Version+1 {
			continue
		}
		if w.Active || (!w.Connected && (s.trained || s.returning)) {
			n++
		}
	}
	return min(2, max(1, n))
}

// candidates returns the ready members that can be reached, without those that failed to deliver and have said nothing
// since, where they are a minority, and without those that failed twice, unless they are needed.
func (l *Leader) candidates(r *leaderRound) []candidate {
	var sure, good, all []candidate
	for _, w := range l.stage(r.fragment) {
		ready := r.readys[w.Slot]
		if ready == nil || !w.Connected {
			continue
		}
		c := candidate{
			worker: w, ready: ready.signed, included: l.history.at(w.Slot, r.fragment).included, mute: l.record(w.Slot).mute[r.fragment] > r.head.Version,
		}
		all = append(all, c)
		if r.strikes[w.Slot] == 0 {
			sure = append(sure, c)
		}
		if r.strikes[w.Slot] < 2 {
			good = append(good, c)
		}
	}
	switch quorum := l.quorum(r); {
	case len(sure) >= quorum && 2*len(sure) > len(all):
		return sure
	case len(good) >= quorum:
		return good
	}
	return all
}
