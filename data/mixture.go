package data

import (
	"fmt"
	"math"
	"sort"
)

// Mixture is the sequence in which a run reads the windows of several sets, so
// that each gives its share. Like Order, it is computed at any position in
// constant time and memory and is the same on every machine, so that the place in
// the data is one number, whatever the number of workers.
//
// An epoch has as many positions as there are windows in all sets, and each set
// has its share of them, rounded once (largest remainders). Which set a position
// reads is a keyed permutation; a set's own windows come in its own Order, which
// goes on from epoch to epoch: a set with a small share is not read from its
// start each time, and one with a large share is repeated evenly. Of one set,
// Mixture is its Order.
type Mixture struct {
	order Order // of an epoch's positions
	parts []mixturePart
}

type mixturePart struct {
	order Order // of the set's windows
	first int   // its first window
	from  int   // its first place in an epoch
	count int   // its places in an epoch
}

// maxRepeats bounds how often a set is read through in one epoch of a mixture.
const maxRepeats = 1000

// NewMixture mixes sets of counts windows with the given weights, which need not
// sum to one. No weights mean shares by size: every window once an epoch.
func NewMixture(seed uint64, counts []int, weights []float64) (*Mixture, error) {
	if len(counts) == 0 || weights != nil && len(weights) != len(counts) {
		return nil, fmt.Errorf("mix %d sets of data with %d weights", len(counts), len(weights))
	}
	n, sum := 0, 0.0
	for k, c := range counts {
		if c < 1 {
			return nil, fmt.Errorf("mix data: set %d has no windows", k+1)
		}
		if weights != nil && !(weights[k] > 0 && weights[k] <= 1e9) {
			return nil, fmt.Errorf("mix data: set %d has the weight %v, above 0 and at most 1e9 is allowed", k+1, weights[k])
		}
		n += c
		if weights != nil {
			sum += weights[k]
		}
	}
	shares := counts
	if weights != nil {
		shares = apportion(n, weights, sum)
	}
	m := &Mixture{order: Order{Seed: seed, N: n}}
	first, from := 0, 0
	for k, c := range counts {
		if shares[k] > c*maxRepeats {
			return nil, fmt.Errorf("mix data: set %d has %d windows and would be read %d times in an epoch, at most %d are allowed: lower its weight or add data to it",
				k+1, c, shares[k]/c, maxRepeats)
		}
		// Seeds differ, so that sets of one size are not read in step.
		m.parts = append(m.parts, mixturePart{order: Order{Seed: mix(seed + uint64(k)), N: c}, first: first, from: from, count: shares[k]})
		first += c
		from += shares[k]
	}
	if len(counts) == 1 {
		m.parts[0].order.Seed = seed
	}
	return m, nil
}

// apportion gives n places to weights that sum to sum, by largest remainders, the
// first of equals first.
func apportion(n int, weights []float64, sum float64) []int {
	shares := make([]int, len(weights))
	rest := make([]int, len(weights))
	left := n
	for k, w := range weights {
		shares[k] = min(int(math.Floor(float64(n)*(w/sum))), left)
		left -= shares[k]
		rest[k] = k
	}
	remainder := func(k int) float64 { return float64(n)*(weights[k]/sum) - float64(shares[k]) }
	sort.SliceStable(rest, func(i, j int) bool { return remainder(rest[i]) > remainder(rest[j]) })
	for i := 0; left > 0; i = (i + 1) % len(rest) {
		shares[rest[i]]++
		left--
	}
	return shares
}

// At returns the window at a position; windows are numbered over all sets.
func (m *Mixture) At(pos uint64) int {
	if len(m.parts) == 1 {
		return m.parts[0].order.At(pos)
	}
	epoch, place := pos/uint64(m.order.N), m.order.At(pos)
	k := sort.Search(len(m.parts), func(k int) bool { return m.parts[k].from+m.parts[k].count > place })
	p := &m.parts[k]
	return p.first + p.order.At(epoch*uint64(p.count)+uint64(place-p.from))
}
