package round

import (
	"fmt"
	"math"
	"slices"

	"dunlin/wire"
)

// OwnSteps returns how many inner steps a worker takes between two snapshots
// of a fragment: H scaled by its speed against the pace of the fast workers,
// within [1, H] (R3). Times are µs a step; when one is unknown (0), it is H.
func OwnSteps(h, pace, own uint64) uint64 {
	if pace == 0 || own == 0 || own <= pace {
		return max(1, h)
	}
	return max(1, uint64(math.Round(float64(h)*float64(pace)/float64(own))))
}

// FirstDue returns the step of the first snapshot of fragment f of n: offsets
// are spread over H, so that fragments do not compete for the link.
func FirstDue(h uint64, f, n int) uint64 {
	return max(1, h*uint64(f+1)/uint64(n))
}

// Tensor is what Partition needs to know of a parameter.
type Tensor struct {
	Layer int // from 0, or -1 when it belongs to no layer
	Bytes uint64
}

// Partition assigns every tensor to one of n fragments and returns the
// fragment of each. Layers are strided, each stride laid out so that bytes
// balance. What belongs to no layer (embeddings, the last norm) is a fragment
// of its own, the last, from n = 3; below that it joins the smaller one (R3).
func Partition(tensors []Tensor, n int) ([]int, error) {
	if n < 1 || n > wire.MaxFragments {
		return nil, fmt.Errorf("partition: %d fragments, 1 to %d are allowed", n, wire.MaxFragments)
	}
	strided := n
	if n >= 3 {
		strided = n - 1
	}
	layers, apart := layerBytes(tensors)
	if n > 1 && len(layers) < strided {
		return nil, fmt.Errorf("partition: %d layers cannot fill %d fragments: choose fewer fragments", len(layers), n)
	}
	if n >= 3 && !apart {
		return nil, fmt.Errorf("partition: no tensor outside the layers for the last of %d fragments: choose fewer fragments", n)
	}
	of, sizes := stride(layers, strided)
	rest := n - 1
	if n < 3 {
		rest = smallest(sizes)
	}
	out := make([]int, len(tensors))
	for i, t := range tensors {
		out[i] = rest
		if t.Layer >= 0 {
			out[i] = of[t.Layer]
		}
	}
	return out, nil
}

// layer is one layer's number and size.
type layer struct {
	number int
	bytes  uint64
}

// layerBytes returns the layers in order and whether any tensor is apart.
func layerBytes(tensors []Tensor) (layers []layer, apart bool) {
	bytes := make(map[int]uint64)
	for _, t := range tensors {
		if t.Layer < 0 {
			apart = true
			continue
		}
		bytes[t.Layer] += t.Bytes
	}
	for number, b := range bytes {
		layers = append(layers, layer{number, b})
	}
	slices.SortFunc(layers, func(a, b layer) int { return a.number - b.number })
	return layers, apart
}

// stride deals the layers out in groups of n, one to each fragment, the
// largest of a group to the fragment that is smallest so far.
func stride(layers []layer, n int) (of map[int]int, sizes []uint64) {
	of = make(map[int]int, len(layers))
	sizes = make([]uint64, n)
	for group := range slices.Chunk(layers, n) {
		group = slices.Clone(group)
		slices.SortStableFunc(group, func(a, b layer) int { return compareDescending(a.bytes, b.bytes) })
		taken := make([]bool, n)
		for _, l := range group {
			best := -1
			for f := range n {
				if !taken[f] && (best < 0 || sizes[f] < sizes[best]) {
					best = f
				}
			}
			taken[best] = true
			of[l.number] = best
			sizes[best] += l.bytes
		}
	}
	return of, sizes
}

func compareDescending(a, b uint64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

func smallest(sizes []uint64) int {
	best := 0
	for f, s := range sizes {
		if s < sizes[best] {
			best = f
		}
	}
	return best
}
