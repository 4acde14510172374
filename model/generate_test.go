package model

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func generate(t *testing.T, m *Model, prompt []int32, n int, s Sampling) []int32 {
	t.Helper()
	var tokens []int32
	err := m.Generate(context.Background(), prompt, n, s, func(token int32) bool {
		tokens = append(tokens, token)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// TestGenerateMatchesForward compares greedy generation, which keeps keys and
// values, with a whole forward pass for every token, past a full context.
func TestGenerateMatchesForward(t *testing.T) { each(t, generateMatchesForward) }

func generateMatchesForward(t *testing.T, cfg Config) {
	for _, context := range []int{1, 2, 5, 6} {
		cfg.Context = context
		m, whole := newModel(t, cfg, 2, 1), newModel(t, cfg, 1, 1)
		disturb(t, m, 2)
		disturb(t, whole, 2)
		window := randomTokens(rand.New(rand.NewPCG(2, uint64(context))), 8, cfg.Vocab)
		got := generate(t, m, window, 20, Sampling{})
		window = window[max(0, len(window)-context):]
		for i, token := range got {
			logits := make([]float32, len(window)*cfg.Vocab)
			if err := whole.Logits(logits, window, 1); err != nil {
				t.Fatal(err)
			}
			last := logits[len(logits)-cfg.Vocab:]
			if want := int32(slices.Index(last, slices.Max(last))); token != want {
				t.Fatalf("context %d: token %d is %d, a forward pass gives %d", context, i, token, want)
			}
			if len(window) == context {
				window = window[(context+1)/2:]
			}
			window = append(slices.Clone(window), token)
		}
	}
}

func TestSampling(t *testing.T) {
	draws := func(s Sampling, scores []float32, n int) map[int32]int {
		t.Helper()
		sampler := newSampler(s, len(scores))
		copy(sampler.scores, scores)
		counts := map[int32]int{}
		for range n {
			token, err := sampler.draw()
			if err != nil {
				t.Fatal(err)
			}
			counts[token]++
		}
		return counts
	}
	const n = 20000
	scores := []float32{0, 1.3862944, 0, 0.6931472} // odds 1 : 4 : 1 : 2
	for name, c := range map[string]struct {
		s    Sampling
		want []float64
	}{
		"greedy":        {Sampling{}, []float64{0, 1, 0, 0}},
		"plain":         {Sampling{Temperature: 1, Seed: 1}, []float64{1. / 8, 4. / 8, 1. / 8, 2. / 8}},
		"cold":          {Sampling{Temperature: 0.5, Seed: 2}, []float64{1. / 22, 16. / 22, 1. / 22, 4. / 22}},
		"top-k":         {Sampling{Temperature: 1, TopK: 2, Seed: 3}, []float64{0, 4. / 6, 0, 2. / 6}},
		"top-p":         {Sampling{Temperature: 1, TopP: 0.74, Seed: 4}, []float64{0, 4. / 6, 0, 2. / 6}},
		"top-p small":   {Sampling{Temperature: 1, TopP: 0.01, Seed: 5}, []float64{0, 1, 0, 0}},
		"first tokens":  {Sampling{Temperature: 1, Tokens: 3, Seed: 7}, []float64{1. / 6, 4. / 6, 1. / 6, 0}},
		"top-k of more": {Sampling{Temperature: 1, TopK: 9, TopP: 1, Seed: 6}, []float64{1. / 8, 4. / 8, 1. / 8, 2. / 8}},
	} {
		counts := draws(c.s, scores, n)
		for token, want := range c.want {
			got := float64(counts[int32(token)]) / n
			if want == 0 && got != 0 || got < want-0.02 || got > want+0.02 {
				t.Errorf("%s (seed %d): token %d drawn with frequency %.3f, want %.3f", name, c.s.Seed, token, got, want)
			}
		}
	}
	if got := draws(Sampling{}, []float32{1, 3, 3}, 1); got[1] != 1 {
		t.Errorf("greedy among equals draws %v, want the lower number", got)
	}
}

func TestGenerateRepeatsAndStops(t *testing.T) {
	m := newModel(t, tiny, 1, 1)
	disturb(t, m, 3)
	s := Sampling{Temperature: 1, Seed: 7}
	first := generate(t, m, []int32{1}, 30, s)
	if again := generate(t, m, []int32{1}, 30, s); !slices.Equal(first, again) {
		t.Errorf("the same seed says %v, then %v", first, again)
	}
	s.Seed++
	if other := generate(t, m, []int32{1}, 30, s); slices.Equal(first, other) {
		t.Errorf("another seed says the same %v", other)
	}
	count := 0
	err := m.Generate(context.Background(), []int32{1}, 30, s, func(int32) bool {
		count++
		return count < 3
	})
	if err != nil || count != 3 {
		t.Errorf("stopped by yield after %d tokens: %v", count, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	count = 0
	err = m.Generate(ctx, []int32{1}, 30, s, func(int32) bool {
		count++
		cancel()
		return true
	})
	if !errors.Is(err, context.Canceled) || count != 1 {
		t.Errorf("stopped by context after %d tokens: %v", count, err)
	}
}

func TestGenerateMistakes(t *testing.T) {
	m := newModel(t, tiny, 1, 1)
	m.Init(1)
	for name, c := range map[string]struct {
		prompt []int32
		n      int
		s      Sampling
	}{
		"empty prompt":  {nil, 1, Sampling{}},
		"unknown token": {[]int32{11}, 1, Sampling{}},
		"negative n":    {[]int32{1}, -1, Sampling{}},
		"temperature":   {[]int32{1}, 1, Sampling{Temperature: -1}},
		"top-k":         {[]int32{1}, 1, Sampling{TopK: -1}},
		"tokens":        {[]int32{1}, 1, Sampling{Tokens: -1}},
		"top-p":         {[]int32{1}, 1, Sampling{TopP: 1.5}},
	} {
		if err := m.Generate(context.Background(), c.prompt, c.n, c.s, func(int32) bool { return true }); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}
