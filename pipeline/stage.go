package pipeline

import (
	"errors"
	"fmt"
	"math"

	"dunlin/wire"
)

// Layer is what one layer of a model costs the peer that holds it.
type Layer struct {
	Cost   float64 // seconds, or operations, of its forward pass on one micro-batch
	Memory uint64  // bytes of weights, gradients, moments and what backward needs
}

// Span is the layers [From, To) of a stage and what they cost together; Cost is
// that of all passes on one micro-batch.
type Span struct {
	From, To int
	Layer
}

// Split cuts layers into consecutive stages so that the costliest costs as
// little as can be, and of such cuts the one whose costs differ least (the sum
// of their squares is least); no stage takes more memory than a peer has (0:
// any). Exact, by dynamic programming in stages × layers² steps. The error says
// what does not fit and how many stages would do.
func Split(layers []Layer, stages int, memory uint64) ([]Span, error) {
	if stages < 1 || stages > wire.MaxStages || stages > len(layers) {
		return nil, fmt.Errorf("split %d layers into %d stages: 1 to %d are possible", len(layers), stages, min(len(layers), wire.MaxStages))
	}
	for i, l := range layers {
		if !(l.Cost >= 0) || math.IsInf(l.Cost, 0) {
			return nil, fmt.Errorf("split: layer %d costs %v", i, l.Cost)
		}
		if memory > 0 && l.Memory > memory {
			return nil, fmt.Errorf("split: layer %d alone takes %d bytes, a peer has %d", i, l.Memory, memory)
		}
	}
	s := splitter{layers: layers, memory: memory}
	worst := s.cut(stages, math.Inf(1), math.Max, func(c float64) float64 { return c })
	if worst == nil {
		return nil, fmt.Errorf("split: %d stages of %d bytes do not hold %d bytes; take %d or more", stages, memory, s.span(0, len(layers)).Memory, s.least())
	}
	most := 0.0
	for _, span := range worst {
		most = max(most, span.Cost)
	}
	return s.cut(stages, most, func(a, b float64) float64 { return a + b }, func(c float64) float64 { return c * c }), nil
}

type splitter struct {
	layers []Layer
	memory uint64
}

func (s splitter) span(from, to int) Span {
	out := Span{From: from, To: to}
	for _, l := range s.layers[from:to] {
		out.Cost += l.Cost
		out.Memory += l.Memory
	}
	out.Cost *= stagePasses(to == len(s.layers))
	return out
}

// stagePasses returns what a micro-batch costs a stage, in forward passes: the
// forward call, and for backward the forward pass again and the gradients of
// input and weights. The last stage has no forward call of its own.
func stagePasses(last bool) float64 {
	if last {
		return 3
	}
	return 4
}

// fits reports whether a peer can hold a span.
func (s splitter) fits(bytes uint64) bool { return s.memory == 0 || bytes <= s.memory }

// cut returns the stages of least joined price, of spans that cost at most most; nil when
// there are none.
func (s splitter) cut(stages int, most float64, join func(a, b float64) float64, price func(cost float64) float64) []Span {
	n := len(s.layers)
	best := make([][]float64, stages+1) // best[k][i]: the first i layers in k stages
	begin := make([][]int, stages+1)
	for k := range best {
		best[k], begin[k] = make([]float64, n+1), make([]int, n+1)
		for i := range best[k] {
			best[k][i] = math.Inf(1)
		}
	}
	best[0][0] = 0
	for k := 1; k <= stages; k++ {
		for to := k; to <= n; to++ {
			cost, bytes := 0.0, uint64(0)
			for from := to - 1; from >= k-1; from-- {
				cost += s.layers[from].Cost
				bytes += s.layers[from].Memory
				if c := cost * stagePasses(to == n); c > most*(1+1e-12) || !s.fits(bytes) {
					break
				}
				if all := join(best[k-1][from], price(cost*stagePasses(to == n))); all < best[k][to] {
					best[k][to], begin[k][to] = all, from
				}
			}
		}
	}
	if math.IsInf(best[stages][n], 1) {
		return nil
	}
	out := make([]Span, stages)
	for k, to := stages, n; k > 0; k-- {
		out[k-1] = s.span(begin[k][to], to)
		to = begin[k][to]
	}
	return out
}

// least returns how many stages hold all layers, filled one after the other.
func (s splitter) least() int {
	stages, bytes := 1, uint64(0)
	for _, l := range s.layers {
		if bytes += l.Memory; !s.fits(bytes) {
			stages, bytes = stages+1, l.Memory
		}
	}
	return stages
}

// Shape is a decoder's, of GPT-2 or Llama, as far as its cost goes.
type Shape struct {
	Blocks, Width, Context, Vocab int
	Hidden                        int  // between a block's last two products; 4·Width for GPT-2
	KeyWidth                      int  // of keys, and of values; Width unless heads share them
	Gated                         bool // three products in the feed-forward part (SwiGLU), not two
	Biases                        bool // and learned positions (GPT-2)
	Tied                          bool // the head is the embedding; not with more than one stage
}

// GPT2Shape returns GPT-2's shape of a width.
func GPT2Shape(blocks, width, context, vocab int) Shape {
	return Shape{Blocks: blocks, Width: width, Context: context, Vocab: vocab, Hidden: 4 * width, KeyWidth: width, Biases: true}
}

// LlamaShape returns Llama's shape.
func LlamaShape(blocks, width, hidden, keyWidth, context, vocab int) Shape {
	return Shape{Blocks: blocks, Width: width, Context: context, Vocab: vocab, Hidden: hidden, KeyWidth: keyWidth, Gated: true}
}

// Validate checks the shape.
func (s Shape) Validate() error {
	for _, n := range []int{s.Blocks, s.Width, s.Context, s.Vocab, s.Hidden, s.KeyWidth} {
		if n < 1 || n > 1<<24 {
			return fmt.Errorf("shape %+v: each extent must be 1 to %d", s, 1<<24)
		}
	}
	if s.Tied {
		return errors.New("shape: a head that is the embedding would lie in two stages; give it weights of its own")
	}
	return nil
}

// Layers returns the layers in order, the embedding first and the head last,
// each with the operations of its forward pass on so many tokens, multiplication
// and addition counted apart, and with bytes for each parameter. A causal
// attention over Context positions looks at half of them.
func (s Shape) Layers(tokens int, bytesPerParameter float64) ([]Layer, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	w, h, k, v := float64(s.Width), float64(s.Hidden), float64(s.KeyWidth), float64(s.Vocab)
	products := 2*w*w + 2*w*k + 2*w*h
	vectors := 2 * w // two norms
	if s.Gated {
		products += w * h
	}
	embedding, norm := v*w, w
	if s.Biases {
		embedding += float64(s.Context) * w
		vectors += 2*w + w + 2*k + w + h + w // norms' biases, of queries, keys and values, of both products
		norm += w
	}
	attention := 2 * float64(s.Context) * w // scores and mixing, half of the positions
	layer := func(operations, parameters float64) Layer {
		return Layer{Cost: operations * float64(tokens), Memory: uint64(parameters * bytesPerParameter)}
	}
	out := make([]Layer, 0, s.Blocks+2)
	out = append(out, layer(0, embedding))
	for range s.Blocks {
		out = append(out, layer(2*products+attention, products+vectors))
	}
	return append(out, layer(2*v*w, v*w+norm)), nil
}
