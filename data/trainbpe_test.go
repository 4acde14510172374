package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func learned(t testing.TB, vocab int, inputs ...string) *BPE {
	t.Helper()
	tok, err := TrainBPE(context.Background(), TrainBPEConfig{Inputs: inputs, Format: "text", Field: "text", Vocab: vocab})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// The golden tokenizer was learned from the same text by Hugging Face's trainer.
func TestLearnedMergesAreThoseOfHuggingFace(t *testing.T) {
	_, golden := readGolden(t)
	var want, got tokenizerFile
	if err := json.Unmarshal(golden, &want); err != nil {
		t.Fatal(err)
	}
	tok := learned(t, 601, filepath.Join(goldenFolder, "corpus.txt"))
	if err := json.Unmarshal(tok.File(), &got); err != nil {
		t.Fatal(err)
	}
	if len(want.Model.Merges) < 300 || !slices.Equal(got.Model.Merges, want.Model.Merges) {
		for i, m := range got.Model.Merges {
			if i >= len(want.Model.Merges) || m != want.Model.Merges[i] {
				t.Fatalf("merge %d of %d is %q, want %q", i, len(want.Model.Merges), m, want.Model.Merges[i])
			}
		}
		t.Fatalf("%d merges, want %d", len(got.Model.Merges), len(want.Model.Merges))
	}
	for text, id := range got.Model.Vocab {
		if want.Model.Vocab[text] != id {
			t.Errorf("token %q has the number %d, want %d", text, id, want.Model.Vocab[text])
		}
	}
	if tok.Vocab() != 601 || tok.EndOfText() != 600 {
		t.Errorf("vocabulary %d, end %d", tok.Vocab(), tok.EndOfText())
	}
}

// naiveBPE counts all pairs anew for each merge.
func naiveBPE(text []byte, vocab int) (merges [][2]string) {
	alphabet := runeOfByte()
	order := slices.Sorted(slices.Values(alphabet[:]))
	number := make(map[string]int)
	var words [][]string
	for i, r := range order {
		number[string(r)] = i
	}
	cutting{}.each(text, func(piece []byte) {
		var w []string
		for _, b := range piece {
			w = append(w, string(alphabet[b]))
		}
		words = append(words, w)
	})
	done := make(map[[2]string]bool)
	for len(number) < vocab-1 {
		counts := make(map[[2]string]int)
		for _, w := range words {
			for i := 1; i < len(w); i++ {
				counts[[2]string{w[i-1], w[i]}]++
			}
		}
		var best [2]string
		for p, n := range counts {
			if b := counts[best]; n > b || n == b && (number[p[0]] < number[best[0]] || p[0] == best[0] && number[p[1]] < number[best[1]]) {
				best = p
			}
		}
		if counts[best] < minCount {
			break
		}
		if !done[best] {
			merges = append(merges, best)
			done[best] = true
		}
		if _, known := number[best[0]+best[1]]; !known {
			number[best[0]+best[1]] = len(number)
		}
		for k, w := range words {
			var out []string
			for i := 0; i < len(w); i++ {
				if i+1 < len(w) && w[i] == best[0] && w[i+1] == best[1] {
					out = append(out, w[i]+w[i+1])
					i++
				} else {
					out = append(out, w[i])
				}
			}
			words[k] = out
		}
	}
	return merges
}

// Counts that are kept up to date are those that counting anew gives, also where
// pairs overlap and where two ways lead to one token.
func TestLearningAgreesWithCountingAnew(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 30 {
		var b bytes.Buffer
		for range 300 {
			for range 1 + rng.IntN(9) {
				b.WriteByte("aaabc"[rng.IntN(5)])
			}
			b.WriteByte(' ')
		}
		path := write(t, t.TempDir(), "a.txt", b.Bytes())
		tok := learned(t, 257+round*6, path)
		var got tokenizerFile
		if err := json.Unmarshal(tok.File(), &got); err != nil {
			t.Fatal(err)
		}
		want := naiveBPE(b.Bytes(), 257+round*6)
		for i := range max(len(want), len(got.Model.Merges)) {
			if i >= len(want) || i >= len(got.Model.Merges) || want[i] != got.Model.Merges[i] {
				t.Fatalf("round %d: %d merges, want %d; merge %d differs", round, len(got.Model.Merges), len(want), i)
			}
		}
	}
}

func TestLearningIsTheSameEachTimeAndBounded(t *testing.T) {
	dir := t.TempDir()
	docs := sayings(t, 500)
	path := write(t, dir, "a.jsonl", jsonLines(t, docs))
	cfg := TrainBPEConfig{Inputs: []string{path}, Format: "auto", Field: "text", Vocab: 500, maxPieces: 300}
	var last TrainBPEReport
	cfg.Report = func(r TrainBPEReport) {
		if r.Pieces > 300 {
			t.Errorf("%d pieces are kept", r.Pieces)
		}
		last = r
	}
	var first []byte
	for range 3 {
		tok, err := TrainBPE(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = tok.File()
		}
		if !bytes.Equal(first, tok.File()) {
			t.Fatal("the same text gave another tokenizer")
		}
	}
	if last.Tokens != 500 || last.Bytes != int64(len(strings.Join(docs, ""))) {
		t.Errorf("%+v", last)
	}
	cfg.maxPieces, cfg.Limit = 0, 1000
	if _, err := TrainBPE(context.Background(), cfg); err != nil || last.Bytes != 1000 {
		t.Errorf("%v, read %d bytes", err, last.Bytes)
	}
}

func TestLearnedTokensStandForText(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(goldenFolder, "corpus.txt"))
	if err != nil {
		t.Fatal(err)
	}
	tok := learned(t, 1000, filepath.Join(goldenFolder, "corpus.txt"))
	tokens := tok.Encoder()(nil, text)
	back, err := tok.Decode(nil, tokens)
	if err != nil || !bytes.Equal(back, text) {
		t.Fatal("the text does not come back", err)
	}
	if perToken := float64(len(text)) / float64(len(tokens)); perToken < 2 {
		t.Errorf("%.2f bytes a token", perToken)
	}
}

func TestLearningRefusesWrongInput(t *testing.T) {
	dir := t.TempDir()
	empty, good := write(t, dir, "empty.txt", nil), write(t, dir, "good.txt", []byte("good good text"))
	for _, c := range []struct {
		cfg  TrainBPEConfig
		want string
	}{
		{TrainBPEConfig{Format: "text", Field: "text", Vocab: 300}, "no input"},
		{TrainBPEConfig{Inputs: []string{good}, Format: "pdf", Field: "text", Vocab: 300}, "pdf"},
		{TrainBPEConfig{Inputs: []string{good}, Format: "text", Field: "text", Vocab: 256}, "257 to"},
		{TrainBPEConfig{Inputs: []string{good}, Format: "text", Vocab: 300, Limit: -1}, "limit"},
		{TrainBPEConfig{Inputs: []string{empty}, Format: "text", Field: "text", Vocab: 300}, "no text"},
		{TrainBPEConfig{Inputs: []string{good}, Format: "jsonl", Field: "text", Vocab: 300}, "good.txt:1"},
	} {
		if _, err := TrainBPE(context.Background(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := TrainBPE(ctx, TrainBPEConfig{Inputs: []string{good}, Format: "text", Field: "text", Vocab: 300}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// Few texts give few tokens, which is no error.
	if tok := learned(t, 5000, good); tok.Vocab() >= 300 {
		t.Errorf("%d tokens", tok.Vocab())
	}
}

func TestQueueSorts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	q := queue[int]{before: func(a, b int) bool { return a < b }}
	var want, got []int
	for range 500 {
		n := rng.IntN(100)
		want = append(want, n)
		q.push(n)
	}
	slices.Sort(want)
	for n, ok := q.pop(); ok; n, ok = q.pop() {
		got = append(got, n)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func BenchmarkTrainBPE(b *testing.B) {
	dir := b.TempDir()
	text := []byte(strings.Join(sayings(b, 20_000), ""))
	path := write(b, dir, "a.txt", text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		learned(b, 4000, path)
	}
}
