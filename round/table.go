package round

import (
	"cmp"
	"math"
	"slices"

	"dunlin/wire"
)

// candidate is a ready worker that an attempt may take in.
type candidate struct {
	worker   Worker
	ready    wire.SignedReady
	included uint64 // version of the fragment that last had its contribution
	mute     bool   // what it summed lately never came: it is to own nothing
}

// Factors of the tables (protocol, R2 and "A round").
const (
	weightCap   = 2 // a weight counts up to this multiple of the median
	clipFrom    = 4 // members from which norms are clipped
	clipFactor  = 3 // a norm per token counts up to this multiple of the median
	maxTokens   = 1 << 48
	maxStepTime = 1 << 40
)

// minClip keeps a clip factor positive, as the table's format demands. It is far below
// what any norm that a sum takes (at most 2^60) is clipped by.
const minClip = float32(0x1p-126)

// choose returns at most wire.MaxMembers candidates in rank order, which is
// ascending slot; of more, those that were included least recently.
func choose(ready []candidate) []candidate {
	chosen := slices.Clone(ready)
	if len(chosen) > wire.MaxMembers {
		slices.SortFunc(chosen, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(a.included, b.included), cmp.Compare(a.worker.Slot, b.worker.Slot))
		})
		chosen = chosen[:wire.MaxMembers]
	}
	slices.SortFunc(chosen, func(a, b candidate) int { return cmp.Compare(a.worker.Slot, b.worker.Slot) })
	return chosen
}

// attemptTable builds the table of an attempt from its members in rank order.
func attemptTable(members []candidate, owners []wire.Share, pace uint64) *wire.AttemptTable {
	t := &wire.AttemptTable{Members: make([]wire.AttemptMember, len(members)), Owners: owners, Pace: pace}
	tokens := make([]uint64, len(members))
	norms := make([]float64, len(members))
	for i, m := range members {
		tokens[i] = m.ready.Ready.Tokens
		norms[i] = normPerToken(&m.ready.Ready)
	}
	most := weightCap * medianOf(tokens)
	typical := medianOf(norms)
	for i, m := range members {
		t.Members[i] = wire.AttemptMember{
			Peer:   m.worker.Peer,
			Ready:  m.ready,
			Weight: max(1, min(tokens[i], most)),
			Clip:   wire.FloatOf(clip(typical, norms[i], len(members))),
			Addrs:  m.worker.Addrs,
		}
	}
	return t
}

func normPerToken(r *wire.Ready) float64 { return float64(r.Norm.Value()) / float64(r.Tokens) }

// clip returns the factor in (0, 1] for a contribution whose norm per token is
// own where typical is the median of n members.
func clip(typical, own float64, n int) float32 {
	if n < clipFrom || own <= clipFactor*typical || typical == 0 {
		return 1
	}
	return max(minClip, float32(clipFactor*typical/own))
}

// commitTable says who contributed and who summed. Members that no slab's sum
// includes did not contribute: they are left out, and bits move up.
func commitTable(members []wire.AttemptMember, slabs []wire.SlabResult) wire.CommitTable {
	var in uint64
	for i := range slabs {
		in |= slabs[i].Members
	}
	t := wire.CommitTable{Slabs: slices.Clone(slabs)}
	for i := range t.Slabs {
		t.Slabs[i].Members = 0
	}
	for r := range members {
		if in>>uint(r)&1 == 0 {
			continue
		}
		for i := range slabs {
			t.Slabs[i].Members |= slabs[i].Members >> uint(r) & 1 << uint(len(t.Contributors))
		}
		m := &members[r]
		t.Contributors = append(t.Contributors, wire.Contributor{
			Slot: m.Ready.Ready.Slot, Root: m.Ready.Ready.Root, From: m.Ready.Ready.From, To: m.Ready.Ready.To,
			Tokens: m.Ready.Ready.Tokens, Windows: m.Ready.Ready.Windows, Weight: m.Weight, Clip: m.Clip,
		})
	}
	return t
}

// paceOf returns the step time at the 90th percentile of speed, so the 10th of
// time, by nearest rank; 0 when nobody's is known. It is no less than a 16th of the
// median: among few workers the fastest sets it, who may claim what it likes.
func paceOf(workers []Worker) uint64 {
	var times []uint64
	for _, w := range workers {
		if w.Active && w.StepTime > 0 {
			times = append(times, min(w.StepTime, maxStepTime))
		}
	}
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return max(times[int(math.Ceil(0.1*float64(len(times))))-1], medianOf(times)/slowFactor)
}

// medianOf returns the median; of an even number, the mean of the middle two.
func medianOf[T uint64 | float64](values []T) T {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
