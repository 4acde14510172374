package model

import (
	"fmt"
	"math"
	"slices"

	"dunlin/compute"
)

// InitKind says how a parameter starts; the numbers are the RunSpec's.
type InitKind uint8

// The ways a parameter starts.
const (
	InitZero   InitKind = 0
	InitOne    InitKind = 1
	InitNormal InitKind = 2 // compute.Init with standard deviation Std
	InitRows   InitKind = 3 // 0 in the corner, compute.InitRow with Std outside of it
)

// Param is one parameter: where it lies in the flat buffer and how it starts.
type Param struct {
	Name   string // Hugging Face's name
	Shape  []int  // one or two extents; weights are [in, out] for GPT-2, [out, in] for Llama
	Offset int    // of its first value in the flat buffer
	Size   int    // product of Shape
	Layer  int    // block 0..Layers-1; -1 for embeddings and head; Layers-1 for the last norm
	Init   InitKind
	Std    float32 // for InitNormal and InitRows
	// Corner is the extents of the first rows and columns, those that training
	// moves; nil: all. The rest stays as it starts, which is 0 but for InitRows.
	Corner []int
}

// Params returns every parameter in buffer order, which is that of Hugging
// Face's model: embeddings, the blocks, the last norm, a head of its own.
//
// With std = 1/√Width the token embedding and a head start at std, which makes
// the first logits about normal; weights at std/2 (GPT-2) or std/1.4 (Llama) and
// positions at std/5, near GPT-2's 0.02 and 0.01 at its width of 768 and the best
// of sweeps at nano's and nano-llama's width of 128. The two projections of a block that write to the residual stream are
// divided by √(2·Layers) (GPT-2, section 2.3). Norms start as the identity,
// biases at 0.
func (c Config) Params() []Param {
	l := lister{std: 1 / math.Sqrt(float64(c.Width)), tokens: InitNormal, subspace: c.Subspace}
	if c.Subspace > 0 {
		l.tokens = InitRows
	}
	l.weight = l.std / 2
	if c.Family == Llama {
		l.weight = l.std / 1.4
	}
	l.residual = l.weight / math.Sqrt(float64(2*c.Layers))
	if c.Family == Llama {
		l.llama(c)
	} else {
		l.gpt2(c)
	}
	return l.all
}

// lister lists parameters one after the other.
type lister struct {
	all                   []Param
	offset                int
	std, weight, residual float64  // standard deviations of initial values
	tokens                InitKind // of the token embedding
	subspace              int
}

func (l *lister) add(layer int, name string, init InitKind, std float64, shape ...int) {
	size := 1
	for _, extent := range shape {
		size *= extent
	}
	l.all = append(l.all, Param{Name: name, Shape: shape, Offset: l.offset, Size: size, Layer: layer, Init: init, Std: float32(std)})
	l.offset += size
}

// corner says what of the newest parameter moves in a model with a subspace.
func (l *lister) corner(extents ...int) {
	if l.subspace > 0 {
		l.all[len(l.all)-1].Corner = extents
	}
}

// Fill writes the initial values of p for a run's seed (protocol, R9). It
// panics unless dst has p.Size values.
func (p Param) Fill(dst []float32, seed uint64) {
	if len(dst) != p.Size {
		panic(fmt.Sprintf("model: fill %s of %d values into %d", p.Name, p.Size, len(dst)))
	}
	switch p.Init {
	case InitZero:
		clear(dst)
	case InitOne:
		for i := range dst {
			dst[i] = 1
		}
	case InitNormal:
		compute.Init(dst, seed, p.Name, compute.InitScale(float64(p.Std)))
		compute.Outside(dst, p.Shape, p.Corner, func(_ int, rest []float32) { clear(rest) })
	case InitRows:
		clear(dst)
		compute.Outside(dst, p.Shape, p.Corner, func(row int, rest []float32) {
			compute.InitRow(rest, seed, p.Name, row, compute.InitScale(float64(p.Std)))
		})
	}
}

// rests reports values outside of the corner that a model with a subspace does not have.
func (p Param) rests(values []float32) error {
	moved := false
	compute.Outside(values, p.Shape, p.Corner, func(_ int, rest []float32) {
		moved = moved || slices.ContainsFunc(rest, func(v float32) bool { return v != 0 })
	})
	if moved && p.Init != InitRows {
		return fmt.Errorf("tensor %q has values outside of the model's subspace: these weights were not trained in one", p.Name)
	}
	return nil
}

// span returns p's part of a flat buffer.
func (p Param) span(flat compute.Buffer) compute.Buffer {
	return flat.Slice(p.Offset, p.Offset+p.Size)
}

// layersOf returns the span of each block's parameters in the flat buffer of a
// part; the last one's holds the last norm too.
func layersOf(params []Param, part Part) []compute.Range {
	spans := make([]compute.Range, part.Len())
	for _, p := range params {
		if p.Layer < 0 {
			continue
		}
		span := &spans[p.Layer-part.From]
		if span.To == 0 {
			span.From = p.Offset
		}
		span.To = p.Offset + p.Size
	}
	return spans
}
