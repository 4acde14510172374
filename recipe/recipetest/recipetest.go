package recipetest

import (
	"crypto/ed25519"
	"testing"

	"dunlin/data"
	"dunlin/model"
	"dunlin/recipe"
	"dunlin/store"
	"dunlin/wire"
)

// Spec is the RunSpec of a run of the default recipe with a tiny model, and its training text. Change says what else the
// test wants of the run.
func Spec(t testing.TB, change func(*recipe.Run)) (*wire.RunSpec, []byte) {
	t.Helper()
	text := make([]byte, 4000)
	for i := range text {
		text[i] = byte('a' + i*i%23)
	}
	run := recipe.DefaultRun()
	run.Name, run.TokenBudget = "test", 1<<20
	run.Model = model.Config{Layers: 5, Heads: 2, Width: 16, Context: 8, Vocab: data.Vocabulary}
	run.Corpus = &data.Corpus{Train: text, HeldOut: text[:100]}
	change(&run)
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signed, err := run.Spec(key, []wire.PeerID{wire.PeerIDOf(key)}, func(b []byte) (store.Hash, error) { return store.HashLeaf(b), nil })
	if err != nil {
		t.Fatal(err)
	}
	spec, err := signed.Open(wire.HashLeaf(signed.Spec))
	if err != nil {
		t.Fatal(err)
	}
	return spec, run.Corpus.Train
}

// Fill sets live weights, in the order of the spec's tensors, to the run's initial ones. Those that are nil stay so.
func Fill(t testing.TB, spec *wire.RunSpec, live [][]float32) {
	t.Helper()
	cfg, err := recipe.Model(spec)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range cfg.Params() {
		if live[i] != nil {
			p.Fill(live[i], spec.Seed)
		}
	}
}
