package world

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/compute/cpu"
	"dunlin/data"
	"dunlin/folder"
	"dunlin/ledger"
	"dunlin/peer"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/wire"
)

// prepared is the text of corpus as tokens of a vocabulary that was learned from it.
func prepared(t *testing.T) *data.Corpus {
	t.Helper()
	dir, plain := scratch(t), corpus(t, 4000)
	text := filepath.Join(dir, "text")
	if err := os.Mkdir(text, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, part := range strings.SplitAfterN(string(plain.Train), "\n", 30) { // documents
		if err := os.WriteFile(filepath.Join(text, string(rune('A'+i))+".txt"), []byte(strings.Repeat(part, 1+80*max(0, 29-i)/29)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tokens, err := data.TrainBPE(t.Context(), data.TrainBPEConfig{Inputs: []string{text}, Format: "auto", Field: "text", Vocab: 300})
	if err != nil {
		t.Fatal(err)
	}
	cfg := data.PrepareConfig{
		Inputs: []string{text}, Out: filepath.Join(dir, "out"), Tokenizer: tokens, Format: "auto", Field: "text", Dtype: data.Uint16, HeldOut: 0.1, FileSize: 5000, Threads: 1,
	}
	if _, err := data.Prepare(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	c, err := data.OpenWhole(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLoopbackSwarmTrainsOnTokens: a run whose text is tokens of a byte-pair vocabulary learns, its coordinator shows text,
// and from the folder of a worker, who has the vocabulary from others, the model comes out with it.
func TestLoopbackSwarmTrainsOnTokens(t *testing.T) {
	w := newWorld(t, nil, func(r *recipe.Run) {
		r.TokenBudget, r.Checkpoint, r.Corpus = 60_000, 8, prepared(t)
		r.Model.Vocab = r.Corpus.Coder().Vocab()
	})
	if w.spec.Data.Tokenizer != wire.TokensBPE || len(w.spec.Data.Vocabulary) != 1 || w.spec.Data.TokenBytes() != 2 {
		t.Fatalf("data %+v", w.spec.Data)
	}
	device, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	w.start(place{change: func(c *peer.Config) { c.Judge, c.HeldOutWindows = device, 16 }})
	var workers []*node
	dirs := []string{scratch(t), scratch(t)}
	for i, dir := range dirs {
		workers = append(workers, w.start(place{key: byte(2 + i), dir: dir, engine: cpuEngine(t)}))
	}
	for i, n := range workers {
		if err := n.finish(); err != nil {
			t.Errorf("worker %d: %v", i, err)
		}
	}
	s := w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
	w.lead.halt()
	if l := s.Learning; l.HeldOut == nil || l.Unigram == nil || *l.HeldOut >= *l.Unigram {
		t.Errorf("learned %+v", l)
	}
	if len(s.Samples) == 0 || !strings.Contains(s.Samples[0].Prompt, "(x int) int") {
		t.Errorf("samples %+v", s.Samples)
	}
	l, err := ledger.Open(filepath.Join(dirs[0], "ledger.db"), ledger.RulesOf(w.spec, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	state, height, err := folder.Past(dirs[0], w.spec, wire.AllStages, l, 0)
	if err != nil {
		t.Fatal(err)
	}
	vocabulary, err := folder.Vocabulary(dirs[0], w.spec)
	if err != nil {
		t.Fatal(err)
	}
	model, err := folder.ModelAt(state, height, vocabulary)
	if err != nil || string(model.Tokenizer) != string(w.run.Corpus.Tokenizer.File()) {
		t.Errorf("the model has a tokenizer of %d bytes, the run's has %d; %v", len(model.Tokenizer), len(w.run.Corpus.Tokenizer.File()), err)
	}
}
