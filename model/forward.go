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
	m.score(len(tokens), false)
	return m.meanLoss(len(tokens))
}

// ForwardBackward returns the same loss as Loss and adds its gradient to the
// gradients, or replaces them by it where their memory is lent.
func (m *Model) ForwardBackward(tokens, targets []int32, batch int) (float32, error) {
	positions, err := m.place(tokens, targets, batch)
	if err != nil {
		return 0, err
	}
	m.forward(batch, 0, positions)
	m.score(len(tokens), true)
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
	if batch < 1 || batch > m.room.Batch {
		return 0, fmt.Errorf("batch of %d windows: the model has room for 1 to %d", batch, m.room.Batch)
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
// blocks: the activations of earlier calls are the cache of generation.
func (m *Model) forward(batch, from, to int) {
	e := extent{batch: batch, from: from, to: to}
	c, streams := m.cfg.Width, m.act.streams
	if m.part.First() {
		m.dev.Embed(compute.Embed{
			Out: e.of(streams[0], c), Tokens: m.tokens.Slice(from, from+e.rows()),
			WTE: m.embed.tokens, WPE: m.embed.positions, B: batch, T: to - from, C: c, From: from,
		})
	}
	for i, block := range m.blocks {
		block.forward(streams[i], e.of(streams[i+1], c), &m.act.flight, e)
	}
	if m.part.Last(m.cfg) {
		m.last.forward(m.act.lastNorm, streams[len(m.blocks)], e)
	}
}

// logits computes the scores of rows [from,to) into act.logits.
func (m *Model) logits(from, to int) {
	c := m.cfg.Width
	m.dev.MatMul(compute.MatMul{
		Form: compute.NT, M: to - from, N: m.cfg.Vocab, K: c,
		A: rowsOf(m.act.lastNorm, from, to-from, c), B: m.head.weight, C: m.act.logits,
	})
}

// score computes the losses of rows 0..rows-1, chunk by chunk; with grad also
// the gradient of their mean: of the last norm's output into flight.narrow, and of
// the head.
func (m *Model) score(rows int, grad bool) {
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
			A: a.logits, B: m.head.weight, C: rowsOf(a.flight.narrow, from, to-from, c),
		})
		m.dev.MatMul(compute.MatMul{
			Form: compute.TN, M: v, N: c, K: to - from,
			A: a.logits, B: rowsOf(a.lastNorm, from, to-from, c), C: m.head.grad, Accumulate: !m.room.Lend || from > 0,
		})
	}
}

// backward adds to the gradients of all parameters but the head, or replaces them,
// from what forward and score left.
func (m *Model) backward(batch, positions int) {
	e := extent{batch: batch, to: positions}
	f, streams := &m.act.flight, m.act.streams
	for i := len(m.blocks) - 1; i >= 0; i-- {
		if i == len(m.blocks)-1 && m.part.Last(m.cfg) {
			m.last.backward(f.stream, f.narrow, streams[i+1], e.rows(), false)
			f.confine(m.dev, e.rows())
		}
		m.blocks[i].backward(streams[i], f, e)
	}
	if !m.part.First() {
		return
	}
	m.reclaim(m.embed.positionsGrad)
	if m.cfg.Untied {
		m.reclaim(m.embed.tokensGrad)
	}
	m.dev.EmbedGrad(compute.EmbedGrad{
		DWTE: m.embed.tokensGrad, DWPE: m.embed.positionsGrad, DOut: f.stream,
		Tokens: m.tokens, B: batch, T: positions, C: m.cfg.Width,
	})
}

// reclaim clears gradients whose memory was lent, when nothing there is needed
// any more and before they are added to.
func (m *Model) reclaim(grads compute.Buffer) {
	if m.room.Lend {
		m.dev.Zero(grads)
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
