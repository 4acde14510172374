package model

import (
	"fmt"
	"math"

	"dunlin/compute"
)

// llama lists Llama's parameters.
func (l *lister) llama(c Config) {
	w, keys := c.Width, c.KVHeads*c.headSize()
	l.add(-1, "model.embed_tokens.weight", InitNormal, l.std, c.Vocab, w)
	for layer := range c.Layers {
		add := func(name string, init InitKind, std float64, shape ...int) {
			l.add(layer, llamaName(layer, name)+".weight", init, std, shape...)
		}
		add("self_attn.q_proj", InitNormal, l.weight, w, w)
		add("self_attn.k_proj", InitNormal, l.weight, keys, w)
		add("self_attn.v_proj", InitNormal, l.weight, keys, w)
		add("self_attn.o_proj", InitNormal, l.residual, w, w)
		add("mlp.gate_proj", InitNormal, l.weight, c.Hidden, w)
		add("mlp.up_proj", InitNormal, l.weight, c.Hidden, w)
		add("mlp.down_proj", InitNormal, l.residual, w, c.Hidden)
		add("input_layernorm", InitOne, 0, w)
		add("post_attention_layernorm", InitOne, 0, w)
	}
	l.add(c.Layers-1, "model.norm.weight", InitOne, 0, w)
	if c.Untied {
		l.add(-1, headName, InitNormal, l.std, c.Vocab, w)
	}
}

func llamaName(layer int, name string) string { return fmt.Sprintf("model.layers.%d.%s", layer, name) }

func (m *Model) allocateLlama(b *builder) {
	m.embed.tokens, m.embed.tokensGrad = b.parameter("model.embed_tokens.weight")
	m.head = head{weight: m.embed.tokens, grad: m.embed.tokensGrad}
	if m.cfg.Untied {
		m.head.weight, m.head.grad = b.parameter(headName)
	}
	table := b.buffer(m.cfg.Context * m.cfg.headSize())
	if b.failed == nil {
		m.dev.Upload(table, angles(m.cfg.Context, m.cfg.headSize(), m.cfg.RopeTheta))
	}
	for layer := range m.cfg.Layers {
		m.blocks = append(m.blocks, b.llamaBlock(layer, table))
	}
	last := b.rmsNorm("model.norm")
	m.last = &last
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
	table                  compute.Buffer // of rotary angles, shared by all blocks
	norm1, norm2           rmsNorm
	qkv, out, gateUp, down linear

	// Kept for the gradient.
	normed1  compute.Buffer // [rows,C]
	parts    compute.Buffer // [rows,qkvWidth] queries and keys, turned, and values
	attended compute.Buffer // [rows,C] attention's output
	lse      compute.Buffer // [rows·H]
	mid      compute.Buffer // [rows,C] the residual stream after attention
	normed2  compute.Buffer // [rows,C]
	gates    compute.Buffer // [rows,2·hidden]; backward leaves its gradient there
	active   compute.Buffer // [rows,hidden] after SwiGLU
}

func (b *builder) llamaBlock(layer int, table compute.Buffer) *llamaBlock {
	cfg := b.cfg
	c, hidden, qkv := cfg.Width, cfg.Hidden, cfg.qkvWidth()
	name := func(part string) string { return llamaName(layer, part) }
	return &llamaBlock{
		dev: b.dev, heads: cfg.Heads, keys: cfg.KVHeads, width: c, qkvWidth: qkv, hidden: hidden, table: table,
		norm1: b.rmsNorm(name("input_layernorm")), norm2: b.rmsNorm(name("post_attention_layernorm")),
		qkv:    b.projection(c, qkv, name("self_attn.q_proj"), name("self_attn.k_proj"), name("self_attn.v_proj")),
		out:    b.projection(c, c, name("self_attn.o_proj")),
		gateUp: b.projection(c, 2*hidden, name("mlp.gate_proj"), name("mlp.up_proj")),
		down:   b.projection(hidden, c, name("mlp.down_proj")),

		normed1: b.values(c), parts: b.values(qkv), attended: b.values(c), lse: b.values(cfg.Heads),
		mid: b.values(c), normed2: b.values(c), gates: b.values(2 * hidden), active: b.values(hidden),
	}
}

// turn rotates the queries and keys of parts, which holds the rows of e.
func (k *llamaBlock) turn(parts compute.Buffer, e extent, back bool) {
	k.dev.Rotary(compute.Rotary{
		X: parts, Table: k.table, B: e.batch, T: e.to - e.from, From: e.from,
		H: k.heads + k.keys, S: k.width / k.heads, Stride: k.qkvWidth, Back: back,
	})
}

func (k *llamaBlock) forward(in, out compute.Buffer, e extent) {
	c, n := k.width, e.rows()
	k.norm1.forward(k.normed1, in, e)
	parts := e.of(k.parts, k.qkvWidth)
	k.qkv.forward(parts, e.of(k.normed1, c), n, compute.Epilogue{})
	k.turn(parts, e, false)
	attended := e.of(k.attended, c)
	op := compute.Attention{Out: attended, QKV: k.parts, B: e.batch, T: e.to, H: k.heads, KV: k.keys, C: c, From: e.from}
	if e.from == 0 {
		op.LSE = k.lse
	}
	k.dev.Attention(op)
	mid := e.of(k.mid, c)
	k.out.forward(mid, attended, n, compute.Epilogue{Residual: e.of(in, c)})
	k.norm2.forward(k.normed2, k.mid, e)
	gates, active := e.of(k.gates, 2*k.hidden), e.of(k.active, k.hidden)
	k.gateUp.forward(gates, e.of(k.normed2, c), n, compute.Epilogue{})
	k.dev.SwiGLU(compute.SwiGLU{Y: active, GateUp: gates, Rows: n, N: k.hidden})
	k.down.forward(out, active, n, compute.Epilogue{Residual: mid})
}

func (k *llamaBlock) backward(in compute.Buffer, f *flight, e extent) {
	rows := e.rows()
	k.down.backward(f.wide, f.stream, k.active, rows)
	k.dev.SwiGLUGrad(compute.SwiGLUGrad{DGateUp: k.gates, DY: f.wide, GateUp: k.gates, Rows: rows, N: k.hidden})
	k.gateUp.backward(f.narrow, k.gates, k.normed2, rows)
	k.norm2.backward(f.stream, f.narrow, k.mid, rows, true)

	k.out.backward(f.narrow, f.stream, k.attended, rows)
	k.dev.AttentionGrad(compute.AttentionGrad{
		DQKV: f.wide, DOut: f.narrow, QKV: k.parts, Out: k.attended, LSE: k.lse,
		B: e.batch, T: e.to, H: k.heads, KV: k.keys, C: k.width,
	})
	k.turn(f.wide, e, true)
	k.qkv.backward(f.narrow, f.wide, k.normed1, rows)
	k.norm1.backward(f.stream, f.narrow, in, rows, true)
}
