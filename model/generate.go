package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says how Generate draws the next token.
type Sampling struct {
	// Temperature divides the scores; 0 takes the highest, the lower number
	// among equals. 0 to 100.
	Temperature float64
	// TopK keeps the K highest scores; 0 keeps all.
	TopK int
	// TopP keeps the fewest tokens whose probabilities reach it; 0 or 1 keeps all.
	TopP float64
	// Tokens are drawn from the first so many of the vocabulary, which may be rounded
	// up; 0 is all.
	Tokens int
	Seed   uint64
}

// Validate reports a field outside of its range.
func (s Sampling) Validate() error {
	switch {
	case !(s.Temperature >= 0 && s.Temperature <= 100):
		return fmt.Errorf("sampling temperature %v: allowed are 0 to 100", s.Temperature)
	case s.Tokens < 0:
		return fmt.Errorf("sampling among %d tokens: allowed are 1 and more, or 0 for all", s.Tokens)
	case s.TopK < 0:
		return fmt.Errorf("sampling top-k %d: allowed are 1 and more, or 0 for all", s.TopK)
	case !(s.TopP >= 0 && s.TopP <= 1):
		return fmt.Errorf("sampling top-p %v: allowed are 0 to 1", s.TopP)
	}
	return nil
}

// Generate continues prompt, of which the last Context tokens count, by n
// tokens and hands each to yield until that returns false. Keys and values of
// earlier positions are kept; when the context is full, its second half
// becomes the prompt of a new one. It overwrites the model's activations.
// The same seed on the same device gives the same tokens.
func (m *Model) Generate(ctx context.Context, prompt []int32, n int, s Sampling, yield func(token int32) bool) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if m.room.kept(0) == KeptInput {
		return errors.New("generate: this model does not keep the keys and values of earlier positions: give it more memory")
	}
	if len(prompt) == 0 {
		return errors.New("generate: empty prompt, at least one token is needed")
	}
	if err := m.checkTokens("prompt token", prompt); err != nil {
		return err
	}
	if n < 0 {
		return fmt.Errorf("generate: %d tokens", n)
	}
	window := make([]int32, 0, m.cfg.Context)
	window = append(window, prompt[max(0, len(prompt)-m.cfg.Context):]...)
	sampler := newSampler(s, m.cfg.Vocab)
	done := 0 // positions of window whose keys and values are in the activations
	for range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.dev.UploadInts(m.tokens.Slice(done, len(window)), window[done:])
		m.forward(1, done, len(window))
		m.logits(len(window)-1, len(window))
		if err := m.dev.Download(sampler.scores, m.act.logits); err != nil {
			return fmt.Errorf("read logits: %w", err)
		}
		token, err := sampler.draw()
		if err != nil {
			return err
		}
		if !yield(token) {
			return nil
		}
		done = len(window)
		if len(window) == m.cfg.Context {
			window = append(window[:0], window[(len(window)+1)/2:]...)
			done = 0
		}
		window = append(window, token)
	}
	return nil
}

// sampler draws tokens from scores.
type sampler struct {
	Sampling
	rng    *rand.Rand
	scores []float32 // [V], set before draw
	order  []int32   // tokens that are drawn, highest score first
	p      []float64 // of order's tokens, not normalised
}

func newSampler(s Sampling, vocab int) *sampler {
	drawn := vocab
	if s.Tokens > 0 {
		drawn = min(s.Tokens, vocab)
	}
	return &sampler{
		Sampling: s, rng: rand.New(rand.NewPCG(s.Seed, 0)),
		scores: make([]float32, vocab), order: make([]int32, drawn), p: make([]float64, drawn),
	}
}

func (s *sampler) draw() (int32, error) {
	for i, v := range s.scores[:len(s.order)] {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return 0, fmt.Errorf("score %v of token %d: %w", v, i, ErrNotFinite)
		}
		s.order[i] = int32(i)
	}
	slices.SortFunc(s.order, func(a, b int32) int {
		if s.scores[a] != s.scores[b] {
			if s.scores[a] > s.scores[b] {
				return -1
			}
			return 1
		}
		return int(a - b)
	})
	if s.Temperature == 0 {
		return s.order[0], nil
	}
	kept := s.p
	if s.TopK > 0 && s.TopK < len(kept) {
		kept = kept[:s.TopK]
	}
	highest := float64(s.scores[s.order[0]])
	var sum float64
	for i := range kept {
		kept[i] = math.Exp((float64(s.scores[s.order[i]]) - highest) / s.Temperature)
		sum += kept[i]
	}
	if s.TopP > 0 && s.TopP < 1 {
		var reached float64
		for i, p := range kept {
			reached += p
			if reached >= s.TopP*sum {
				kept, sum = kept[:i+1], reached
				break
			}
		}
	}
	point := s.rng.Float64() * sum
	for i, p := range kept {
		if point -= p; point < 0 {
			return s.order[i], nil
		}
	}
	return s.order[len(kept)-1], nil
}
