package model

import (
	"fmt"

	"dunlin/compute"
)

// gpt2 lists GPT-2's parameters.
func (l *lister) gpt2(c Config) {
	w, k := c.Width, c.Subspace
	l.add(-1, "transformer.wte.weight", l.tokens, l.std, c.Vocab, w)
	l.corner(c.Vocab, k)
	l.add(-1, "transformer.wpe.weight", InitNormal, l.std/5, c.Context, w)
	l.corner(c.Context, k)
	for layer := range c.Layers {
		add := func(name string, init InitKind, std float64, shape ...int) {
			l.add(layer, gpt2Name(layer, name), init, std, shape...)
		}
		add("ln_1.weight", InitOne, 0, w)
		add("ln_1.bias", InitZero, 0, w)
		add("attn.c_attn.weight", InitNormal, l.weight, w, 3*w)
		add("attn.c_attn.bias", InitZero, 0, 3*w)
		add("attn.c_proj.weight", InitNormal, l.residual, w, w)
		l.corner(w, k)
		add("attn.c_proj.bias", InitZero, 0, w)
		l.corner(k)
		add("ln_2.weight", InitOne, 0, w)
		add("ln_2.bias", InitZero, 0, w)
		add("mlp.c_fc.weight", InitNormal, l.weight, w, 4*w)
		add("mlp.c_fc.bias", InitZero, 0, 4*w)
		add("mlp.c_proj.weight", InitNormal, l.residual, 4*w, w)
		l.corner(4*w, k)
		add("mlp.c_proj.bias", InitZero, 0, w)
		l.corner(k)
	}
	l.add(c.Layers-1, "transformer.ln_f.weight", InitOne, 0, w)
	l.add(c.Layers-1, "transformer.ln_f.bias", InitZero, 0, w)
	if c.Untied {
		l.add(-1, headName, InitNormal, l.std, c.Vocab, w)
	}
}

func gpt2Name(layer int, name string) string { return fmt.Sprintf("transformer.h.%d.%s", layer, name) }

// allocateGPT2 takes what is not a block's and returns what makes those.
func (m *Model) allocateGPT2(b *builder) (add func(layer int) block) {
	if m.part.First() {
		m.embed.tokens, m.embed.tokensGrad = b.parameter("transformer.wte.weight")
		m.embed.positions, m.embed.positionsGrad = b.parameter("transformer.wpe.weight")
	}
	m.allocateHead(b)
	return func(layer int) block { return b.gpt2Block(layer) }
}

// gpt2Block is x + attention(norm(x)), then x + mlp(norm(x)).
type gpt2Block struct {
	dev                compute.Device
	heads, width       int
	kept               Kept
	norm1, norm2       layerNorm
	qkv, out, up, down linear
	trace
}

func (b *builder) gpt2Block(layer int) *gpt2Block {
	c := b.cfg.Width
	name := func(part string) string { return gpt2Name(layer, part) }
	return &gpt2Block{
		dev: b.dev, heads: b.cfg.Heads, width: c, kept: b.kept(layer),
		norm1: b.layerNorm(name("ln_1")), qkv: b.affine(c, 3*c, name("attn.c_attn")), out: b.affine(c, c, name("attn.c_proj")),
		norm2: b.layerNorm(name("ln_2")), up: b.affine(c, 4*c, name("mlp.c_fc")), down: b.affine(4*c, c, name("mlp.c_proj")),
		trace: b.trace(layer),
	}
}

func (k *gpt2Block) forward(in, out compute.Buffer, f *flight, e extent) {
	c, n := k.width, e.rows()
	k.attend(in, f, e)
	k.norm2.forward(f.narrow, k.mid, e)
	active := e.of(f.wide, 4*c)
	k.up.forward(active, e.of(f.narrow, c), n, compute.Epilogue{Pre: e.of(k.pre, 4*c), GELU: true})
	k.down.forward(out, active, n, compute.Epilogue{Residual: e.of(k.mid, c)})
}

// attend is the attention half, up to mid.
func (k *gpt2Block) attend(in compute.Buffer, f *flight, e extent) {
	c, n := k.width, e.rows()
	k.norm1.forward(f.narrow, in, e)
	k.qkv.forward(e.of(k.parts, 3*c), e.of(f.narrow, c), n, compute.Epilogue{})
	attended := e.of(k.attended, c)
	op := compute.Attention{Out: attended, QKV: k.parts, B: e.batch, T: e.to, H: k.heads, C: c, From: e.from}
	if e.from == 0 {
		op.LSE = k.lse
	}
	k.dev.Attention(op)
	k.out.forward(e.of(k.mid, c), attended, n, compute.Epilogue{Residual: e.of(in, c)})
}

// restore makes the products again that forward did not keep.
func (k *gpt2Block) restore(in compute.Buffer, f *flight, e extent) {
	if k.kept >= KeptInput {
		k.attend(in, f, e)
	}
	if k.kept >= KeptAttention {
		k.norm2.forward(f.narrow, k.mid, e)
		k.up.forward(e.of(k.pre, 4*k.width), f.narrow, e.rows(), compute.Epilogue{})
	}
}

func (k *gpt2Block) backward(in compute.Buffer, f *flight, e extent) {
	rows := e.rows()
	k.restore(in, f, e)
	wide, pre := e.of(f.wide, 4*k.width), e.of(k.pre, 4*k.width)
	k.down.backward(wide, f.stream, rows)
	active := pre
	k.dev.GELUGrad(wide, active, wide, pre)
	k.down.gradient(f.stream, active, rows)
	k.norm2.forward(f.narrow, k.mid, e)
	k.up.gradient(wide, f.narrow, rows)
	k.up.backward(f.narrow, wide, rows)
	k.norm2.backward(f.stream, f.narrow, k.mid, rows, true)
	f.confine(k.dev, rows)

	k.out.gradient(f.stream, k.attended, rows)
	k.out.backward(f.narrow, f.stream, rows)
	parts := k.pre
	k.dev.AttentionGrad(compute.AttentionGrad{
		DQKV: parts, DOut: f.narrow, QKV: k.parts, Out: k.attended, LSE: k.lse, B: e.batch, T: e.to, H: k.heads, C: k.width,
	})
	k.norm1.forward(f.narrow, in, e)
	k.qkv.gradient(parts, f.narrow, rows)
	k.qkv.backward(f.narrow, parts, rows)
	k.norm1.backward(f.stream, f.narrow, in, rows, true)
	f.confine(k.dev, rows)
}
