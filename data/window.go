package data

import "fmt"

// Windows cuts tokens into training sequences: window i is
// tokens[i*T : i*T+T+1], T inputs and the T targets one place on, so every
// token but the first is a target once. It is a view; the tokens are not
// copied and must not change.
type Windows struct {
	tokens []byte
	length int // T
}

// NewWindows returns the windows of T = length tokens, at least one, or says
// how many tokens are missing.
func NewWindows(tokens []byte, length int) (Windows, error) {
	if length < 1 {
		return Windows{}, fmt.Errorf("cut windows: length %d, at least 1 is needed", length)
	}
	if len(tokens) < length+1 {
		return Windows{}, fmt.Errorf("cut windows: %d tokens, one window of the model's context takes %d: add text or choose a shorter context",
			len(tokens), length+1)
	}
	return Windows{tokens: tokens, length: length}, nil
}

// Len returns the number of windows.
func (w Windows) Len() int { return (len(w.tokens) - 1) / w.length }

// Length returns T, the number of targets of a window.
func (w Windows) Length() int { return w.length }

// At returns the T+1 tokens of window i in [0, Len), not a copy.
func (w Windows) At(i int) []byte {
	at := i * w.length
	return w.tokens[at : at+w.length+1 : at+w.length+1]
}

// Batch writes the inputs and targets of the windows named by indices, one
// after the other: len(indices)*T values each. It fails, having written
// nothing, when a buffer is of another length or an index outside of [0, Len).
func (w Windows) Batch(inputs, targets []int32, indices ...int) error {
	want := len(indices) * w.length
	if len(inputs) != want || len(targets) != want {
		return fmt.Errorf("fill batch: buffers of %d inputs and %d targets, %d windows of %d take %d",
			len(inputs), len(targets), len(indices), w.length, want)
	}
	n := w.Len()
	for _, i := range indices {
		if i < 0 || i >= n {
			return fmt.Errorf("fill batch: window %d, there are %d", i, n)
		}
	}
	for k, i := range indices {
		window := w.At(i)
		in, out := inputs[k*w.length:][:w.length], targets[k*w.length:][:w.length]
		for j := range in {
			in[j] = int32(window[j])
			out[j] = int32(window[j+1])
		}
	}
	return nil
}

// Spread returns at most n window numbers at even distances over all windows:
// the ones to evaluate on when all would take too long.
func (w Windows) Spread(n int) []int {
	n = min(max(n, 0), w.Len())
	indices := make([]int, n)
	for k := range indices {
		indices[k] = k * w.Len() / n
	}
	return indices
}
