package model

import (
	"fmt"
	"math"

	"dunlin/compute"
)

// llama lists Llama's parameters.
func (l *lister) llama(c Config) {
	w, keys, k := c.Width, c.KVHeads*c.headSize(), c.Subspace
	l.add(-1, "model.embed_tokens.weight", l.tokens, l.std, c.Vocab, w)
	l.corner(c.Vocab, k)
	for layer := range c.Layers {
		add := func(name string, init InitKind, std float64, shape ...int) {
			l.add(layer, llamaName(layer, name)+".weight", init, std, shape...)
		}
		add("self_attn.q_proj", InitNormal, l.weight, w, w)
		add("self_attn.k_proj", InitNormal, l.weight, keys, w)
		add("self_attn.v_proj", InitNormal, l.weight, keys, w)
		add("self_attn.o_proj", InitNormal, l.residual, w, w)
		l.corner(k, w)
		add("mlp.gate_proj", InitNormal, l.weight, c.Hidden, w)
		add("mlp.up_proj", InitNormal, l.weight, c.Hidden, w)
		add("mlp.down_proj", InitNormal, l.residual, w, c.Hidden)
		l.corner(k, c.Hidden)
		add("input_layernorm", InitOne, 0, w)
		add("post_attention_layernorm", InitOne, 0, w)
	}
	l.add(c.Layers-1, "model.norm.weight", InitOne, 0, w)
	if c.Untied {
		l.add(-1, headName, InitNormal, l.std, c.Vocab, w)
	}
}

func llamaName(layer int, name string) string { return fmt.Sprintf("model.layers.%d.%s", layer, name) }

// allocateLlama takes what is not a block's and returns what makes those.
func (m *Model) allocateLlama(b *builder) (add func(layer int) block) {
	if m.part.First() {
		m.embed.tokens, m.embed.tokensGrad = b.parameter("model.embed_tokens.weight")
	}
	m.allocateHead(b)
	table := b.buffer(m.cfg.Context * m.cfg.headSize())
	if b.failed == nil {
		m.dev.Upload(table, angles(m.cfg.Context, m.cfg.headSize(), m.cfg.RopeTheta))
	}
	return func(layer int) block { return b.llamaBlock(layer, table) }
}

// angles returns the table of compute.Rotary: the cosines, then the sines, of
// position·theta^(-2i/size) for every position. Frequencies and angles are
// rounded to float32 as in Hugging Face's Llama, so that what was trained with
// them there sees the same angles here.
func angles(positions, size int, theta float32) []float32 {
	table := make([]float32, positions*size)
	for i := range size / 2 {
		frequency := float32(math.Pow(float64(theta), -float64(2*i)/float64(size)))
		for p := range positions {
			sin, cos := math.Sincos(float64(float32(p) * frequency))
			table[p*size+i], table[p*size+size/2+i] = float32(cos), float32(sin)
		}
	}
	return table
}

// llamaBlock is x + attention(norm(x)), then x + swiglu(norm(x)).
type llamaBlock struct {
	dev                    compute.Device
	heads, keys            int
	width, qkvWidth        int
	hidden                 int
	kept                   Kept
	table                  compute.Buffer // of rotary angles, shared by all blocks
	norm1, norm2           rmsNorm
	qkv, out, gateUp, down linear
	trace                  // its pre holds gates and values, and backward leaves their gradient there
}

func (b *builder) llamaBlock(layer int, table compute.Buffer) *llamaBlock {
	cfg := b.cfg
	c, hidden, qkv := cfg.Width, cfg.Hidden, cfg.qkvWidth()
	name := func(part string) string { return llamaName(layer, part) }
	return &llamaBlock{
		dev: b.dev, heads: cfg.Heads, keys: cfg.KVHeads, width: c, qkvWidth: qkv, hidden: hidden, kept: b.kept(layer), table: table,
		norm1: b.rmsNorm(name("input_layernorm")), norm2: b.rmsNorm(name("post_attention_layernorm")),
		qkv:    b.projection(c, qkv, name("self_attn.q_proj"), name("self_attn.k_proj"), name("self_attn.v_proj")),
		out:    b.projection(c, c, name("self_attn.o_proj")),
		gateUp: b.projection(c, 2*hidden, name("mlp.gate_proj"), name("mlp.up_proj")),
		down:   b.projection(hidden, c, name("mlp.down_proj")),
		trace:  b.trace(layer),
	}
}

// turn rotates the queries and keys of parts, which holds the rows of e.
func (k *llamaBlock) turn(parts compute.Buffer, e extent, back bool) {
	k.dev.Rotary(compute.Rotary{
		X: parts, Table: k.table, B: e.batch, T: e.to - e.from, From: e.from,
		H: k.heads + k.keys, S: k.width / k.heads, Stride: k.qkvWidth, Back: back,
	})
}

func (k *llamaBlock) forward(in, out compute.Buffer, f *flight, e extent) {
	k.attend(in, f, e)
	k.expand(f, e)
	k.activate(f, e)
	k.down.forward(out, e.of(f.wide, k.hidden), e.rows(), compute.Epilogue{Residual: e.of(k.mid, k.width)})
}

// attend is the attention half, up to mid.
func (k *llamaBlock) attend(in compute.Buffer, f *flight, e extent) {
	c, n := k.width, e.rows()
	k.norm1.forward(f.narrow, in, e)
	parts := e.of(k.parts, k.qkvWidth)
	k.qkv.forward(parts, e.of(f.narrow, c), n, compute.Epilogue{})
	k.turn(parts, e, false)
	attended := e.of(k.attended, c)
	op := compute.Attention{Out: attended, QKV: k.parts, B: e.batch, T: e.to, H: k.heads, KV: k.keys, C: c, From: e.from}
	if e.from == 0 {
		op.LSE = k.lse
	}
	k.dev.Attention(op)
	k.out.forward(e.of(k.mid, c), attended, n, compute.Epilogue{Residual: e.of(in, c)})
}

// expand goes on from mid to gates and values.
func (k *llamaBlock) expand(f *flight, e extent) {
	k.norm2.forward(f.narrow, k.mid, e)
	k.gateUp.forward(e.of(k.pre, 2*k.hidden), e.of(f.narrow, k.width), e.rows(), compute.Epilogue{})
}

func (k *llamaBlock) activate(f *flight, e extent) {
	k.dev.SwiGLU(compute.SwiGLU{Y: e.of(f.wide, k.hidden), GateUp: e.of(k.pre, 2*k.hidden), Rows: e.rows(), N: k.hidden})
}

// restore makes the products again that forward did not keep.
func (k *llamaBlock) restore(in compute.Buffer, f *flight, e extent) {
	if k.kept >= KeptInput {
		k.attend(in, f, e)
	}
	if k.kept >= KeptAttention {
		k.expand(f, e)
	}
}

func (k *llamaBlock) backward(in compute.Buffer, f *flight, e extent) {
	rows := e.rows()
	k.restore(in, f, e)
	k.activate(f, e)
	k.down.gradient(f.stream, f.wide, rows)
	k.down.backward(f.wide, f.stream, rows)
	k.dev.SwiGLUGrad(compute.SwiGLUGrad{DGateUp: k.pre, DY: f.wide, GateUp: k.pre, Rows: rows, N: k.hidden})
	k.norm2.forward(f.narrow, k.mid, e)
	k.gateUp.gradient(k.pre, f.narrow, rows)
	k.gateUp.backward(f.narrow, k.pre, rows)
	k.norm2.backward(f.stream, f.narrow, k.mid, rows, true)
	f.confine(k.dev, rows)

	k.out.gradient(f.stream, k.attended, rows)
	k.out.backward(f.narrow, f.stream, rows)
	parts := k.pre
	k.dev.AttentionGrad(compute.AttentionGrad{
		DQKV: parts, DOut: f.narrow, QKV: k.parts, Out: k.attended, LSE: k.lse,
		B: e.batch, T: e.to, H: k.heads, KV: k.keys, C: k.width,
	})
	k.turn(parts, e, true)
	k.norm1.forward(f.narrow, in, e)
	k.qkv.gradient(parts, f.narrow, rows)
	k.qkv.backward(f.narrow, parts, rows)
	k.norm1.backward(f.stream, f.narrow, in, rows, true)
	f.confine(k.dev, rows)
}
