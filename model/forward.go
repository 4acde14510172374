package model

import (
	"fmt"
	"math"

	"dunlin/compute"
)

// Loss returns the mean loss in nats a token of predicting targets from
// tokens: batch windows of equal length one after the other, at most MaxBatch
// of at most Context positions. Gradients are left alone.
func (m *Model) Loss(tokens, targets []int32, batch int) (float32, error) {
	positions, err := m.place(tokens, targets, batch)
	if err != nil {
		return 0, err
	}
	m.forward(batch, 0, positions)
	m.head(len(tokens), false)
	return m.meanLoss(len(tokens))
}

// ForwardBackward returns the same loss as Loss and adds its gradient to the
// gradients.
func (m *Model) ForwardBackward(tokens, targets []int32, batch int) (float32, error) {
	positions, err := m.place(tokens, targets, batch)
	if err != nil {
		return 0, err
	}
	m.forward(batch, 0, positions)
	m.head(len(tokens), true)
	m.backward(batch, positions)
	return m.meanLoss(len(tokens))
}

// Logits writes the scores [len(tokens), Vocab] of every next token to dst.
func (m *Model) Logits(dst []float32, tokens []int32, batch int) error {
	positions, err := m.place(tokens, nil, batch)
	if err != nil {
		return err
	}
	if len(dst) != len(tokens)*m.cfg.Vocab {
		return fmt.Errorf("logits: room for %d values, %d tokens of vocabulary %d need %d",
			len(dst), len(tokens), m.cfg.Vocab, len(tokens)*m.cfg.Vocab)
	}
	m.forward(batch, 0, positions)
	v := m.cfg.Vocab
	for from := 0; from < len(tokens); from += m.act.chunk {
		to := min(len(tokens), from+m.act.chunk)
		m.logits(from, to)
		if err := m.dev.Download(dst[from*v:to*v], m.act.logits); err != nil {
			return fmt.Errorf("read logits: %w", err)
		}
	}
	return nil
}

// place checks a batch and moves it to the device. Without targets only the
// tokens are placed.
func (m *Model) place(tokens, targets []int32, batch int) (positions int, err error) {
	if batch < 1 || batch > m.maxBatch {
		return 0, fmt.Errorf("batch of %d windows: the model has room for 1 to %d", batch, m.maxBatch)
	}
	positions = len(tokens) / batch
	if len(tokens) == 0 || len(tokens)%batch != 0 || positions > m.cfg.Context {
		return 0, fmt.Errorf("batch of %d tokens in %d windows: each takes the same number, 1 to %d", len(tokens), batch, m.cfg.Context)
	}
	if err := m.checkTokens("token", tokens); err != nil {
		return 0, err
	}
	m.dev.UploadInts(m.tokens, tokens)
	if targets == nil {
		return positions, nil
	}
	if len(targets) != len(tokens) {
		return 0, fmt.Errorf("batch of %d tokens with %d targets: both must be as many", len(tokens), len(targets))
	}
	if err := m.checkTokens("target", targets); err != nil {
		return 0, err
	}
	m.dev.UploadInts(m.targets, targets)
	return positions, nil
}

func (m *Model) checkTokens(what string, tokens []int32) error {
	for i, t := range tokens {
		if t < 0 || int(t) >= m.cfg.Vocab {
			return fmt.Errorf("%s %d at place %d: the vocabulary has 0 to %d", what, t, i, m.cfg.Vocab-1)
		}
	}
	return nil
}

// forward runs the placed tokens through all blocks and the last norm. For
// from = 0 these are positions 0..to-1 of batch windows. For from > 0 it is one
// window's positions from..to-1, whose earlier keys and values are still in the
// layers' qkv: the activations of earlier calls are the cache of generation.
func (m *Model) forward(batch, from, to int) {
	c, a, w := m.cfg.Width, &m.act, &m.weights
	first, n := from, batch*(to-from) // rows
	m.dev.Embed(compute.Embed{
		Out: rowsOf(a.layers[0].in, first, n, c), Tokens: m.tokens.Slice(first, first+n),
		WTE: w.wte, WPE: w.wpe, B: batch, T: to - from, C: c, From: from,
	})
	for l := range a.layers {
		out := a.last
		if l+1 < len(a.layers) {
			out = a.layers[l+1].in
		}
		m.forwardBlock(&w.blocks[l], &a.layers[l], rowsOf(out, first, n, c), batch, from, to)
	}
	m.norm(a.lastNorm, a.last, w.lastGain, w.lastBias, a.lastStats, first, n)
}

// forwardBlock is x + attention(norm(x)), then x + mlp(norm(x)).
func (m *Model) forwardBlock(p *block, a *layerActivations, out compute.Buffer, batch, from, to int) {
	c, first, n := m.cfg.Width, from, batch*(to-from)
	m.norm(a.ln1, a.in, p[ln1Gain], p[ln1Bias], a.stats1, first, n)
	m.linear(rowsOf(a.qkv, first, n, 3*c), rowsOf(a.ln1, first, n, c), p[qkvWeight], n, c, 3*c,
		compute.Epilogue{Bias: p[qkvBias]})
	att := rowsOf(a.att, first, n, c)
	op := compute.Attention{Out: att, QKV: a.qkv, B: batch, T: to, H: m.cfg.Heads, C: c, From: from}
	if from == 0 {
		op.LSE = a.lse
	}
	m.dev.Attention(op)
	mid := rowsOf(a.mid, first, n, c)
	m.linear(mid, att, p[outWeight], n, c, c, compute.Epilogue{Bias: p[outBias], Residual: rowsOf(a.in, first, n, c)})
	m.norm(a.ln2, a.mid, p[ln2Gain], p[ln2Bias], a.stats2, first, n)
	up := rowsOf(a.up, first, n, 4*c)
	m.linear(up, rowsOf(a.ln2, first, n, c), p[upWeight], n, c, 4*c,
		compute.Epilogue{Bias: p[upBias], Pre: rowsOf(a.pre, first, n, 4*c), GELU: true})
	m.linear(out, up, p[downWeight], n, 4*c, c, compute.Epilogue{Bias: p[downBias], Residual: mid})
}

// linear is y = x·w + epilogue with x [rows,in] and w [in,out].
func (m *Model) linear(y, x, w compute.Buffer, rows, in, out int, e compute.Epilogue) {
	m.dev.MatMul(compute.MatMul{Form: compute.NN, M: rows, N: out, K: in, A: x, B: w, C: y, Epilogue: e})
}

func (m *Model) norm(y, x, gain, bias compute.Buffer, s stats, first, n int) {
	c := m.cfg.Width
	m.dev.LayerNorm(compute.LayerNorm{
		Y: rowsOf(y, first, n, c), X: rowsOf(x, first, n, c), Gain: gain, Bias: bias,
		Mean: s.mean.Slice(first, first+n), RStd: s.rstd.Slice(first, first+n), Rows: n, N: c, Eps: layerNormEps,
	})
}

// rowsOf returns n rows of width values from row first.
func rowsOf(b compute.Buffer, first, n, width int) compute.Buffer {
	return b.Slice(first*width, (first+n)*width)
}

// logits computes the scores of rows [from,to) into act.logits.
func (m *Model) logits(from, to int) {
	c := m.cfg.Width
	m.dev.MatMul(compute.MatMul{
		Form: compute.NT, M: to - from, N: m.cfg.Vocab, K: c,
		A: rowsOf(m.act.lastNorm, from, to-from, c), B: m.weights.wte, C: m.act.logits,
	})
}

// head computes the losses of rows 0..rows-1, chunk by chunk; with grad also
// the gradient of their mean: of the last norm's output into act.narrow and,
// added, of the token embedding.
func (m *Model) head(rows int, grad bool) {
	c, v, a := m.cfg.Width, m.cfg.Vocab, &m.act
	for from := 0; from < rows; from += a.chunk {
		to := min(rows, from+a.chunk)
		m.logits(from, to)
		m.dev.CrossEntropy(compute.CrossEntropy{
			Logits: a.logits, Losses: a.losses.Slice(from, to), Targets: m.targets.Slice(from, to),
			Rows: to - from, V: v, Grad: grad, Scale: 1 / float32(rows),
		})
		if !grad {
			continue
		}
		m.dev.MatMul(compute.MatMul{
			Form: compute.NN, M: to - from, N: c, K: v,
			A: a.logits, B: m.weights.wte, C: rowsOf(a.narrow, from, to-from, c),
		})
		m.dev.MatMul(compute.MatMul{
			Form: compute.TN, M: v, N: c, K: to - from,
			A: a.logits, B: rowsOf(a.lastNorm, from, to-from, c), C: m.grads.wte, Accumulate: true,
		})
	}
}

// meanLoss waits for the losses and sums them in row order in float64.
func (m *Model) meanLoss(rows int) (float32, error) {
	losses := m.losses[:rows]
	if err := m.dev.Download(losses, m.act.losses); err != nil {
		return 0, fmt.Errorf("read losses: %w", err)
	}
	var sum float64
	for _, l := range losses {
		sum += float64(l)
	}
	mean := float32(sum / float64(rows))
	if math.IsNaN(float64(mean)) || math.IsInf(float64(mean), 0) {
		return mean, fmt.Errorf("loss %v of %d tokens: %w", mean, rows, ErrNotFinite)
	}
	return mean, nil
}
