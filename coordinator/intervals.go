package coordinator

import (
	"slices"

	"dunlin/wire"
)

// intervals is a set of positions: ascending ranges that neither overlap nor
// touch. Its memory grows with the gaps in the set, not with its size.
type intervals []wire.Range

func span(from, to uint64) wire.Range { return wire.Range{From: from, To: to} }

// first returns the index of the first range that ends at or after p.
func (s intervals) first(p uint64) int {
	i, _ := slices.BinarySearchFunc(s, p, func(r wire.Range, p uint64) int {
		if r.To < p {
			return -1
		}
		return 1
	})
	return i
}

// add puts a range into the set.
func (s *intervals) add(r wire.Range) {
	if r.From >= r.To {
		return
	}
	i := s.first(r.From)
	j := i
	for j < len(*s) && (*s)[j].From <= r.To {
		r.From, r.To = min(r.From, (*s)[j].From), max(r.To, (*s)[j].To)
		j++
	}
	*s = slices.Replace(*s, i, j, r)
}

// remove takes a range out of the set.
func (s *intervals) remove(r wire.Range) {
	if r.From >= r.To {
		return
	}
	i := s.first(r.From + 1)
	j := i
	var rest []wire.Range
	for j < len(*s) && (*s)[j].From < r.To {
		old := (*s)[j]
		if old.From < r.From {
			rest = append(rest, span(old.From, r.From))
		}
		if old.To > r.To {
			rest = append(rest, span(r.To, old.To))
		}
		j++
	}
	*s = slices.Replace(*s, i, j, rest...)
}

// addAll and removeAll do so for each of the ranges.
func (s *intervals) addAll(rs []wire.Range) {
	for _, r := range rs {
		s.add(r)
	}
}

func (s *intervals) removeAll(rs []wire.Range) {
	for _, r := range rs {
		s.remove(r)
	}
}

// overlap returns the part of a range that is in the set.
func (s intervals) overlap(r wire.Range) intervals {
	var out intervals
	for i := s.first(r.From + 1); i < len(s) && s[i].From < r.To; i++ {
		out = append(out, span(max(r.From, s[i].From), min(r.To, s[i].To)))
	}
	return out
}

// covers reports whether the whole range is in the set.
func (s intervals) covers(r wire.Range) bool {
	i := s.first(r.From + 1)
	return i < len(s) && s[i].From <= r.From && r.To <= s[i].To
}

func (s intervals) clone() intervals { return slices.Clone(s) }

func (s intervals) count() uint64 { return wire.Windows(s) }

// union returns the set of all positions in ranges that may overlap.
func union(rs []wire.Range) intervals {
	var s intervals
	s.addAll(rs)
	return s
}
