package model

import "dunlin/compute"

// backward adds to the gradients of all parameters but the head's share of the
// token embedding, from what forward and head left. Act.narrow holds the
// gradient of the last norm's output.
func (m *Model) backward(batch, positions int) {
	rows := batch * positions
	a := &m.act
	m.normGrad(a.stream, a.narrow, a.last, m.weights.lastGain, m.grads.lastGain, m.grads.lastBias, a.lastStats, rows, false)
	for l := len(a.layers) - 1; l >= 0; l-- {
		m.backwardBlock(&m.weights.blocks[l], &m.grads.blocks[l], &a.layers[l], batch, positions)
	}
	m.dev.EmbedGrad(compute.EmbedGrad{
		DWTE: m.grads.wte, DWPE: m.grads.wpe, DOut: a.stream,
		Tokens: m.tokens, B: batch, T: positions, C: m.cfg.Width,
	})
}

// backwardBlock turns act.stream from the gradient of the block's output into
// that of its input. The residual sums pass it on unchanged; each branch adds.
func (m *Model) backwardBlock(p, g *block, a *layerActivations, batch, positions int) {
	c, rows, act := m.cfg.Width, batch*positions, &m.act

	m.linearGrad(act.wide, act.stream, a.up, p[downWeight], g[downWeight], g[downBias], rows, 4*c, c)
	wide := act.wide.Slice(0, rows*4*c)
	m.dev.GELUGrad(wide, wide, a.pre)
	m.linearGrad(act.narrow, wide, a.ln2, p[upWeight], g[upWeight], g[upBias], rows, c, 4*c)
	m.normGrad(act.stream, act.narrow, a.mid, p[ln2Gain], g[ln2Gain], g[ln2Bias], a.stats2, rows, true)

	m.linearGrad(act.narrow, act.stream, a.att, p[outWeight], g[outWeight], g[outBias], rows, c, c)
	m.dev.AttentionGrad(compute.AttentionGrad{
		DQKV: act.wide, DOut: act.narrow, QKV: a.qkv, Out: a.att, LSE: a.lse,
		B: batch, T: positions, H: m.cfg.Heads, C: c,
	})
	m.linearGrad(act.narrow, act.wide, a.ln1, p[qkvWeight], g[qkvWeight], g[qkvBias], rows, c, 3*c)
	m.normGrad(act.stream, act.narrow, a.in, p[ln1Gain], g[ln1Gain], g[ln1Bias], a.stats1, rows, true)
}

// linearGrad sets dx [rows,in] to dy·wᵀ and adds xᵀ·dy to dw [in,out] and dy's
// column sums to db [out].
func (m *Model) linearGrad(dx, dy, x, w, dw, db compute.Buffer, rows, in, out int) {
	m.dev.BiasGrad(compute.BiasGrad{DBias: db, DY: dy, Rows: rows, N: out})
	m.dev.MatMul(compute.MatMul{Form: compute.TN, M: in, N: out, K: rows, A: x, B: dy, C: dw, Accumulate: true})
	m.dev.MatMul(compute.MatMul{Form: compute.NT, M: rows, N: in, K: out, A: dy, B: w, C: dx})
}

func (m *Model) normGrad(dx, dy, x, gain, dgain, dbias compute.Buffer, s stats, rows int, accumulate bool) {
	m.dev.LayerNormGrad(compute.LayerNormGrad{
		DX: dx, DY: dy, X: x, DGain: dgain, DBias: dbias, Gain: gain,
		Mean: s.mean, RStd: s.rstd, Rows: rows, N: m.cfg.Width, Accumulate: accumulate,
	})
}
