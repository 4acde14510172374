package data

import (
	"math"
	"strings"
	"testing"
)

func counting(n int) []byte {
	tokens := make([]byte, n)
	for i := range tokens {
		tokens[i] = byte(i)
	}
	return tokens
}

func TestWindowsCutAtStrideT(t *testing.T) {
	for _, c := range []struct{ tokens, length, windows int }{
		{9, 8, 1}, {16, 8, 1}, {17, 8, 2}, {24, 8, 2}, {25, 8, 3}, {2, 1, 1}, {100, 99, 1},
	} {
		w, err := WindowsOf(c.length, ByteTokens(counting(c.tokens)))
		if err != nil {
			t.Fatal(err)
		}
		if w.Len() != c.windows {
			t.Errorf("%d tokens, T %d: %d windows, want %d", c.tokens, c.length, w.Len(), c.windows)
		}
		for i := range w.Len() {
			in, out := make([]int32, c.length), make([]int32, c.length)
			if err := w.Batch(in, out, i); err != nil || in[0] != int32(i*c.length) || out[c.length-1] != int32((i+1)*c.length) {
				t.Errorf("window %d is %v to %v, %v", i, in, out, err)
			}
		}
	}
	for _, c := range []struct{ tokens, length int }{{8, 8}, {0, 1}, {10, 0}, {10, -1}} {
		if _, err := WindowsOf(c.length, ByteTokens(counting(c.tokens))); err == nil {
			t.Errorf("%d tokens gave windows of %d", c.tokens, c.length)
		}
	}
}

func TestBatchShiftsTargetsByOne(t *testing.T) {
	w, err := WindowsOf(8, ByteTokens(counting(41)))
	if err != nil {
		t.Fatal(err)
	}
	in, out := make([]int32, 16), make([]int32, 16)
	if err := w.Batch(in, out, 3, 0); err != nil {
		t.Fatal(err)
	}
	for j := range 8 {
		if in[j] != int32(24+j) || out[j] != int32(25+j) || in[8+j] != int32(j) || out[8+j] != int32(j+1) {
			t.Fatalf("inputs %v, targets %v", in, out)
		}
	}
	for _, bad := range [][]int{{0}, {0, 5}, {-1, 0}, {0, 1, 2}} {
		if err := w.Batch(in, out, bad...); err == nil {
			t.Errorf("windows %v were accepted", bad)
		}
	}
	if err := w.Batch(in[:15], out, 0, 1); err == nil {
		t.Error("a short buffer was accepted")
	}
	indices := []int{1, 2}
	if n := testing.AllocsPerRun(20, func() { _ = w.Batch(in, out, indices...) }); n != 0 {
		t.Errorf("a batch allocates %v times", n)
	}
}

func TestSpreadIsEvenAndDistinct(t *testing.T) {
	w, err := WindowsOf(1, ByteTokens(counting(101)))
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]int{-1: 0, 0: 0, 1: 1, 7: 7, 100: 100, 1000: 100} {
		got := w.Spread(n)
		if len(got) != want {
			t.Errorf("spread %d gave %d windows", n, len(got))
		}
		for k := 1; k < len(got); k++ {
			if got[k] <= got[k-1] || got[k] >= w.Len() {
				t.Errorf("spread %d: %v", n, got)
			}
		}
	}
}

func TestNGramAgainstHandCount(t *testing.T) {
	train := []byte("abab")
	held, err := WindowsOf(2, ByteTokens([]byte("abc")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := CountNGrams([]Tokens{ByteTokens(train)}, Vocabulary, held, []int{0})
	if err != nil {
		t.Fatal(err)
	}
	// Targets b and c. Unigram: a 2, b 2 of 4. Bigram: after a always b (2 of
	// 2), after b always a (1 of 1).
	uni := -(math.Log(2.1/29.6) + math.Log(0.1/29.6)) / 2
	bi := -(math.Log(2.1/27.6) + math.Log(0.1/26.6)) / 2
	if math.Abs(got.Unigram-uni) > 1e-12 || math.Abs(got.Bigram-bi) > 1e-12 {
		t.Fatalf("got %+v, want %v and %v", got, uni, bi)
	}
	for _, bad := range []func() (Baselines, error){
		func() (Baselines, error) { return CountNGrams([]Tokens{ByteTokens(nil)}, Vocabulary, held, []int{0}) },
		func() (Baselines, error) { return CountNGrams([]Tokens{ByteTokens(train)}, Vocabulary, held, nil) },
		func() (Baselines, error) { return CountNGrams([]Tokens{ByteTokens(train)}, Vocabulary, held, []int{1}) },
	} {
		if _, err := bad(); err == nil {
			t.Error("bad input was accepted")
		}
	}
}

func TestDecodeRefusesForeignTokens(t *testing.T) {
	if _, err := Decode(nil, []int32{'a', 256}); err == nil || !strings.Contains(err.Error(), "256") {
		t.Fatal(err)
	}
	if _, err := Decode(nil, []int32{-1}); err == nil {
		t.Fatal("a negative token was decoded")
	}
}

// FuzzTokenize takes arbitrary bytes through the tokenizer, the text check and
// the split: tokens give back their text, and the split loses nothing.
func FuzzTokenize(f *testing.F) {
	f.Add([]byte("package data\n"))
	f.Add([]byte{0, 0xff, 0xfe})
	f.Add(prose("seed", MinBytes))
	f.Fuzz(func(t *testing.T, text []byte) {
		tokens := Encode(nil, text)
		back, err := Decode(nil, tokens)
		if err != nil || string(back) != string(text) {
			t.Fatalf("%d bytes came back as %d, %v", len(text), len(back), err)
		}
		if err := checkText(text); err == nil && len(text) > 0 && string(text[:1]) == "\x00" {
			t.Fatal("a NUL passed for text")
		}
		train, held := splitByBlock(text)
		if len(train)+len(held) != len(text) {
			t.Fatalf("%d bytes were split into %d and %d", len(text), len(train), len(held))
		}
		if len(text) >= MinBytes && (len(train) == 0 || len(held) == 0) {
			t.Fatal("one side of the split is empty")
		}
	})
}
