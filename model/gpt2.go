package model

import (
	"fmt"

	"dunlin/compute"
)

// gpt2 lists GPT-2's parameters.
func (l *lister) gpt2(c Config) {
	w := c.Width
	l.add(-1, "transformer.wte.weight", InitNormal, l.std, c.Vocab, w)
	l.add(-1, "transformer.wpe.weight", InitNormal, l.std/5, c.Context, w)
	for layer := range c.Layers {
		add := func(name string, init InitKind, std float64, shape ...int) {
			l.add(layer, gpt2Name(layer, name), init, std, shape...)
		}
		add("ln_1.weight", InitOne, 0, w)
		add("ln_1.bias", InitZero, 0, w)
		add("attn.c_attn.weight", InitNormal, l.weight, w, 3*w)
		add("attn.c_attn.bias", InitZero, 0, 3*w)
		add("attn.c_proj.weight", InitNormal, l.residual, w, w)
		add("attn.c_proj.bias", InitZero, 0, w)
		add("ln_2.weight", InitOne, 0, w)
		add("ln_2.bias", InitZero, 0, w)
		add("mlp.c_fc.weight", InitNormal, l.weight, w, 4*w)
		add("mlp.c_fc.bias", InitZero, 0, 4*w)
		add("mlp.c_proj.weight", InitNormal, l.residual, 4*w, w)
		add("mlp.c_proj.bias", InitZero, 0, w)
	}
	l.add(c.Layers-1, "transformer.ln_f.weight", InitOne, 0, w)
	l.add(c.Layers-1, "transformer.ln_f.bias", InitZero, 0, w)
}

func gpt2Name(layer int, name string) string { return fmt.Sprintf("transformer.h.%d.%s", layer, name) }

func (m *Model) allocateGPT2(b *builder) {
	m.embed.tokens, m.embed.tokensGrad = b.parameter("transformer.wte.weight")
	m.embed.positions, m.embed.positionsGrad = b.parameter("transformer.wpe.weight")
	m.head = head{weight: m.embed.tokens, grad: m.embed.tokensGrad}
	for layer := range m.cfg.Layers {
		m.blocks = append(m.blocks, b.gpt2Block(layer))
	}
	last := b.layerNorm("transformer.ln_f")
	m.last = &last
}

// gpt2Block is x + attention(norm(x)), then x + mlp(norm(x)).
type gpt2Block struct {
	dev                compute.Device
	heads, width       int
	norm1, norm2       layerNorm
	qkv, out, up, down linear

	// Kept for the gradient.
	normed1  compute.Buffer // [rows,C]
	parts    compute.Buffer // [rows,3C] queries, keys, values
	attended compute.Buffer // [rows,C] attention's output
	lse      compute.Buffer // [rows·H]
	mid      compute.Buffer // [rows,C] the residual stream after attention
	normed2  compute.Buffer // [rows,C]
	pre      compute.Buffer // [rows,4C] before GELU
	active   compute.Buffer // [rows,4C] after GELU
}

func (b *builder) gpt2Block(layer int) *gpt2Block {
	c := b.cfg.Width
	name := func(part string) string { return gpt2Name(layer, part) }
	return &gpt2Block{
		dev: b.dev, heads: b.cfg.Heads, width: c,
		norm1: b.layerNorm(name("ln_1")), qkv: b.affine(c, 3*c, name("attn.c_attn")), out: b.affine(c, c, name("attn.c_proj")),
		norm2: b.layerNorm(name("ln_2")), up: b.affine(c, 4*c, name("mlp.c_fc")), down: b.affine(4*c, c, name("mlp.c_proj")),
		normed1: b.values(c), parts: b.values(3 * c), attended: b.values(c), lse: b.values(b.cfg.Heads),
		mid: b.values(c), normed2: b.values(c), pre: b.values(4 * c), active: b.values(4 * c),
	}
}

func (k *gpt2Block) forward(in, out compute.Buffer, e extent) {
	c, n := k.width, e.rows()
	k.norm1.forward(k.normed1, in, e)
	k.qkv.forward(e.of(k.parts, 3*c), e.of(k.normed1, c), n, compute.Epilogue{})
	attended := e.of(k.attended, c)
	op := compute.Attention{Out: attended, QKV: k.parts, B: e.batch, T: e.to, H: k.heads, C: c, From: e.from}
	if e.from == 0 {
		op.LSE = k.lse
	}
	k.dev.Attention(op)
	mid := e.of(k.mid, c)
	k.out.forward(mid, attended, n, compute.Epilogue{Residual: e.of(in, c)})
	k.norm2.forward(k.normed2, k.mid, e)
	active := e.of(k.active, 4*c)
	k.up.forward(active, e.of(k.normed2, c), n, compute.Epilogue{Pre: e.of(k.pre, 4*c), GELU: true})
	k.down.forward(out, active, n, compute.Epilogue{Residual: mid})
}

func (k *gpt2Block) backward(in compute.Buffer, f *flight, e extent) {
	rows := e.rows()
	k.down.backward(f.wide, f.stream, k.active, rows)
	wide := f.wide.Slice(0, rows*4*k.width)
	k.dev.GELUGrad(wide, wide, k.pre)
	k.up.backward(f.narrow, wide, k.normed2, rows)
	k.norm2.backward(f.stream, f.narrow, k.mid, rows, true)

	k.out.backward(f.narrow, f.stream, k.attended, rows)
	k.dev.AttentionGrad(compute.AttentionGrad{
		DQKV: f.wide, DOut: f.narrow, QKV: k.parts, Out: k.attended, LSE: k.lse, B: e.batch, T: e.to, H: k.heads, C: k.width,
	})
	k.qkv.backward(f.narrow, f.wide, k.normed1, rows)
	k.norm1.backward(f.stream, f.narrow, in, rows, true)
}
