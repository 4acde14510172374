package model

import (
	"fmt"

	"dunlin/compute"
)

// Kept is how much of a block's forward pass waits in memory for the backward
// pass. What does not is computed again there, by the same operations on the
// same values, so that gradients have the same bits (Chen et al. 2016, Training
// Deep Nets with Sublinear Memory Cost, with Korthikanti et al. 2022, section
// 5, in the choice of what to drop first). What norms and activation functions
// make is never kept: it takes as long to write and read it as to make it again
// of what a product left.
type Kept uint8

// The kinds, each of which keeps less than the one before.
const (
	// KeptProducts keeps what matrix products and attention made.
	KeptProducts Kept = iota
	// KeptAttention drops the first product of the feed-forward part.
	KeptAttention
	// KeptInput keeps the residual stream before the block only. The block's last
	// product is never computed again.
	KeptInput
)

// String returns which products are computed again, for people.
func (k Kept) String() string {
	switch k {
	case KeptProducts:
		return "no product"
	case KeptAttention:
		return "feed-forward parts"
	case KeptInput:
		return "whole blocks"
	}
	return fmt.Sprintf("kept %d", uint8(k))
}

// Room is what a model has memory for.
type Room struct {
	Batch int  // windows at a time, 1 to 4,096
	Kept  Kept // what blocks keep
	// Thrifty is how many blocks, the first ones, keep what comes after Kept:
	// 0 to Layers, and 0 when nothing does.
	Thrifty int
	// Lend lets activations lie where gradients will, until backward comes to
	// them. ForwardBackward then replaces the gradients instead of adding to them,
	// and every other call destroys them.
	Lend bool
}

// Validate reports a field outside of its range.
func (r Room) Validate(layers int) error {
	switch {
	case r.Batch < 1 || r.Batch > 4096:
		return fmt.Errorf("model batch %d: allowed are 1 to 4096", r.Batch)
	case r.Kept > KeptInput || r.Thrifty < 0 || r.Thrifty > layers || r.Kept == KeptInput && r.Thrifty > 0:
		return fmt.Errorf("model room keeps %v and less in %d of %d blocks: there is no such kind", r.Kept, r.Thrifty, layers)
	}
	return nil
}

// kept returns what a block keeps.
func (r Room) kept(layer int) Kept {
	if layer < r.Thrifty {
		return r.Kept + 1
	}
	return r.Kept
}

// Again returns the share of the work of a training step that Room adds to it.
// Work without matrix products is weighed with the time that it took beside
// them on a processor with AVX-512.
func (c Config) Again(r Room, positions int) float64 {
	least, most := c.again(r.Kept, positions), 0.0
	if r.Thrifty > 0 {
		most = c.again(r.Kept+1, positions)
	}
	flop := most*float64(r.Thrifty) + least*float64(c.Layers-r.Thrifty)
	return flop / c.FLOPPerToken(positions)
}

// again returns the operations a token that a block makes again.
func (c Config) again(k Kept, positions int) float64 {
	const each = 50 // operations a value that no product makes
	w, qkv := float64(c.Width), float64(c.qkvWidth())
	up := 2*w*float64(c.upWidth()) + each*w
	switch k {
	case KeptProducts:
	case KeptAttention:
		return up
	case KeptInput:
		return up + 2*w*(qkv+w) + 2*float64(positions)*w + each*w
	}
	return 0
}

// hidden returns the values of a position before a block's last product.
func (c Config) hidden() int {
	if c.Family == Llama {
		return c.Hidden
	}
	return 4 * c.Width
}

// upWidth returns the values of a position after the first product of the
// feed-forward part.
func (c Config) upWidth() int {
	if c.Family == Llama {
		return 2 * c.Hidden
	}
	return 4 * c.Width
}

// Sizes returns the largest sizes of training on so many rows at a time.
func (c Config) Sizes(rows int) compute.Sizes {
	return compute.Sizes{Rows: rows, Width: max(c.upWidth(), c.qkvWidth(), c.Width), Vocab: c.Vocab, Positions: c.Context, Head: c.headSize()}
}

// trace is what a block's forward pass leaves for its backward pass, in the
// order of the work. What a block does not keep lies in memory that all blocks
// share, so that it lasts until the next block's turn.
type trace struct {
	parts    compute.Buffer // [rows,qkvWidth] queries, keys, values
	attended compute.Buffer // [rows,C] attention's output
	lse      compute.Buffer // [rows·H]
	mid      compute.Buffer // [rows,C] the residual stream after attention
	pre      compute.Buffer // [rows,upWidth] before the activation function; later the gradient of parts, so at least as large
}

// trace allocates a block's trace.
func (b *builder) trace(layer int) trace {
	cfg, kept, shared := b.cfg, b.kept(layer), b.rows*b.cfg.hidden()
	values := func(until Kept, width int) compute.Buffer {
		if kept <= until {
			return b.values(width)
		}
		shared += b.rows * width
		if b.failed != nil {
			return compute.Buffer{}
		}
		return b.desk.Slice(shared-b.rows*width, shared)
	}
	return trace{
		parts:    values(KeptAttention, cfg.qkvWidth()),
		attended: values(KeptAttention, cfg.Width),
		lse:      values(KeptAttention, cfg.Heads),
		mid:      values(KeptAttention, cfg.Width),
		pre:      values(KeptProducts, max(cfg.upWidth(), cfg.qkvWidth())),
	}
}

// passing returns the values of a row that pass through the desk: the activation
// function's, and what a block's trace does not keep.
func (c Config) passing(k Kept) int {
	n := c.hidden()
	if k >= KeptAttention {
		n += max(c.upWidth(), c.qkvWidth())
	}
	if k >= KeptInput {
		n += c.qkvWidth() + 2*c.Width + c.Heads
	}
	return n
}

// maxLogits bounds the values of the logits: a large vocabulary goes through
// the head in chunks of rows.
const maxLogits = 1 << 24

// chunk returns the rows of logits at a time: as few chunks as maxLogits
// allows, of about one size, since every chunk passes over the head's gradient.
func (c Config) chunk(rows int) int {
	most := max(1, maxLogits/c.Vocab)
	chunks := (rows + most - 1) / most
	return (rows + chunks - 1) / chunks
}

// lender hands out the memory of gradients that backward comes to last: those
// of the first layers, and of embeddings whose gradient no other work writes.
type lender struct {
	grads    compute.Buffer
	from, to int // what is free now
}

// take returns n values, or false when so many are not free. They begin at a
// multiple of a cache line from the gradients' first.
func (l *lender) take(n int) (compute.Buffer, bool) {
	const line = 16
	from := (l.from + line - 1) / line * line
	if n > l.to-from {
		return compute.Buffer{}, false
	}
	l.from = from + n
	return l.grads.Slice(from, from+n), true
}
