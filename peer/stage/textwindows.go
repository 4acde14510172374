package stage

import (
	"dunlin/data"
	"dunlin/recipe"
	"dunlin/wire"
)

// Text gives a trainer its micro-batches.
type Text struct {
	windows data.Windows
	order   data.Order
}

// NewText opens a run's training text.
func NewText(spec *wire.RunSpec, tokens []byte) (*Text, error) {
	windows, err := recipe.Windows(spec, tokens)
	if err != nil {
		return nil, err
	}
	return &Text{windows: windows, order: data.Order{Seed: spec.Data.Seed, N: windows.Len()}}, nil
}

// batch returns the tokens and targets of windows, by their positions in the data stream.
func (t *Text) batch(r wire.Range) (tokens, targets []int32, err error) {
	indices := make([]int, r.Len())
	for i := range indices {
		indices[i] = t.order.At(r.From + uint64(i))
	}
	n := len(indices) * t.windows.Length()
	tokens, targets = make([]int32, n), make([]int32, n)
	return tokens, targets, t.windows.Batch(tokens, targets, indices...)
}
