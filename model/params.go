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
	Name   string // Hugging Face's GPT-2 name
	Shape  []int  // one or two extents; weights are [in, out]
	Offset int    // of its first value in the flat buffer
	Size   int    // product of Shape
	Layer  int    // block 0..Layers-1; -1 for embeddings; Layers-1 for the last norm
	Init   InitKind
	Std    float32 // for InitNormal
}

// Parameters of a block in buffer order, as indices into blockParams.
const (
	ln1Gain = iota
	ln1Bias
	qkvWeight
	qkvBias
	outWeight
	outBias
	ln2Gain
	ln2Bias
	upWeight
	upBias
	downWeight
	downBias
	blockParams
)

// Params returns every parameter in buffer order: token and position
// embedding, the blocks, the last norm.
//
// With std = 1/√Width the token embedding starts at std, which makes the first
// logits about normal; weights at std/2 and positions at std/5, near GPT-2's
// 0.02 and 0.01 at its width of 768 and the best of a sweep at nano's 128. The
// two projections of a block that write to the residual stream are divided by
// √(2·Layers) (GPT-2, section 2.3). Norms start as the identity, biases at 0.
func (c Config) Params() []Param {
	std := 1 / math.Sqrt(float64(c.Width))
	weight := std / 2
	residual := weight / math.Sqrt(float64(2*c.Layers))
	var all []Param
	offset := 0
	add := func(layer int, name string, init InitKind, std float64, shape ...int) {
		size := 1
		for _, extent := range shape {
			size *= extent
		}
		all = append(all, Param{
			Name: "transformer." + name, Shape: shape, Offset: offset, Size: size,
			Layer: layer, Init: init, Std: float32(std),
		})
		offset += size
	}
	w := c.Width
	add(-1, "wte.weight", InitNormal, std, c.Vocab, w)
	add(-1, "wpe.weight", InitNormal, std/5, c.Context, w)
	for l := range c.Layers {
		block := func(name string, init InitKind, std float64, shape ...int) {
			add(l, fmt.Sprintf("h.%d.%s", l, name), init, std, shape...)
		}
		block("ln_1.weight", InitOne, 0, w)
		block("ln_1.bias", InitZero, 0, w)
		block("attn.c_attn.weight", InitNormal, weight, w, 3*w)
		block("attn.c_attn.bias", InitZero, 0, 3*w)
		block("attn.c_proj.weight", InitNormal, residual, w, w)
		block("attn.c_proj.bias", InitZero, 0, w)
		block("ln_2.weight", InitOne, 0, w)
		block("ln_2.bias", InitZero, 0, w)
		block("mlp.c_fc.weight", InitNormal, weight, w, 4*w)
		block("mlp.c_fc.bias", InitZero, 0, 4*w)
		block("mlp.c_proj.weight", InitNormal, residual, 4*w, w)
		block("mlp.c_proj.bias", InitZero, 0, w)
	}
	add(c.Layers-1, "ln_f.weight", InitOne, 0, w)
	add(c.Layers-1, "ln_f.bias", InitZero, 0, w)
	return all
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

// block is the parameters, or the gradients, of one layer.
type block [blockParams]compute.Buffer

// weights are named views of a flat buffer of parameters or gradients.
type weights struct {
	flat               compute.Buffer
	wte, wpe           compute.Buffer
	blocks             []block
	lastGain, lastBias compute.Buffer
}

func viewWeights(params []Param, flat compute.Buffer) weights {
	w := weights{flat: flat, wte: params[0].span(flat), wpe: params[1].span(flat)}
	inner := params[2 : len(params)-2]
	for at := 0; at < len(inner); at += blockParams {
		var b block
		for i := range b {
			b[i] = inner[at+i].span(flat)
		}
		w.blocks = append(w.blocks, b)
	}
	w.lastGain, w.lastBias = params[len(params)-2].span(flat), params[len(params)-1].span(flat)
	return w
}
