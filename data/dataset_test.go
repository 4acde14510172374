package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// made prepares n sayings into DIR/name.
func made(t testing.TB, dir, name string, tok Tokenizer, n int) string {
	t.Helper()
	in := write(t, dir, name+".jsonl", jsonLines(t, sayings(t, n)))
	cfg := usual(filepath.Join(dir, name), tok, in)
	cfg.FileSize = 5000
	prepare(t, cfg)
	return cfg.Out
}

func open(t testing.TB, spec string) *Dataset {
	t.Helper()
	d, err := OpenDataset(spec, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestPreparedFolderReadsAsItWasWritten(t *testing.T) {
	tok := testBPE(t)
	for _, dtype := range []string{Uint16, Uint32} {
		dir := t.TempDir()
		cfg := usual(filepath.Join(dir, "out"), tok, write(t, dir, "a.jsonl", jsonLines(t, sayings(t, 300))))
		cfg.FileSize, cfg.Dtype = 1000, dtype
		m := prepare(t, cfg)
		want := tokensOf(t, cfg.Out, m, m.Train)
		d := open(t, cfg.Out)
		if d.TrainTokens() != len(want) || d.Tokenizer.Vocab() != tok.Vocab() || d.Tokenizer.EndOfText() != tok.EndOfText() {
			t.Fatalf("%d tokens, vocabulary %d", d.TrainTokens(), d.Tokenizer.Vocab())
		}
		const length = 7
		train, heldOut, err := d.Windows(length)
		if err != nil {
			t.Fatal(err)
		}
		in, out := make([]int32, length), make([]int32, length)
		for i := range train.Len() { // windows also lie across the border of two files
			if err := train.Batch(in, out, i); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(in, want[i*length:][:length]) || !slices.Equal(out, want[i*length+1:][:length]) {
				t.Fatalf("window %d is %v and %v", i, in, out)
			}
		}
		if allocs := testing.AllocsPerRun(20, func() { _ = train.Batch(in, out, 3) }); allocs != 0 {
			t.Errorf("a batch allocates %v times", allocs)
		}
		if heldOut.Len() < 10 || d.BytesPerToken < 1.2 || d.BytesPerToken > 4 {
			t.Errorf("%d held-out windows, %.2f bytes a token", heldOut.Len(), d.BytesPerToken)
		}
	}
}

// Baselines of a large vocabulary are counted another way than those of bytes.
func TestCountsOfLargeVocabulariesAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	text := make([]byte, 5000)
	for i := range text {
		text[i] = "abcdefgh"[rng.IntN(8)]
	}
	held, err := WindowsOf(16, ByteTokens(text[4000:]))
	if err != nil {
		t.Fatal(err)
	}
	train := []Tokens{ByteTokens(text[:3000]), ByteTokens(text[3000:4000])}
	indices := held.Spread(20)
	// The vocabulary itself is part of the smoothing, so it has to be the same.
	const vocab = 1100
	sparse, err := CountNGrams(train, vocab, held, indices)
	if err != nil {
		t.Fatal(err)
	}
	var single [256]float64
	pairs := make(map[[2]byte]float64)
	before := make(map[byte]float64)
	for _, set := range [][]byte{text[:3000], text[3000:4000]} {
		for i, b := range set {
			single[b]++
			if i > 0 {
				pairs[[2]byte{set[i-1], b}]++
				before[set[i-1]]++
			}
		}
	}
	var uni, bi, n float64
	for _, w := range indices {
		for j := range 16 {
			a, b := text[4000+w*16+j], text[4000+w*16+j+1]
			uni -= math.Log((single[b] + 0.1) / (4000 + 0.1*vocab))
			bi -= math.Log((pairs[[2]byte{a, b}] + 0.1) / (before[a] + 0.1*vocab))
			n++
		}
	}
	if math.Abs(sparse.Unigram-uni/n) > 1e-9 || math.Abs(sparse.Bigram-bi/n) > 1e-9 {
		t.Errorf("%+v, want %v and %v", sparse, uni/n, bi/n)
	}
	if _, err := CountNGrams(train, 50, held, indices); err == nil {
		t.Error("tokens outside of the vocabulary were counted")
	}
}

func TestMixtureGivesEachSetItsShare(t *testing.T) {
	counts := []int{1000, 130, 2001}
	weights := []float64{1, 2, 5}
	m, err := NewMixture(7, counts, weights)
	if err != nil {
		t.Fatal(err)
	}
	n := 1000 + 130 + 2001
	reads := make([]int, n)
	const epochs = 5
	var early [3]int
	for pos := range epochs * n {
		i := m.At(uint64(pos))
		reads[i]++
		if pos < 400 {
			early[setOf(counts, i)]++
		}
	}
	first := 0
	for k, c := range counts {
		sum, low, high := 0, math.MaxInt, 0
		for _, r := range reads[first : first+c] {
			sum, low, high = sum+r, min(low, r), max(high, r)
		}
		first += c
		if want := float64(epochs*n) * weights[k] / 8; math.Abs(float64(sum)-want) > epochs {
			t.Errorf("set %d is read %d times, want %.0f", k, sum, want)
		}
		// A set is read evenly: no window twice more often than another.
		if high-low > 1 {
			t.Errorf("windows of set %d are read %d to %d times", k, low, high)
		}
		if share := float64(early[k]) / 400; math.Abs(share-weights[k]/8) > 0.08 {
			t.Errorf("set %d has %.2f of the first reads, want %.2f", k, share, weights[k]/8)
		}
	}
}

func setOf(counts []int, i int) (k int) {
	for ; i >= counts[k]; k++ {
		i -= counts[k]
	}
	return k
}

func TestMixtureOfOneSetIsItsOrder(t *testing.T) {
	m, err := NewMixture(9, []int{321}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := Order{Seed: 9, N: 321}
	for pos := range uint64(1000) {
		if m.At(pos) != o.At(pos) {
			t.Fatalf("position %d: %d, want %d", pos, m.At(pos), o.At(pos))
		}
	}
}

// Without weights every window comes once an epoch.
func TestMixtureBySizeReadsEveryWindowOnce(t *testing.T) {
	counts := []int{50, 7, 300}
	m, err := NewMixture(1, counts, nil)
	if err != nil {
		t.Fatal(err)
	}
	for epoch := range 3 {
		seen := make([]bool, 357)
		for i := range 357 {
			w := m.At(uint64(epoch*357 + i))
			if seen[w] {
				t.Fatalf("epoch %d: window %d again", epoch, w)
			}
			seen[w] = true
		}
	}
}

// The place in the data is one number: any number of workers that lease ranges of
// positions read the same windows as one.
func TestMixtureDoesNotDependOnTheNumberOfWorkers(t *testing.T) {
	m, err := NewMixture(3, []int{200, 90}, []float64{1, 3})
	if err != nil {
		t.Fatal(err)
	}
	const total, lease, seed = 1200, 16, 4
	t.Logf("seed %d", seed)
	want := make([]int, 290)
	for pos := range uint64(total) {
		want[m.At(pos)]++
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, workers := range []int{1, 3, 8} {
		got := make([]int, 290)
		leases := make([][2]uint64, workers)
		for next, done := uint64(0), 0; done < total; {
			w := &leases[rng.IntN(workers)]
			if w[0] == w[1] {
				*w = [2]uint64{next, min(next+lease, total)}
				next = w[1]
			}
			if w[0] < w[1] {
				got[m.At(w[0])]++
				w[0]++
				done++
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d workers read other windows", workers)
		}
	}
}

func TestMixtureIsValidated(t *testing.T) {
	for _, c := range []struct {
		counts  []int
		weights []float64
	}{
		{nil, nil},
		{[]int{0}, nil},
		{[]int{1, 2}, []float64{1}},
		{[]int{1, 2}, []float64{1, 0}},
		{[]int{1, 2}, []float64{1, math.NaN()}},
		{[]int{1, 2}, []float64{1, math.Inf(1)}},
		{[]int{1, 5000}, []float64{1, 1}},
	} {
		if _, err := NewMixture(1, c.counts, c.weights); err == nil {
			t.Errorf("%v with weights %v is accepted", c.counts, c.weights)
		}
	}
	for n := 1; n < 200; n++ {
		if got := apportion(n, []float64{0.3, 0.3, 0.4, 1e-9}, 1.000000001); got[0]+got[1]+got[2]+got[3] != n {
			t.Fatalf("%d places are given as %v", n, got)
		}
	}
}

func TestOpenDatasetReadsTextFoldersAndMixtures(t *testing.T) {
	dir := t.TempDir()
	tok := testBPE(t)
	a, b := made(t, dir, "a", tok, 200), made(t, dir, "b", tok, 100)
	bytes := made(t, dir, "bytes", Bytes{}, 200)
	text := write(t, dir, "x,y.txt", prose("x", MinBytes))

	if d := open(t, text); d.Tokenizer != (Bytes{}) || len(d.Train) != 1 || d.Weights != nil {
		t.Errorf("%+v", d)
	}
	one := open(t, a)
	if one.Weights != nil || !strings.Contains(one.Description, "a: ") {
		t.Errorf("%+v", one)
	}
	d := open(t, a+"@3,"+b)
	if len(d.Train) != 2 || !slices.Equal(d.Weights, []float64{3, 1}) || d.TrainTokens() <= one.TrainTokens() {
		t.Errorf("%+v", d)
	}
	if !strings.Contains(d.Description, "a@3, b@1: ") {
		t.Error(d.Description)
	}
	if other := open(t, a+"@2,"+b); other.ID == d.ID {
		t.Error("other weights have the same id")
	}
	train, heldOut, err := d.Windows(32)
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.Order(1, train)
	if err != nil || m.At(5) >= train.Len() || heldOut.Len() < 2 {
		t.Errorf("%v, %d held-out windows", err, heldOut.Len())
	}
	for spec, want := range map[string]string{
		a + "," + bytes: "tokenizer is not that of", a + "," + text: "no prepared folder", a + "@x": "weight", a + "@0": "weight", a + "@-1": "weight",
		filepath.Join(dir, "gone"): "gone", a + "," + filepath.Join(dir, "gone"): "no prepared folder",
	} {
		if _, err := OpenDataset(spec, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
	if _, err := Open(a); err == nil || !strings.Contains(err.Error(), "prepared folder") {
		t.Errorf("a prepared folder passes for text: %v", err)
	}
	cfg := usual(filepath.Join(dir, "all"), tok, text)
	cfg.HeldOut = 0
	prepare(t, cfg)
	if _, err := OpenDataset(cfg.Out, ""); err == nil || !strings.Contains(err.Error(), "--held-out") {
		t.Errorf("a folder with nothing held out: %v", err)
	}
}

func TestDamagedFoldersAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		change func([]byte) []byte
		want   string
	}{
		"bit":       {"train-00001.bin", func(b []byte) []byte { b[7] ^= 1; return b }, "train-00001.bin: it has SHA-256"},
		"short":     {"train-00000.bin", func(b []byte) []byte { return b[:100] }, "holds 100 bytes"},
		"gone":      {"held-out-00000.bin", nil, "held-out-00000.bin"},
		"tokenizer": {TokenizerFile, func(b []byte) []byte { return append(b, ' ') }, "tokenizer.json: it has SHA-256"},
		"no json":   {manifestName, func(b []byte) []byte { return b[:50] }, manifestName},
		"format":    {manifestName, replace(`"format": 1`, `"format": 2`), "format 2"},
		"path":      {manifestName, replace(`"train-00000.bin"`, `"../x.bin"`), "not a name in the folder"},
		"vocab":     {manifestName, replace(`"vocab": 602`, `"vocab": 99999`), "does not fit"},
		"dtype":     {manifestName, replace(`"uint16"`, `"float"`), "dtype"},
		"end":       {manifestName, replace(`"end_of_text": 600`, `"end_of_text": 700`), "token 700"},
		"kind":      {manifestName, replace(`"bpe"`, `"byte"`), "bytes have a vocabulary"},
		"sum":       {manifestName, replace(`"tokens": 5000`, `"tokens": 4999`), "its files hold"},
		"negative":  {manifestName, replace(`"tokens": 5000`, `"tokens": -5`), "of -5 tokens"},
	} {
		dir := made(t, t.TempDir(), "a", testBPE(t), 200)
		path := filepath.Join(dir, c.file)
		if c.change == nil {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		} else {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, c.file, c.change(b))
		}
		if _, err := OpenDataset(dir, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func replace(from, to string) func([]byte) []byte {
	return func(b []byte) []byte { return []byte(strings.Replace(string(b), from, to, 1)) }
}

// A file that is altered behind the check gives an error, not a token that the
// model does not have.
func TestTokensOutsideOfTheVocabularyAreRefused(t *testing.T) {
	dir := made(t, t.TempDir(), "a", testBPE(t), 200)
	d := open(t, dir)
	f, err := os.OpenFile(filepath.Join(dir, "train-00000.bin"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xff, 0xff}, 4); err != nil {
		t.Fatal(err)
	}
	if err := d.Train[0].Read(make([]int32, 8), 0); err == nil || !strings.Contains(err.Error(), "token 2 is 65535") {
		t.Errorf("%v", err)
	}
	for _, at := range []int{-1, d.TrainTokens() - 7} {
		if err := d.Train[0].Read(make([]int32, 8), at); err == nil {
			t.Errorf("read at %d", at)
		}
	}
}

// FuzzPrepared opens a folder with any manifest and any tokens: an error, or
// windows that can be read.
func FuzzPrepared(f *testing.F) {
	for _, tokens := range []int{1, 9} {
		b := slices.Repeat([]byte{1, 0}, tokens)
		files := []TokenFile{{Name: "train.bin", Tokens: int64(tokens), SHA256: hexHash(b)}}
		split := Split{Tokens: int64(tokens), Documents: 1, Bytes: 3, Files: files}
		m, err := json.Marshal(Manifest{
			Format: 1, Dtype: Uint16, Tokenizer: TokenizerSpec{Kind: kindByte, Vocab: 256},
			Train: split, HeldOut: split,
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m, b)
	}
	f.Add([]byte(`{"format":1,"dtype":"uint32","tokenizer":{"kind":"bpe","vocab":3}}`), []byte{})
	f.Fuzz(func(t *testing.T, manifest, tokens []byte) {
		dir := t.TempDir()
		write(t, dir, manifestName, manifest)
		write(t, dir, "train.bin", tokens)
		d, err := OpenDataset(dir, "")
		if err != nil {
			return
		}
		defer d.Close()
		train, _, err := d.Windows(2)
		if err != nil {
			return
		}
		in, out := make([]int32, 2), make([]int32, 2)
		for i := range train.Len() {
			if err := train.Batch(in, out, i); err != nil {
				return
			}
			for _, token := range append(in, out...) {
				if token < 0 || int(token) >= d.Tokenizer.Vocab() {
					t.Fatalf("token %d", token)
				}
			}
		}
		_ = fmt.Sprint(d.Description)
	})
}

// A prepared folder in memory has the tokens that its files have, two bytes each, or one where they are the text's own.
func TestPreparedFolderWhole(t *testing.T) {
	for name, tok := range map[string]Tokenizer{"bpe": testBPE(t), "bytes": Bytes{}} {
		dir := made(t, t.TempDir(), "set", tok, 300)
		d := open(t, dir)
		c, err := OpenWhole(dir)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"bpe": 2, "bytes": 1}[name]; c.Width != want || c.Coder().Vocab() != tok.Vocab() {
			t.Errorf("%s: %d bytes a token of %d, want %d of %d", name, c.Width, c.Coder().Vocab(), want, tok.Vocab())
		}
		for _, part := range []struct{ got, want Tokens }{{c.Packed(c.Train), d.Train[0]}, {c.Packed(c.HeldOut), d.HeldOut[0]}} {
			got, want := make([]int32, part.got.Len()), make([]int32, part.want.Len())
			if err := errors.Join(part.got.Read(got, 0), part.want.Read(want, 0)); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %d tokens of %d, %v", name, len(got), len(want), err)
			}
		}
	}
	dir := t.TempDir()
	one, two := made(t, dir, "one", Bytes{}, 300), made(t, dir, "two", Bytes{}, 300)
	if _, err := OpenWhole(one + "," + two); err == nil || !strings.Contains(err.Error(), "one prepared folder") {
		t.Errorf("a mixture: %v", err)
	}
}

func TestPackedTokens(t *testing.T) {
	for width, b := range map[int]string{1: "\x01\x02\x03", 2: "\x01\x00\x02\x00\x03\x00", 4: "\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00"} {
		p := Packed{Bytes: []byte(b), Width: width, Vocab: 4}
		got := make([]int32, 2)
		if err := p.Read(got, 1); err != nil || p.Len() != 3 || !slices.Equal(got, []int32{2, 3}) {
			t.Errorf("width %d: %v of %d, %v", width, got, p.Len(), err)
		}
		if err := p.Read(got, 2); err == nil {
			t.Errorf("width %d: read beyond the end", width)
		}
		p.Vocab = 3
		if err := p.Read(got, 1); err == nil || !strings.Contains(err.Error(), "vocabulary") {
			t.Errorf("width %d: a token outside of the vocabulary: %v", width, err)
		}
	}
	if p := (Packed{Bytes: []byte("\xff\xff\xff\xff"), Width: 4, Vocab: 9}); p.Read(make([]int32, 1), 0) == nil {
		t.Error("a token of 32 bits was read")
	}
}

// TestWhatIsWrittenIsNotRead has the folder that is written to lie below the text: the same call finds the same text
// after something was written, so that it can go on.
func TestWhatIsWrittenIsNotRead(t *testing.T) {
	dir := library(t)
	out := filepath.Join(dir, "out", "first")
	id := func() string {
		d, err := OpenDataset(dir, out)
		if err != nil {
			t.Fatal(err)
		}
		return d.ID
	}
	before := id()
	write(t, dir, "out/first/step-000000020/config.json", prose("a config", 600))
	if after := id(); after != before {
		t.Errorf("data %s, and %s once there is a checkpoint below it", before, after)
	}
	if _, err := OpenDataset(dir, dir); err == nil || !strings.Contains(err.Error(), "read and written to") {
		t.Errorf("text and checkpoints in one folder: %v", err)
	}
	dir = library(t)
	cfg := usual(filepath.Join(dir, "out"), Bytes{}, dir)
	write(t, dir, "out/lock", []byte("123\n"))
	m := prepare(t, cfg)
	again, err := Prepare(t.Context(), cfg)
	if err != nil || again.id() != m.id() {
		t.Errorf("the same call once more: %v", err)
	}
}
