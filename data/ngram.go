package data

import (
	"fmt"
	"math"
)

// addCount is added to every count, so that a pair never seen costs something
// finite.
const addCount = 0.1

// maxCounted bounds how many tokens of a training set are counted, its first
// ones: the baselines of more text hardly differ.
const maxCounted = 1 << 27

// Baselines are the losses, in nats a token, of models that only count.
type Baselines struct {
	Unigram float64 // knows how often a token occurs
	Bigram  float64 // knows how often it follows the token before
}

// CountNGrams counts the tokens of the training sets (add-0.1 smoothed, tokens
// below vocab) and returns the mean loss on the targets of the windows of
// heldOut named by indices: the figures a model evaluated on the same windows has
// to beat. It counts those pairs only that these windows hold.
func CountNGrams(train []Tokens, vocab int, heldOut Windows, indices []int) (Baselines, error) {
	n := 0
	for _, t := range train {
		n += t.Len()
	}
	if n < 2 || len(indices) == 0 {
		return Baselines{}, fmt.Errorf("count n-grams: %d training tokens and %d windows, at least 2 and 1 are needed", n, len(indices))
	}
	c := counts{vocab: vocab, single: make([]int, vocab), before: make([]int, vocab), pairs: make(map[uint64]int)}
	if vocab*vocab <= maxDensePairs {
		c.dense = make([]int, vocab*vocab)
	}
	length := heldOut.Length()
	in, out := make([]int32, length*len(indices)), make([]int32, length*len(indices))
	if err := heldOut.Batch(in, out, indices...); err != nil {
		return Baselines{}, fmt.Errorf("count n-grams: %w", err)
	}
	if err := c.want(in, out); err != nil {
		return Baselines{}, err
	}
	for _, t := range train {
		if err := c.count(t); err != nil {
			return Baselines{}, err
		}
	}
	total := 0
	for _, s := range c.single {
		total += s
	}
	var sum Baselines
	for i, b := range out {
		a := in[i]
		sum.Unigram += c.loss(c.single[b], total)
		sum.Bigram += c.loss(c.pair(a, b), c.before[a])
	}
	tokens := float64(len(out))
	return Baselines{Unigram: sum.Unigram / tokens, Bigram: sum.Bigram / tokens}, nil
}

// maxDensePairs is the largest table of pairs; larger vocabularies are counted in
// a map of the pairs that matter.
const maxDensePairs = 1 << 20

type counts struct {
	vocab  int
	single []int // of a token
	before []int // of pairs, by their first token
	dense  []int // of pairs; nil for a large vocabulary
	pairs  map[uint64]int
}

// want notes the pairs that are asked for.
func (c *counts) want(in, out []int32) error {
	for i := range in {
		if a, b := in[i], out[i]; a < 0 || b < 0 || int(a) >= c.vocab || int(b) >= c.vocab {
			return fmt.Errorf("count n-grams: tokens %d and %d of a vocabulary of %d", a, b, c.vocab)
		}
		if c.dense == nil {
			c.pairs[pairKey(in[i], out[i])] = 0
		}
	}
	return nil
}

func (c *counts) count(t Tokens) error {
	buf := make([]int32, 1<<16)
	last := int32(-1)
	end := min(t.Len(), maxCounted)
	for at := 0; at < end; at += len(buf) {
		some := buf[:min(len(buf), end-at)]
		if err := t.Read(some, at); err != nil {
			return fmt.Errorf("count n-grams: %w", err)
		}
		for _, b := range some {
			if b < 0 || int(b) >= c.vocab {
				return fmt.Errorf("count n-grams: token %d of a vocabulary of %d", b, c.vocab)
			}
			c.single[b]++
			if last >= 0 {
				c.add(last, b)
			}
			last = b
		}
	}
	return nil
}

func (c *counts) add(a, b int32) {
	c.before[a]++
	if c.dense != nil {
		c.dense[int(a)*c.vocab+int(b)]++
	} else if n, wanted := c.pairs[pairKey(a, b)]; wanted {
		c.pairs[pairKey(a, b)] = n + 1
	}
}

func (c *counts) pair(a, b int32) int {
	if c.dense != nil {
		return c.dense[int(a)*c.vocab+int(b)]
	}
	return c.pairs[pairKey(a, b)]
}

// loss is that of a token seen count of total times, in nats.
func (c *counts) loss(count, total int) float64 {
	return math.Log(float64(total)+addCount*float64(c.vocab)) - math.Log(float64(count)+addCount)
}
