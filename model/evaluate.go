package model

import (
	"context"
	"errors"
	"fmt"
)

// ErrNotFinite is wrapped when a loss or a score is infinite or not a number:
// the parameters have diverged or are damaged.
var ErrNotFinite = errors.New("not finite: the parameters have diverged or are damaged")

// Windows are where Evaluate reads: numbered training sequences of one length.
type Windows interface {
	// Length returns the number of inputs, and targets, of a window.
	Length() int
	// Batch writes the inputs and the targets of the windows named by indices,
	// one window after the other.
	Batch(inputs, targets []int32, indices ...int) error
}

// Evaluate returns the mean loss in nats a token over the windows named by
// indices, MaxBatch at a time. It stops early with ctx's error.
func (m *Model) Evaluate(ctx context.Context, windows Windows, indices []int) (float64, error) {
	if len(indices) == 0 {
		return 0, errors.New("evaluate: no windows")
	}
	n := windows.Length()
	if n < 1 || n > m.cfg.Context {
		return 0, fmt.Errorf("evaluate: windows of %d tokens, the model takes 1 to %d", n, m.cfg.Context)
	}
	inputs, targets := make([]int32, m.room.Batch*n), make([]int32, m.room.Batch*n)
	var sum float64
	for at := 0; at < len(indices); at += m.room.Batch {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		some := indices[at:min(len(indices), at+m.room.Batch)]
		in, out := inputs[:len(some)*n], targets[:len(some)*n]
		if err := windows.Batch(in, out, some...); err != nil {
			return 0, fmt.Errorf("evaluate: %w", err)
		}
		loss, err := m.Loss(in, out, len(some))
		if err != nil {
			return 0, fmt.Errorf("evaluate: %w", err)
		}
		sum += float64(loss) * float64(len(some))
	}
	return sum / float64(len(indices)), nil
}
