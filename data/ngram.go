package data

import (
	"fmt"
	"math"
)

// addCount is added to every count, so that a pair never seen costs something
// finite.
const addCount = 0.1

// Baselines are the losses, in nats a token, of models that only count.
type Baselines struct {
	Unigram float64 // knows how often a token occurs
	Bigram  float64 // knows how often it follows the token before
}

// NGram counts the tokens of train (add-0.1 smoothed) and returns the mean loss
// on the targets of the windows of heldOut named by indices: the figures a
// model evaluated on the same windows has to beat.
func NGram(train []byte, heldOut Windows, indices []int) (Baselines, error) {
	if len(train) < 2 || len(indices) == 0 {
		return Baselines{}, fmt.Errorf("count n-grams: %d training tokens and %d windows, at least 2 and 1 are needed", len(train), len(indices))
	}
	var single [Vocabulary]int
	pairs := new([Vocabulary][Vocabulary]int)
	single[train[0]]++
	for i := 1; i < len(train); i++ {
		single[train[i]]++
		pairs[train[i-1]][train[i]]++
	}
	var unigram [Vocabulary]float64
	bigram := new([Vocabulary][Vocabulary]float64)
	smooth(unigram[:], single[:])
	for a := range pairs {
		smooth(bigram[a][:], pairs[a][:])
	}
	var sum Baselines
	tokens := 0
	for _, i := range indices {
		if i < 0 || i >= heldOut.Len() {
			return Baselines{}, fmt.Errorf("count n-grams: window %d, there are %d", i, heldOut.Len())
		}
		w := heldOut.At(i)
		for j := 1; j < len(w); j++ {
			sum.Unigram += unigram[w[j]]
			sum.Bigram += bigram[w[j-1]][w[j]]
		}
		tokens += len(w) - 1
	}
	return Baselines{Unigram: sum.Unigram / float64(tokens), Bigram: sum.Bigram / float64(tokens)}, nil
}

// smooth turns the counts of one context into losses in nats.
func smooth(loss []float64, counts []int) {
	total := 0
	for _, c := range counts {
		total += c
	}
	norm := math.Log(float64(total) + addCount*Vocabulary)
	for t, c := range counts {
		loss[t] = norm - math.Log(float64(c)+addCount)
	}
}
