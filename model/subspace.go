package model

import "dunlin/compute"

// In a model with a subspace the blocks' outputs and the positions are 0 outside of
// the first Subspace columns, and so is what trains of the token embedding. The
// residual stream of a position is then
//
//	h = [z, code of the token]      z of Subspace values
//
// before and behind every block: z alone is news. That of the token embedding starts
// at 0, for the code tells already which token it is. The paper writes h = R·z +
// E_fixed[token] with orthonormal columns R and holds weights in their span by
// projections. This is that model in the basis whose first vectors are R's, where a
// projection is a choice of columns: nothing is rounded, and optimizers that scale
// value by value stay inside by themselves (ADR 34).

// Passed returns how many values of a position pass between two parts of the model.
func (c Config) Passed() int {
	if c.Subspace > 0 {
		return c.Subspace
	}
	return c.Width
}

// outside is the gradient of the residual stream outside of the subspace, which no
// parameter moves by.
type outside struct {
	rest  compute.Buffer // from its first value on; empty without a subspace
	zeros compute.Buffer // [values]
	width int            // of a row
}

// gradient allocates the gradient of the residual stream, [rows,C], and what confines it.
func (b *builder) gradient() (stream compute.Buffer, o outside) {
	n, k := b.rows*b.cfg.Width, b.cfg.Subspace
	all := b.buffer(n + k) // so that as many whole rows begin behind the subspace of the first
	if k == 0 || b.failed != nil {
		return all, outside{}
	}
	return all.Slice(0, n), outside{rest: all.Slice(k, n+k), zeros: b.buffer(b.cfg.Width - k), width: b.cfg.Width}
}

// confine clears it, so that the gradients of all that writes to the stream are 0 there too.
func (o *outside) confine(dev compute.Device, rows int) {
	if values := o.zeros.Len(); values > 0 { // a turn whose cosine and sine are 0 is a product with 0
		dev.Rotary(compute.Rotary{X: o.rest, Table: o.zeros, B: rows, T: 1, H: 1, S: values, Stride: o.width})
	}
}

// Code makes the residual stream of a position again from what passes between parts:
// the rest is the token's row of the initial token embedding. One goroutine uses it.
type Code struct {
	name            string
	seed            uint64
	scale           float32
	width, subspace int
	rows            map[int32][]float32 // made before, without what passes
}

// codeValues bounds the rows that a Code keeps: 16 MiB.
const codeValues = 1 << 22

// NewCode makes the code of a model with a subspace whose initial weights are those
// of a seed; scale is its token embedding's (compute.InitScale).
func NewCode(c Config, seed uint64, scale float32) *Code {
	return &Code{
		name: c.Params()[0].Name, seed: seed, scale: scale, width: c.Width, subspace: c.Subspace, rows: map[int32][]float32{},
	}
}

// CodeBytes is the most memory that a model's Code keeps.
func CodeBytes(c Config) int64 { return 4 * int64(min(codeValues, c.Vocab*c.Width)) }

// Widen sets stream [rows,Width] from what passed, [rows,Subspace], and the tokens
// [rows]. Without tokens it is a gradient, which is 0 in the rest.
func (c *Code) Widen(stream, passed []float32, tokens []int32) {
	for row := range len(passed) / c.subspace {
		to := stream[row*c.width:][:c.width]
		copy(to, passed[row*c.subspace:][:c.subspace])
		if tokens == nil {
			clear(to[c.subspace:])
		} else {
			copy(to[c.subspace:], c.of(tokens[row]))
		}
	}
}

// Narrow sets passed to what Widen needs of a stream or its gradient.
func (c *Code) Narrow(passed, stream []float32) {
	for row := range len(passed) / c.subspace {
		copy(passed[row*c.subspace:][:c.subspace], stream[row*c.width:])
	}
}

// of returns the code of a token.
func (c *Code) of(token int32) []float32 {
	row, ok := c.rows[token]
	if !ok {
		if (len(c.rows)+1)*c.width > codeValues {
			clear(c.rows)
		}
		row = make([]float32, c.width-c.subspace)
		compute.InitRow(row, c.seed, c.name, int(token), c.scale)
		c.rows[token] = row
	}
	return row
}
