package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const goldenFolder = "testdata/tokenizer"

// golden is what tools/golden_tokenizer wrote with Hugging Face's tokenizers.
type golden struct {
	Texts []string
	Ways  map[string]struct {
		Pre          json.RawMessage    `json:"pre_tokenizer"`
		IgnoreMerges bool               `json:"ignore_merges"`
		Plain        [][]int32          // tokens of the texts, special tokens as text
		Special      map[string][]int32 // the same with special tokens, where that differs
	}
}

func readGolden(t testing.TB) (g golden, tokenizer []byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenFolder, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if tokenizer, err = os.ReadFile(filepath.Join(goldenFolder, TokenizerFile)); err != nil {
		t.Fatal(err)
	}
	return g, tokenizer
}

// with sets fields of a tokenizer.json: with(file, "model.dropout", "0.1").
func with(t testing.TB, file []byte, changes ...string) []byte {
	t.Helper()
	var top map[string]json.RawMessage
	if err := json.Unmarshal(file, &top); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(changes); i += 2 {
		key, inner, nested := strings.Cut(changes[i], ".")
		if !nested {
			top[key] = json.RawMessage(changes[i+1])
			continue
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(top[key], &object); err != nil {
			t.Fatal(err)
		}
		object[inner] = json.RawMessage(changes[i+1])
		b, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		top[key] = b
	}
	b, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTokensAreThoseOfHuggingFace(t *testing.T) {
	g, file := readGolden(t)
	for name, way := range g.Ways {
		t.Run(name, func(t *testing.T) {
			tok, err := ParseTokenizer(with(t, file, "pre_tokenizer", string(way.Pre), "model.ignore_merges", strconv.FormatBool(way.IgnoreMerges)), "")
			if err != nil {
				t.Fatal(err)
			}
			encode := tok.Encoder()
			for i, text := range g.Texts {
				got := encode(nil, []byte(text))
				if !slices.Equal(got, way.Plain[i]) {
					t.Errorf("%q gives %v, want %v", text, pieces(t, tok, got), pieces(t, tok, way.Plain[i]))
				}
				back, err := tok.Decode(nil, got)
				if err != nil || string(back) != text {
					t.Errorf("%q comes back as %q, %v", text, back, err)
				}
				want, differs := way.Special[strconv.Itoa(i)]
				if !differs {
					want = way.Plain[i]
				}
				if got := tok.EncodeSpecial(nil, []byte(text)); !slices.Equal(got, want) {
					t.Errorf("with special tokens, %q gives %v, want %v", text, got, want)
				}
			}
			if len(way.Special) == 0 {
				t.Error("no text has a special token: the golden file is not what it should be")
			}
		})
	}
}

func pieces(t *testing.T, tok Tokenizer, tokens []int32) (texts []string) {
	t.Helper()
	for _, token := range tokens {
		b, err := tok.Decode(nil, []int32{token})
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}

// Long pieces take another way through the merges; both must agree.
func TestBothWaysOfMergingAgree(t *testing.T) {
	_, file := readGolden(t)
	tok, err := ParseTokenizer(file, "")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(goldenFolder, "corpus.txt"))
	if err != nil {
		t.Fatal(err)
	}
	e := tok.newEncoder(false)
	for from := 0; from+maxScanned <= len(text); from += maxScanned {
		piece := text[from : from+maxScanned]
		if short, long := e.merge(nil, piece), e.mergeLong(nil, piece); !slices.Equal(short, long) {
			t.Fatalf("%q: %v and %v", piece, short, long)
		}
	}
}

func TestTokenizerFilesAreRefusedWithReasons(t *testing.T) {
	_, file := readGolden(t)
	for _, c := range []struct{ key, value, want string }{
		{"model", `{"type":"Unigram"}`, "byte-level BPE"},
		{"model", `{"type":"BPE","vocab":{},"merges":[]}`, "no vocabulary"},
		{"model", `{"type":"BPE","vocab":{"a":0},"merges":[]}`, "no token for the byte"},
		{"model.vocab", `{"a":1,"b":1}`, "taken"},
		{"model.vocab", `{"a":-1}`, "negative"},
		{"model.vocab", `{"a":1048576}`, "below 1048576"},
		{"model.vocab", `{"a b":3}`, "alphabet"},
		{"model.merges", `["ab"]`, "no blank"},
		{"model.merges", `[["a","b","c"]]`, "a merge of 3"},
		{"model.merges", `[["zz","qq"]]`, "not in the vocabulary"},
		{"model.merges", `["Ġ t","Ġ t"]`, "twice"},
		{"model.dropout", `0.1`, "dropout"},
		{"model.byte_fallback", `true`, "SentencePiece"},
		{"model.end_of_word_suffix", `"</w>"`, "SentencePiece"},
		{"normalizer", `{"type":"NFC"}`, "normalizer"},
		{"decoder", `{"type":"WordPiece"}`, "decoder"},
		{"pre_tokenizer", `null`, "no pre_tokenizer"},
		{"pre_tokenizer", `{"type":"Whitespace"}`, "Whitespace"},
		{"pre_tokenizer", `{"type":"ByteLevel","add_prefix_space":true}`, "add_prefix_space"},
		{"pre_tokenizer", `{"type":"ByteLevel","use_regex":false}`, "in this place"},
		{"pre_tokenizer", `{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true}]}`, "no pre_tokenizer of type ByteLevel"},
		{"pre_tokenizer", `{"type":"Split","behavior":"Isolated","pattern":{"Regex":"x+"}}`, "x+"},
		{"added_tokens", `[]`, "--end-of-text"},
		{"added_tokens", `[{"id":600,"content":"<s>","special":true,"lstrip":true}]`, "lstrip"},
		{"added_tokens", `[{"id":600,"content":"<s>","special":true},{"id":600,"content":"</s>","special":true}]`, "same number"},
		{"added_tokens", `[{"id":5,"content":"<s>","special":true}]`, "same number"},
		{"added_tokens", `[{"id":-1,"content":"<s>"}]`, "a number from 0"},
	} {
		if _, err := ParseTokenizer(with(t, file, c.key, c.value), ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %s: %v, want %q", c.key, c.value, err, c.want)
		}
	}
	for _, text := range []string{"", "{", "[]", `{"model":3}`} {
		if _, err := ParseTokenizer([]byte(text), ""); err == nil {
			t.Errorf("%q passes for a tokenizer", text)
		}
	}
	if _, err := ParseTokenizer(file, "<eot>"); err == nil || !strings.Contains(err.Error(), "<|endoftext|>") {
		t.Errorf("an unknown end of text: %v, want the names of the special tokens", err)
	}
}

// GPT-2's own two files and a tokenizer.json say the same.
func TestOpenTokenizerReadsAllForms(t *testing.T) {
	_, file := readGolden(t)
	want, err := ParseTokenizer(file, "")
	if err != nil {
		t.Fatal(err)
	}
	var f tokenizerFile
	if err := json.Unmarshal(file, &f); err != nil {
		t.Fatal(err)
	}
	f.Model.Vocab["<|endoftext|>"] = int(want.EndOfText())
	vocab, err := json.Marshal(f.Model.Vocab)
	if err != nil {
		t.Fatal(err)
	}
	merges := "#version: 0.2\n"
	for _, m := range f.Model.Merges {
		merges += m[0] + " " + m[1] + "\n"
	}
	for _, names := range [][2]string{{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}} {
		dir := t.TempDir()
		write(t, dir, names[0], vocab)
		write(t, dir, names[1], []byte(merges))
		got, err := OpenTokenizer(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		text := []byte("The global model is a replicated log<|endoftext|> of 42 updates.\n")
		if !slices.Equal(got.Encoder()(nil, text), want.Encoder()(nil, text)) || got.EndOfText() != want.EndOfText() {
			t.Errorf("%v: other tokens than from tokenizer.json", names)
		}
		again, err := ParseTokenizer(got.File(), "")
		if err != nil || !slices.Equal(again.EncodeSpecial(nil, text), want.EncodeSpecial(nil, text)) {
			t.Errorf("%v: the tokenizer.json made from them differs, %v", names, err)
		}
		write(t, dir, names[1], []byte(merges+"a b c\n"))
		if _, err := OpenTokenizer(dir, ""); err == nil || !strings.Contains(err.Error(), "line "+strconv.Itoa(len(f.Model.Merges)+2)) {
			t.Errorf("%v: %v, want the line", names, err)
		}
	}
	for _, path := range []string{goldenFolder, filepath.Join(goldenFolder, TokenizerFile)} {
		if _, err := OpenTokenizer(path, ""); err != nil {
			t.Error(err)
		}
	}
	for path, want := range map[string]string{"gone": "gone", t.TempDir(): "neither", filepath.Join(goldenFolder, "corpus.txt"): "corpus.txt"} {
		if _, err := OpenTokenizer(path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestBPEDecodeRefusesForeignTokens(t *testing.T) {
	_, file := readGolden(t)
	tok, err := ParseTokenizer(with(t, file, "added_tokens", `[{"id":900,"content":"<|endoftext|>","special":true}]`), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []int32{-1, 901, 700} {
		if _, err := tok.Decode(nil, []int32{token}); err == nil {
			t.Errorf("token %d was decoded", token)
		}
	}
	if tok.Vocab() != 901 || tok.EndOfText() != 900 {
		t.Errorf("vocabulary %d, end %d", tok.Vocab(), tok.EndOfText())
	}
}

// FuzzBPE takes any bytes to tokens and back, with every rule.
func FuzzBPE(f *testing.F) {
	g, file := readGolden(f)
	var toks []*BPE
	for _, way := range g.Ways {
		tok, err := ParseTokenizer(with(f, file, "pre_tokenizer", string(way.Pre)), "")
		if err != nil {
			f.Fatal(err)
		}
		toks = append(toks, tok)
	}
	for _, text := range g.Texts {
		f.Add([]byte(text))
	}
	f.Add([]byte{0xff, 0xfe, 0xc3, 0x28, ' ', 0xe2, 0x82})
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, tok := range toks {
			tokens := tok.Encoder()(nil, text)
			back, err := tok.Decode(nil, tokens)
			if err != nil || !bytes.Equal(back, text) {
				t.Fatalf("%q comes back as %q, %v", text, back, err)
			}
			if back, err = tok.Decode(nil, tok.EncodeSpecial(nil, text)); err != nil || !bytes.Equal(back, text) {
				t.Fatalf("%q comes back as %q, %v", text, back, err)
			}
		}
	})
}

// FuzzTokenizerFile takes any bytes for a tokenizer.json: it is refused, or
// tokens give back their text.
func FuzzTokenizerFile(f *testing.F) {
	_, file := readGolden(f)
	f.Add(file)
	f.Add(with(f, file, "model.merges", `[["a","b"]]`))
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := ParseTokenizer(b, "")
		if err != nil {
			return
		}
		text := []byte("Any text, 123 it's\n\n fine. \xff")
		back, err := tok.Decode(nil, tok.Encoder()(nil, text))
		if err != nil || !bytes.Equal(back, text) {
			t.Fatalf("%q comes back as %q, %v", text, back, err)
		}
	})
}

func BenchmarkBPE(b *testing.B) {
	_, file := readGolden(b)
	tok, err := ParseTokenizer(file, "")
	if err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(goldenFolder, "corpus.txt"))
	if err != nil {
		b.Fatal(err)
	}
	encode := tok.Encoder()
	var tokens []int32
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tokens = encode(tokens[:0], text)
	}
}

// TestByteFile is the byte tokenizer for other tools: as a BPE it does the same,
// and whoever restores it gets Bytes.
func TestByteFile(t *testing.T) {
	bpe, err := parseTokenizer(ByteFile())
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 0, 1024)
	for i := range 1024 {
		text = append(text, byte(i*i>>3))
	}
	tokens := bpe.Encoder()(nil, text)
	if back, err := bpe.Decode(nil, tokens); err != nil || !slices.Equal(tokens, Encode(nil, text)) || string(back) != string(text) {
		t.Errorf("tokens %v…, %v", tokens[:8], err)
	}
	restored, err := RestoreTokenizer(ByteFile(), -1)
	if err != nil || restored != (Bytes{}) {
		t.Errorf("restored as %v, %v", restored, err)
	}
	shifted := bytes.Replace(ByteFile(), []byte(`"a": 97`), []byte(`"a": 256`), 1)
	if restored, err = RestoreTokenizer(shifted, -1); err != nil || restored == (Bytes{}) {
		t.Errorf("other numbers are restored as %v, %v", restored, err)
	}
}

// TestGPT2 holds the vocabulary that is part of the program against the hash that
// OpenAI's release of encoder.json has, and some well-known tokens.
func TestGPT2(t *testing.T) {
	tok, err := GPT2("")
	if err != nil {
		t.Fatal(err)
	}
	if tok.Vocab() != 50257 || tok.EndOfText() != 50256 {
		t.Errorf("%d tokens, %d at the end of a text", tok.Vocab(), tok.EndOfText())
	}
	var f tokenizerFile
	if err := json.Unmarshal(tok.File(), &f); err != nil {
		t.Fatal(err)
	}
	encoder := strings.Builder{} // as Python's json.dumps writes it
	written := make([]string, tok.Vocab())
	for text, id := range f.Model.Vocab {
		written[id] = text
	}
	for id, text := range written {
		fmt.Fprintf(&encoder, ", %s: %d", strconv.QuoteToASCII(text), id)
	}
	const published = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
	if sum := sha256.Sum256([]byte("{" + encoder.String()[2:] + "}")); hex.EncodeToString(sum[:]) != published {
		t.Errorf("encoder.json has the hash %x, the published one has %s", sum, published)
	}
	for text, want := range map[string][]int32{
		"Hello, world!":       {15496, 11, 995, 0},
		"The quick brown fox": {464, 2068, 7586, 21831},
	} {
		if got := tok.Encoder()(nil, []byte(text)); !slices.Equal(got, want) {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	if _, err := GPT2("<eot>"); err == nil {
		t.Error("an end of text that GPT-2 does not have")
	}
}
