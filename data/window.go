package data

import (
	"fmt"
	"sort"
)

// Tokens is a sequence of tokens, in memory or in files.
type Tokens interface {
	Len() int
	// Read fills dst with the tokens from at on; at+len(dst) is at most Len.
	Read(dst []int32, at int) error
}

// ByteTokens is text whose tokens are its bytes.
type ByteTokens []byte

// Len implements Tokens.
func (b ByteTokens) Len() int { return len(b) }

// Read implements Tokens.
func (b ByteTokens) Read(dst []int32, at int) error {
	if at < 0 || at > len(b)-len(dst) {
		return fmt.Errorf("read %d tokens at %d of %d", len(dst), at, len(b))
	}
	for i, c := range b[at : at+len(dst)] {
		dst[i] = int32(c)
	}
	return nil
}

// TokenList is tokens in memory.
type TokenList []int32

// Len implements Tokens.
func (l TokenList) Len() int { return len(l) }

// Read implements Tokens.
func (l TokenList) Read(dst []int32, at int) error {
	if at < 0 || at > len(l)-len(dst) {
		return fmt.Errorf("read %d tokens at %d of %d", len(dst), at, len(l))
	}
	copy(dst, l[at:])
	return nil
}

// Windows cuts tokens into training sequences: window i is
// tokens[i*T : i*T+T+1], T inputs and the T targets one place on, so every
// token but the first is a target once. Over several sets of tokens the windows
// of one follow those of the other, and none crosses. It is a view; the tokens
// are not copied and must not change.
type Windows struct {
	sets   []windowSet
	length int // T
	n      int
}

type windowSet struct {
	tokens Tokens
	first  int // its first window
}

// WindowsOf returns the windows of T = length tokens over sets, at least one in
// each, or says how many tokens are missing.
func WindowsOf(length int, sets ...Tokens) (Windows, error) {
	if length < 1 {
		return Windows{}, fmt.Errorf("cut windows: length %d, at least 1 is needed", length)
	}
	if len(sets) == 0 {
		return Windows{}, fmt.Errorf("cut windows: no tokens")
	}
	w := Windows{length: length}
	for _, s := range sets {
		if s.Len() < length+1 {
			return Windows{}, fmt.Errorf("cut windows: %d tokens, one window of the model's context takes %d: add text or choose a shorter context",
				s.Len(), length+1)
		}
		w.sets = append(w.sets, windowSet{tokens: s, first: w.n})
		w.n += (s.Len() - 1) / length
	}
	return w, nil
}

// Len returns the number of windows.
func (w Windows) Len() int { return w.n }

// Length returns T, the number of targets of a window.
func (w Windows) Length() int { return w.length }

// Counts returns the number of windows of each set.
func (w Windows) Counts() []int {
	counts := make([]int, len(w.sets))
	for k := range w.sets {
		counts[k] = w.end(k) - w.sets[k].first
	}
	return counts
}

// end returns the window behind the last of set k.
func (w Windows) end(k int) int {
	if k+1 < len(w.sets) {
		return w.sets[k+1].first
	}
	return w.n
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
	for _, i := range indices {
		if i < 0 || i >= w.n {
			return fmt.Errorf("fill batch: window %d, there are %d", i, w.n)
		}
	}
	for k, i := range indices {
		set := w.sets[0]
		if len(w.sets) > 1 {
			set = w.sets[sort.Search(len(w.sets), func(k int) bool { return w.end(k) > i })]
		}
		at := (i - set.first) * w.length
		in, out := inputs[k*w.length:][:w.length], targets[k*w.length:][:w.length]
		if err := set.tokens.Read(in, at); err != nil {
			return fmt.Errorf("fill batch: %w", err)
		}
		copy(out, in[1:])
		if err := set.tokens.Read(out[w.length-1:], at+w.length); err != nil {
			return fmt.Errorf("fill batch: %w", err)
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
