package model

import (
	"fmt"
	"math"

	"dunlin/compute"
)

// InitKind says how a parameter starts; the numbers are the RunSpec's.
type InitKind uint8

// The ways a parameter starts.
const (
	InitZero   InitKind = 0
	InitOne    InitKind = 1
	InitNormal InitKind = 2 // compute.Init with standard deviation Std
)

// Param is one parameter: where it lies in the flat buffer and how it starts.
type Param struct {
	Name   string // Hugging Face's name
	Shape  []int  // one or two extents; weights are [in, out] for GPT-2, [out, in] for Llama
	Offset int    // of its first value in the flat buffer
	Size   int    // product of Shape
	Layer  int    // block 0..Layers-1; -1 for embeddings and head; Layers-1 for the last norm
	Init   InitKind
	Std    float32 // for InitNormal
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
	l := lister{std: 1 / math.Sqrt(float64(c.Width))}
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
	std, weight, residual float64 // standard deviations of initial values
}

func (l *lister) add(layer int, name string, init InitKind, std float64, shape ...int) {
	size := 1
	for _, extent := range shape {
		size *= extent
	}
	l.all = append(l.all, Param{Name: name, Shape: shape, Offset: l.offset, Size: size, Layer: layer, Init: init, Std: float32(std)})
	l.offset += size
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
	}
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
