package recipe

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"dunlin/data"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/store"
	"dunlin/wire"
)

// specOf is the RunSpec of a small run by a recipe, with what changes say otherwise.
func specOf(t *testing.T, r Recipe, changes ...func(*Run)) (*wire.RunSpec, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("func f(x int) int { return x + 1 }\n", 4000)), 0o600); err != nil {
		t.Fatal(err)
	}
	run := DefaultRun()
	run.Recipe, run.Name, run.TokenBudget = r, "test", 1<<20
	var err error
	if run.Model, err = model.Preset("pico"); err != nil {
		t.Fatal(err)
	}
	if run.Corpus, err = data.Open(path); err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(&run)
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signed, err := run.Spec(key, []wire.PeerID{wire.PeerIDOf(key)}, func(b []byte) (store.Hash, error) { return store.HashLeaf(b), nil })
	if err != nil {
		return nil, err
	}
	return signed.Open(wire.HashLeaf(signed.Spec))
}

// TestRecipes: each recipe makes a run that is allowed, and each has its own name.
func TestRecipes(t *testing.T) {
	seen := map[wire.Hash]string{}
	for _, name := range Names() {
		r, err := Named(name)
		if err != nil || r.Name != name {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		spec, err := specOf(t, r)
		if err != nil || spec.Row() == nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if other, twice := seen[spec.ID()]; twice {
			t.Errorf("%s is %s", name, other)
		}
		seen[spec.ID()] = name
	}
	if _, err := Named("best"); err == nil || !strings.Contains(err.Error(), "choose one of default") {
		t.Errorf("an unknown recipe: %v", err)
	}
}

// TestRecipeReachesTheRun: every field of a recipe changes the RunSpec.
func TestRecipeReachesTheRun(t *testing.T) {
	base := All()[1]
	base.Contribution, base.Result, base.Decay, base.OwnerDecay, base.OuterLR, base.Momentum = "int8", "int8", 1, 1, 1, 0.5
	want, err := specOf(t, base)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(*Recipe){
		"Contribution": func(r *Recipe) { r.Contribution = "int4" }, "Result": func(r *Recipe) { r.Result = "int4" },
		"Decay": func(r *Recipe) { r.Decay = 0.9 }, "OwnerDecay": func(r *Recipe) { r.OwnerDecay = 0.9 },
		"Merge": func(r *Recipe) { r.Merge = "reset" }, "OuterLR": func(r *Recipe) { r.OuterLR = 0.5 },
		"Overlap":  func(r *Recipe) { r.Overlap, r.OwnerDecay = wire.OverlapRound, 0 },
		"Alpha":    func(r *Recipe) { r.Merge, r.Alpha, r.Decay, r.OwnerDecay = "lerp", 0.5, 0, 0 },
		"Momentum": func(r *Recipe) { r.Momentum = 0.4 }, "Inner": func(r *Recipe) { r.Inner = wire.InnerMuon },
		"LR": func(r *Recipe) { r.LR = 1e-3 }, "H": func(r *Recipe) { r.H = 7 }, "Fragments": func(r *Recipe) { r.Fragments = 1 },
	}
	for i := range reflect.TypeFor[Recipe]().NumField() {
		name := reflect.TypeFor[Recipe]().Field(i).Name
		if name == "Name" {
			continue
		}
		change := changes[name]
		if change == nil {
			t.Errorf("field %s is not covered here", name)
			continue
		}
		r := base
		change(&r)
		got, err := specOf(t, r)
		if err != nil || got.ID() == want.ID() {
			t.Errorf("%s does not reach the run: %v", name, err)
		}
	}
}

// TestInnerOptimizerOfARun: a spec's kind decides what makes a worker's steps, with the
// ramp of a joiner.
func TestInnerOptimizerOfARun(t *testing.T) {
	r := All()[0]
	for _, kind := range []string{wire.InnerAdamW, wire.InnerMuon} {
		r.Inner = kind
		spec, err := specOf(t, r)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := Trainer(spec, true)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Optimizer().Name() != kind || !cfg.AdamW.Joiner {
			t.Errorf("%s: steps by %s, a joiner's: %t", kind, cfg.Optimizer().Name(), cfg.AdamW.Joiner)
		}
		if m, ok := cfg.Optimizer().(optimizer.MuonConfig); kind == wire.InnerMuon && (!ok || !m.AdamW.Joiner || m.Momentum < 0.94) {
			t.Errorf("muon: %+v", m)
		}
	}
	spec, _ := specOf(t, r)
	for name, bad := range map[string]wire.InnerSpec{"kind": {Kind: "sgd"}, "momentum without muon": {Momentum: wire.FloatOf(0.9)}} {
		broken := *spec
		broken.Inner.Kind, broken.Inner.Momentum = bad.Kind, bad.Momentum
		if broken.Validate() == nil {
			t.Errorf("a bad %s passed", name)
		}
	}
}

// TestStagedRecipes: peers that step together leave the outer step nothing to do, and each recipe stays one that is allowed.
func TestStagedRecipes(t *testing.T) {
	for _, r := range All() {
		for _, together := range []bool{false, true} {
			s := r.Staged(together)
			if _, err := specOf(t, s); err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
			if plain := s.OuterLR == 1 && s.Momentum == 0; together && !plain || plain && !together && r.OuterLR != 1 {
				t.Errorf("%s, together %v: outer rate %v, momentum %v", r.Name, together, s.OuterLR, s.Momentum)
			}
		}
	}
}

func TestSmallModelsHaveOneFragment(t *testing.T) {
	r := Recipe{Fragments: 3}
	for parameters, want := range map[int]int{1: 1, 840_000: 1, 1_999_999: 1, 2_000_000: 2, 3_300_000: 3, 124_000_000: 3} {
		if got := r.FragmentsOf(parameters); got != want {
			t.Errorf("%d parameters: %d fragments, want %d", parameters, got, want)
		}
	}
}

// bpeRun is a run whose text is tokens of a vocabulary learned from it.
func bpeRun(t *testing.T) Run {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text.txt")
	text := []byte(strings.Repeat("func f(x int) int { return x + 1 }\n", 4000))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := data.TrainBPE(t.Context(), data.TrainBPEConfig{Inputs: []string{path}, Format: "text", Field: "text", Vocab: 300})
	if err != nil {
		t.Fatal(err)
	}
	run := DefaultRun()
	run.Name, run.TokenBudget = "test", 1<<20
	if run.Model, err = model.Preset("pico"); err != nil {
		t.Fatal(err)
	}
	run.Model.Vocab = tokens.Vocab()
	var packed []byte
	for _, token := range tokens.Encoder()(nil, text) {
		packed = append(packed, byte(token), byte(token>>8))
	}
	run.Corpus = &data.Corpus{Train: packed, HeldOut: packed[:2000], Tokenizer: tokens, Width: 2}
	return run
}

// A run's tokens and their vocabulary come out of its shards as they went in.
func TestRunOnTokens(t *testing.T) {
	run, s := bpeRun(t), store.NewMemory(0)
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signed, err := run.Spec(key, []wire.PeerID{wire.PeerIDOf(key)}, s.Put)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := signed.Open(wire.HashLeaf(signed.Spec))
	if err != nil {
		t.Fatal(err)
	}
	read := func(shards []wire.ShardSpec, width int) []byte {
		t.Helper()
		var names []store.Hash
		sum := uint64(0)
		for _, shard := range shards {
			names, sum = append(names, shard.Hash), sum+shard.Tokens
		}
		b, err := data.OpenShards(names, width, func(h store.Hash) ([]byte, error) { return s.Get(h, data.MaxShard) })
		if err != nil || sum != uint64(len(b)/width) {
			t.Fatalf("%d bytes where the spec says %d tokens: %v", len(b), sum, err)
		}
		return b
	}
	tokenizer, err := Tokenizer(spec, read(spec.Data.Vocabulary, 1))
	if err != nil || tokenizer.Vocab() != run.Model.Vocab || tokenizer.EndOfText() != run.Corpus.Tokenizer.EndOfText() {
		t.Fatalf("tokenizer %v, %v", tokenizer, err)
	}
	packed := read(spec.Data.Train, spec.Data.TokenBytes())
	windows, err := Windows(spec, packed)
	if err != nil || uint64(windows.Len()) != spec.Data.Windows {
		t.Fatalf("%d windows, %v", windows.Len(), err)
	}
	tokens := make([]int32, 40)
	if err := Text(spec, packed).Read(tokens, 0); err != nil {
		t.Fatal(err)
	}
	if text, err := tokenizer.Decode(nil, tokens); err != nil || !strings.HasPrefix(string(text), "func f(x int) int { return x + 1 }\nfunc") {
		t.Errorf("the text begins %q, %v", text, err)
	}
	if _, err := Tokenizer(spec, []byte("{}")); err == nil {
		t.Error("a vocabulary of nothing was read")
	}
	if len(spec.Data.Shards()) != len(spec.Data.Train)+len(spec.Data.HeldOut)+1 {
		t.Errorf("%d shards", len(spec.Data.Shards()))
	}
}

// What does not fit is refused by who makes the run and by who reads its spec.
func TestTokensThatDoNotFit(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	name := func(b []byte) (store.Hash, error) { return store.HashLeaf(b), nil }
	for _, vocab := range []int{256, 1000} {
		run := bpeRun(t)
		run.Model.Vocab = vocab
		if _, err := run.Spec(key, []wire.PeerID{wire.PeerIDOf(key)}, name); err == nil || !strings.Contains(err.Error(), "vocabulary") {
			t.Errorf("a model of %d tokens: %v", vocab, err)
		}
	}
	signed, err := bpeRun(t).Spec(key, []wire.PeerID{wire.PeerIDOf(key)}, name)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*wire.DataSpec){
		"bytes with a vocabulary": func(d *wire.DataSpec) { d.Tokenizer = wire.TokensByte },
		"no vocabulary":           func(d *wire.DataSpec) { d.Vocabulary = nil },
		"a huge one":              func(d *wire.DataSpec) { d.Vocabulary = make([]wire.ShardSpec, 65) },
		"tokens of three bytes":   func(d *wire.DataSpec) { d.Width = 3 },
		"another tokenizer":       func(d *wire.DataSpec) { d.Tokenizer = "words" },
		"an end beyond all":       func(d *wire.DataSpec) { d.EndOfText = 1 << 20 },
	} {
		spec, err := signed.Open(wire.HashLeaf(signed.Spec))
		if err != nil {
			t.Fatal(err)
		}
		change(&spec.Data)
		if err := spec.Validate(); err == nil {
			t.Errorf("%s: allowed", what)
		}
	}
}
