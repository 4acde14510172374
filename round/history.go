package round

import "dunlin/wire"

// History is what commits leave for later rounds. For every slot and fragment it
// says where the last committed interval ended, so that no step is committed
// twice (R2); for every slab, who summed it last and what error feedback that
// left, so that the next sum can be held to it (R10). It outlives terms: whoever
// follows the log feeds it every commit and every slot that ends.
type History struct {
	fragments int
	slots     map[wire.Slot][]interval
	sums      [][]lastSum // by fragment and slab; empty before the first commit
}

type interval struct {
	end      uint64 // step at which the last committed interval ended
	included uint64 // version that the last commit with the slot made
}

// lastSum is what the newest commit says of a slab.
type lastSum struct {
	owner wire.PeerID
	after wire.Hash // of the owner's error feedback; zero where owners keep none
}

// NewHistory returns the history of a run without commits.
func NewHistory(fragments int) *History {
	return &History{fragments: fragments, slots: make(map[wire.Slot][]interval), sums: make([][]lastSum, fragments)}
}

// Committed takes in a commit with its table. Taking the newest one of a fragment in
// twice is harmless.
func (h *History) Committed(c *wire.Commit, table *wire.CommitTable) {
	if c.Fragment >= uint64(h.fragments) {
		return
	}
	for i := range table.Contributors {
		m := &table.Contributors[i]
		if h.slots[m.Slot] == nil {
			h.slots[m.Slot] = make([]interval, h.fragments)
		}
		s := &h.slots[m.Slot][c.Fragment]
		s.end, s.included = max(s.end, m.To), max(s.included, c.Base+1)
	}
	sums := make([]lastSum, len(table.Slabs))
	for i := range table.Slabs {
		sums[i] = lastSum{table.Slabs[i].Owner, table.Slabs[i].After}
	}
	h.sums[c.Fragment] = sums
}

// Ended forgets a slot.
func (h *History) Ended(slot wire.Slot) { delete(h.slots, slot) }

// Untold forgets who summed a fragment: a commit came without its table.
func (h *History) Untold(fragment int) { h.sums[fragment] = nil }

// at returns what is known of a slot and fragment, zero when nothing is.
func (h *History) at(slot wire.Slot, fragment int) interval {
	if s := h.slots[slot]; s != nil {
		return s[fragment]
	}
	return interval{}
}

// lastSum returns what the newest commit says of a slab, zero when nothing is known.
func (h *History) lastSum(fragment int, slab uint64) lastSum {
	if s := h.sums[fragment]; slab < uint64(len(s)) {
		return s[slab]
	}
	return lastSum{}
}

// follows reports whether a sum begins with the error feedback that the same owner was
// left with by the newest commit, or with none (R10).
func (h *History) follows(fragment int, s *wire.SlabResult) bool {
	last := h.lastSum(fragment, s.Slab)
	return s.Before.IsZero() || last.owner == s.Owner && last.after == s.Before
}
