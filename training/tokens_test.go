package training

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/checkpoint"
	"dunlin/compute/cpu/cputest"
	"dunlin/data"
	"dunlin/model"
)

// prepared learns a tokenizer from the tests' nonsense and prepares it twice, so that there is a mixture.
func prepared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "words.txt")
	if err := os.WriteFile(file, words().Train, 0o600); err != nil {
		t.Fatal(err)
	}
	tokenizer, err := data.TrainBPE(t.Context(), data.TrainBPEConfig{Inputs: []string{file}, Format: "text", Field: "text", Vocab: 300})
	if err != nil {
		t.Fatal(err)
	}
	spec := ""
	for _, name := range []string{"a", "b"} {
		out := filepath.Join(dir, name)
		if _, err := data.Prepare(t.Context(), data.PrepareConfig{
			Inputs: []string{file}, Out: out, Tokenizer: tokenizer, Format: "auto", Field: "text", Dtype: "auto", HeldOut: 0.1, FileSize: 1000,
		}); err != nil {
			t.Fatal(err)
		}
		spec += "," + out
	}
	return spec[1:]
}

func tokenConfig(t *testing.T, spec string, steps int, out string) SoloConfig {
	t.Helper()
	from, err := data.OpenDataset(spec, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = from.Close() })
	cfg := soloConfig(t, steps, out)
	cfg.Data, cfg.Trainer.Model.Vocab = from, from.Tokenizer.Vocab()
	return cfg
}

// A model of tokens learns, goes on bit for bit, and is opened with the tokenizer that is kept beside it.
func TestSoloTrainsOnPreparedTokens(t *testing.T) {
	spec := prepared(t)
	dir := t.TempDir()
	whole := train(t, tokenConfig(t, spec, 40, filepath.Join(dir, "whole")))
	if !(whole.ValLoss < whole.Baselines.Unigram) {
		t.Errorf("held-out loss %.3f, unigram %.3f", whole.ValLoss, whole.Baselines.Unigram)
	}
	parts := filepath.Join(dir, "parts")
	short := tokenConfig(t, spec, 40, parts)
	short.SaveEvery = 20
	stopAt(t, short, 20)
	if again := train(t, tokenConfig(t, spec, 40, parts)); again.ResumedAt != 20 || again.ValLoss != whole.ValLoss {
		t.Errorf("went on from %d to %v, want %v", again.ResumedAt, again.ValLoss, whole.ValLoss)
	}
	other := tokenConfig(t, strings.Replace(spec, ",", "@2,", 1), 40, parts)
	if _, err := NewSolo(cputest.Device(t), other); err == nil || !strings.Contains(err.Error(), "another data") {
		t.Errorf("went on with another mixture: %v", err)
	}

	saved, err := OpenSaved(cputest.Device(t), parts, Newest, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	text := words().HeldOut[:1500]
	e, err := saved.Evaluate(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	tokens := saved.Tokenizer.Encoder()(nil, text)
	first, err := saved.Tokenizer.Decode(nil, tokens[:1])
	if err != nil {
		t.Fatal(err)
	}
	if want := e.Loss * float64(e.Tokens) / math.Ln2 / float64(len(text)-len(first)); e.Tokens != len(tokens)-1 || math.Abs(e.BitsPerByte-want) > 1e-9 {
		t.Errorf("%+v, want %v bits a byte over %d tokens", e, want, len(tokens)-1)
	}
	for _, prompt := range []string{"", "the "} {
		n := 0
		if err := saved.Sample(t.Context(), []byte(prompt), 30, model.Sampling{Temperature: 1, Seed: 2}, func(byte) bool { n++; return true }); err != nil || n == 0 || n > 30 {
			t.Errorf("sampled %d bytes, %v", n, err)
		}
	}
}

// stopAt trains and is stopped after so many steps.
func stopAt(t *testing.T, cfg SoloConfig, step int) {
	t.Helper()
	s, err := NewSolo(cputest.Device(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range step {
		if _, err := s.next(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
}

func TestCheckpointsSayWhichTokenEndsAText(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	cfg := tokenConfig(t, prepared(t), 1, out)
	train(t, cfg)
	c, err := checkpoint.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	var ids struct {
		Begin int32 `json:"bos_token_id"`
		End   int32 `json:"eos_token_id"`
		Vocab int   `json:"vocab_size"`
	}
	if err := json.Unmarshal(c.Config, &ids); err != nil {
		t.Fatal(err)
	}
	if want := cfg.Data.Tokenizer.EndOfText(); ids.Begin != want || ids.End != want || ids.Vocab != cfg.Data.Tokenizer.Vocab() {
		t.Errorf("%+v, want %d", ids, want)
	}
	if string(c.Tokenizer) != string(cfg.Data.Tokenizer.File()) {
		t.Error("another tokenizer is kept")
	}
	// Without its tokenizer such a model is numbers only.
	c.Tokenizer = nil
	if _, err := tokenizerOf(c, ids.Vocab); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("%v", err)
	}
	c.Tokenizer = cfg.Data.Tokenizer.File()
	if _, err := tokenizerOf(c, 100); err == nil || !strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("%v", err)
	}
}

func TestVocabulariesOfModelAndDataMustAgree(t *testing.T) {
	cfg := tokenConfig(t, prepared(t), 1, "unused")
	n := cfg.Data.Tokenizer.Vocab()
	for vocab, ok := range map[int]bool{n - 1: false, n: true, n + 127: true, n + 128: false} {
		cfg.Trainer.Model.Vocab = vocab
		if err := cfg.Validate(); (err == nil) != ok {
			t.Errorf("a vocabulary of %d for %d tokens: %v", vocab, n, err)
		}
	}
}
