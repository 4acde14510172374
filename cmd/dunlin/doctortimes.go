package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dunlin/compute"
)

// timing is how long an operation takes on a card.
type timing struct {
	Card      string  `json:"card"`
	Precision string  `json:"precision"`
	Operation string  `json:"operation"`
	Seconds   float64 `json:"seconds"` // median
	Rate      float64 `json:"rate"`    // operations or bytes a second
	Bound     string  `json:"bound"`   // what Rate counts: "FLOP/s" or "B/s"
	Share     float64 `json:"share"`   // of the card's peak in that, as its clocks make; 0 when that is not known
}

// benchSize is what operations are timed on: a GPT-2 of that width on so many tokens.
type benchSize struct{ batch, context, width, heads, vocab int }

var benchSizes = benchSize{batch: 4, context: 1024, width: 768, heads: 12, vocab: 50257}

// sizes are those of such a training.
func (s benchSize) sizes() compute.Sizes {
	return compute.Sizes{Rows: s.batch * s.context, Width: s.width, Vocab: s.vocab, Positions: s.context, Head: s.width / s.heads}
}

// Timings are medians of some runs, after runs that are not counted.
const (
	warmRuns  = 2
	timedRuns = 9
)

// timeOperations times one of each operation that a training step spends its time in. peak and bandwidth are the
// card's, 0 for not known.
func timeOperations(ctx context.Context, d compute.Device, s benchSize, peak, bandwidth float64) (_ []timing, err error) {
	rows, w := s.batch*s.context, s.width
	var held []compute.Buffer
	defer func() {
		for _, b := range held {
			d.Free(b)
		}
	}()
	take := func(n int) compute.Buffer {
		b, failed := d.Alloc(n)
		if failed != nil {
			err = failed
			return compute.Buffer{}
		}
		held = append(held, b)
		return b
	}
	x, y, wide, weights := take(rows*w), take(rows*w), take(rows*4*w), take(4*w*w)
	qkv, gain, rowsOf := take(rows*3*w), take(4*w), take(rows)
	lse, wte := take(rows*s.heads), take(s.vocab*w)
	head := max(1, rows/8)
	logits := take(head * s.vocab)
	tokens, failed := d.AllocInts(rows)
	if err != nil || failed != nil {
		return nil, fmt.Errorf("memory to time kernels in: %w", firstError(err, failed))
	}
	defer d.FreeInts(tokens)
	n, m, v, square := float64(rows*w), float64(rows), float64(s.vocab), float64(w*w)
	var out []timing
	for _, o := range []struct {
		name         string
		flops, bytes float64
		run          func()
	}{
		{"matmul, up", 8 * m * square, 0, func() {
			d.MatMul(compute.MatMul{Form: compute.NN, M: rows, N: 4 * w, K: w, A: x, B: weights, C: wide})
		}},
		{"matmul, down", 8 * m * square, 0, func() {
			d.MatMul(compute.MatMul{Form: compute.NN, M: rows, N: w, K: 4 * w, A: wide, B: weights, C: y})
		}},
		{"matmul, input's gradient", 8 * m * square, 0, func() {
			d.MatMul(compute.MatMul{Form: compute.NT, M: rows, N: w, K: 4 * w, A: wide, B: weights, C: y})
		}},
		{"matmul, weights' gradient", 8 * m * square, 0, func() {
			d.MatMul(compute.MatMul{Form: compute.TN, M: w, N: 4 * w, K: rows, A: x, B: wide, C: weights})
		}},
		{"matmul, head", 2 * float64(head) * v * float64(w), 0, func() {
			d.MatMul(compute.MatMul{Form: compute.NT, M: head, N: s.vocab, K: w, A: x, B: wte, C: logits})
		}},
		{"attention", 2 * m * float64(s.context) * float64(w), 0, func() {
			d.Attention(compute.Attention{Out: y, LSE: lse, QKV: qkv, B: s.batch, T: s.context, H: s.heads, C: w})
		}},
		{"attention's gradient", 5 * m * float64(s.context) * float64(w), 0, func() {
			d.AttentionGrad(compute.AttentionGrad{DQKV: wide.Slice(0, rows*3*w), DOut: x, QKV: qkv, Out: y, LSE: lse, B: s.batch, T: s.context, H: s.heads, C: w})
		}},
		{"layer norm", 0, 8 * n, func() {
			d.LayerNorm(compute.LayerNorm{Y: y, X: x, Gain: gain.Slice(0, w), Bias: gain.Slice(w, 2*w), Mean: rowsOf, RStd: lse.Slice(0, rows), Rows: rows, N: w, Eps: 1e-5})
		}},
		{"gelu", 0, 8 * n, func() { d.GELU(y, x) }},
		{"add", 0, 12 * n, func() { d.Add(y, x, y) }},
		{"cross-entropy", 0, 8 * float64(head) * v, func() {
			d.CrossEntropy(compute.CrossEntropy{Logits: logits, Losses: rowsOf.Slice(0, head), Targets: tokens.Slice(0, head), Rows: head, V: s.vocab, Grad: true, Scale: 1})
		}},
		{"adamw", 0, 28 * n, func() {
			d.AdamW(compute.AdamW{Params: y, Grads: x, M: qkv.Slice(0, rows*w), V: wide.Slice(0, rows*w), LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, GradScale: 1, Step: 1})
		}},
	} {
		seconds, err := medianTime(ctx, d, o.run)
		if err != nil {
			return nil, fmt.Errorf("time %s: %w", o.name, err)
		}
		t := timing{Operation: o.name, Seconds: seconds, Rate: o.flops / seconds, Bound: "FLOP/s"}
		best := peak
		if o.flops == 0 {
			t.Rate, t.Bound, best = o.bytes/seconds, "B/s", bandwidth
		}
		if best > 0 {
			t.Share = t.Rate / best
		}
		out = append(out, t)
	}
	return out, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// medianTime times runs of an operation, each to its end.
func medianTime(ctx context.Context, d compute.Device, run func()) (float64, error) {
	var times []float64
	for i := range warmRuns + timedRuns {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		run()
		if err := d.Sync(); err != nil {
			return 0, err
		}
		if i >= warmRuns {
			times = append(times, max(time.Since(start).Seconds(), 1e-9))
		}
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// timingTable draws timings for people, nothing when there are none.
func timingTable(timings []timing) string {
	if len(timings) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-8s %-5s %-26s %12s %16s %10s\n", "card", "", "operation", "ms", "rate", "of peak")
	for _, t := range timings {
		share := "–"
		if t.Share > 0 {
			share = fmt.Sprintf("%.0f %%", 100*t.Share)
		}
		value := rate(t.Rate/1e12) + " TFLOP/s"
		if t.Bound == "B/s" {
			value = rate(t.Rate/1e9) + " GB/s"
		}
		fmt.Fprintf(&b, "%-8s %-5s %-26s %12s %16s %10s\n", t.Card, t.Precision, t.Operation, rate(1e3*t.Seconds), value, share)
	}
	return b.String() + "medians; the peak is what the card's stated clocks and cores make\n"
}
