package round

import "dunlin/wire"

// Intervals remembers, for every slot and fragment, where the last committed
// interval ended, so that no step is committed twice (R2). It outlives terms:
// whoever follows the log feeds it every commit and every slot that ends.
type Intervals struct {
	fragments int
	slots     map[wire.Slot][]interval
}

type interval struct {
	end      uint64 // step at which the last committed interval ended
	included uint64 // version that the last commit with the slot made
}

// NewIntervals returns the intervals of a run without commits.
func NewIntervals(fragments int) *Intervals {
	return &Intervals{fragments: fragments, slots: make(map[wire.Slot][]interval)}
}

// Committed takes in a commit with its table. Taking it in twice is harmless.
func (v *Intervals) Committed(c *wire.Commit, table *wire.CommitTable) {
	if c.Fragment >= uint64(v.fragments) {
		return
	}
	for i := range table.Contributors {
		m := &table.Contributors[i]
		if v.slots[m.Slot] == nil {
			v.slots[m.Slot] = make([]interval, v.fragments)
		}
		s := &v.slots[m.Slot][c.Fragment]
		s.end, s.included = max(s.end, m.To), max(s.included, c.Base+1)
	}
}

// Ended forgets a slot.
func (v *Intervals) Ended(slot wire.Slot) { delete(v.slots, slot) }

// at returns what is known of a slot and fragment, zero when nothing is.
func (v *Intervals) at(slot wire.Slot, fragment int) interval {
	if s := v.slots[slot]; s != nil {
		return s[fragment]
	}
	return interval{}
}
