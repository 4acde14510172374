package data

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func testBPE(t testing.TB) *BPE {
	t.Helper()
	_, file := readGolden(t)
	tok, err := ParseTokenizer(file, "")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// sayings returns n documents of corpus lines.
func sayings(t testing.TB, n int) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenFolder, "corpus.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	rng := rand.New(rand.NewPCG(3, 3))
	docs := make([]string, n)
	for i := range docs {
		for range 1 + rng.IntN(4) {
			docs[i] += lines[rng.IntN(len(lines))]
		}
		docs[i] = fmt.Sprintf("%d %s", i, docs[i])
	}
	return docs
}

func jsonLines(t testing.TB, docs []string) []byte {
	t.Helper()
	var b bytes.Buffer
	for i, d := range docs {
		line, err := json.Marshal(map[string]any{"id": i, "text": d, "meta": map[string]string{"text": "no"}})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	return b.Bytes()
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstdOf(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(b, nil)
}

func usual(out string, tok Tokenizer, inputs ...string) PrepareConfig {
	return PrepareConfig{Inputs: inputs, Out: out, Tokenizer: tok, Format: "auto", Field: "text", Dtype: "auto", HeldOut: 0.1, FileSize: DefaultFileSize, Threads: 2}
}

func prepare(t testing.TB, cfg PrepareConfig) *Manifest {
	t.Helper()
	m, err := Prepare(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tokensOf reads the files of a split by hand.
func tokensOf(t testing.TB, dir string, m *Manifest, s Split) (tokens []int32) {
	t.Helper()
	for _, f := range s.Files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		for ; len(b) > 0; b = b[widthOf(m.Dtype):] {
			if m.Dtype == Uint16 {
				tokens = append(tokens, int32(binary.LittleEndian.Uint16(b)))
			} else {
				tokens = append(tokens, int32(binary.LittleEndian.Uint32(b)))
			}
		}
	}
	return tokens
}

// documentsOf cuts tokens at the ends of texts.
func documentsOf(t testing.TB, tok Tokenizer, tokens []int32) (docs []string) {
	t.Helper()
	from := 0
	for i, token := range tokens {
		if token != tok.EndOfText() {
			continue
		}
		text, err := tok.Decode(nil, tokens[from:i])
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, string(text))
		from = i + 1
	}
	if from != len(tokens) {
		t.Fatalf("%d tokens behind the last end of a text", len(tokens)-from)
	}
	return docs
}

func folder(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func sameFolder(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name, b := range want {
		if got[name] != b {
			t.Errorf("%s differs", name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there too", name)
		}
	}
}

func TestPrepareKeepsEveryDocumentOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	docs := sayings(t, 3000)
	for _, tok := range []Tokenizer{Bytes{}, testBPE(t)} {
		for _, dtype := range []string{"auto", Uint32} {
			dir := t.TempDir()
			cfg := usual(filepath.Join(dir, "out"), tok,
				write(t, dir, "a.jsonl", jsonLines(t, docs[:1000])), write(t, dir, "b.jsonl.gz", zipped(t, jsonLines(t, docs[1000:1500]))),
				write(t, dir, "c.ndjson.zst", zstdOf(t, jsonLines(t, docs[1500:]))))
			cfg.Dtype = dtype
			m := prepare(t, cfg)
			train, held := documentsOf(t, tok, tokensOf(t, cfg.Out, m, m.Train)), documentsOf(t, tok, tokensOf(t, cfg.Out, m, m.HeldOut))
			if len(held) != 300 || len(train) != 2700 {
				t.Fatalf("%d and %d documents", len(train), len(held))
			}
			// Both splits keep the order; together they are all.
			i, j := 0, 0
			for _, d := range docs {
				switch {
				case i < len(train) && train[i] == d:
					i++
				case j < len(held) && held[j] == d:
					j++
				default:
					t.Fatalf("document %.20q is lost", d)
				}
			}
			if want := int64(len(strings.Join(docs, ""))); m.Train.Bytes+m.HeldOut.Bytes != want || m.Train.Documents != 2700 {
				t.Errorf("the manifest says %+v and %+v, want %d bytes", m.Train, m.HeldOut, want)
			}
		}
	}
}

// A text file is cut into stretches where this changes no token.
func TestStretchesChangeNoToken(t *testing.T) {
	tok := testBPE(t)
	text := []byte(strings.Join(sayings(t, 4000), ""))
	for _, pattern := range []pattern{patternGPT2, patternLlama3} {
		tok.cut.pattern = pattern
		want := append(tok.Encoder()(nil, text), tok.EndOfText())
		for name, b := range map[string][]byte{"a.txt": text, "a.txt.gz": zipped(t, text), "a.md.zst": zstdOf(t, text), "bom": append([]byte(byteOrderMark), text...)} {
			dir := t.TempDir()
			cfg := usual(filepath.Join(dir, "out"), tok, write(t, dir, name, b))
			cfg.HeldOut = 0
			m := prepare(t, cfg)
			got := tokensOf(t, cfg.Out, m, m.Train)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %d tokens, want %d, or others", name, len(got), len(want))
			}
			if m.Train.Documents != 1 || m.HeldOut.Tokens != 0 || m.Train.Bytes != int64(len(text)) {
				t.Errorf("%s: %+v", name, m.Train)
			}
		}
	}
}

// Of one text, stretches are held out, and each side marks where it breaks off.
func TestPartsOfOneTextAreHeldOut(t *testing.T) {
	text := strings.Join(sayings(t, 900), "")
	dir := t.TempDir()
	cfg := usual(filepath.Join(dir, "out"), Bytes{}, write(t, dir, "a.txt", []byte(text)))
	m := prepare(t, cfg)
	train, held := documentsOf(t, Bytes{}, tokensOf(t, cfg.Out, m, m.Train)), documentsOf(t, Bytes{}, tokensOf(t, cfg.Out, m, m.HeldOut))
	if len(held) < 3 || len(train) < 3 {
		t.Fatalf("%d and %d parts", len(train), len(held))
	}
	if share := float64(m.HeldOut.Bytes) / float64(len(text)); share < 0.05 || share > 0.15 {
		t.Errorf("%.2f of the text is held out", share)
	}
	for rest := text; len(train)+len(held) > 0; {
		switch {
		case len(train) > 0 && strings.HasPrefix(rest, train[0]):
			rest, train = rest[len(train[0]):], train[1:]
		case len(held) > 0 && strings.HasPrefix(rest, held[0]):
			rest, held = rest[len(held[0]):], held[1:]
		default:
			t.Fatalf("nothing goes on with %.30q", rest)
		}
	}
}

func TestBytesDoNotDependOnThreads(t *testing.T) {
	docs := sayings(t, 3000)
	dir := t.TempDir()
	in := write(t, dir, "a.jsonl", jsonLines(t, docs))
	one := usual(filepath.Join(dir, "one"), testBPE(t), in)
	one.Threads = 1
	prepare(t, one)
	four := usual(filepath.Join(dir, "four"), testBPE(t), in)
	four.Threads = 4
	prepare(t, four)
	sameFolder(t, folder(t, four.Out), folder(t, one.Out))
}

func TestFilesTogetherAreTheTokens(t *testing.T) {
	dir := t.TempDir()
	in := write(t, dir, "a.jsonl", jsonLines(t, sayings(t, 500)))
	one := usual(filepath.Join(dir, "one"), testBPE(t), in)
	whole := prepare(t, one)
	many := usual(filepath.Join(dir, "many"), testBPE(t), in)
	many.FileSize = 777
	m := prepare(t, many)
	if len(m.Train.Files) < 10 {
		t.Fatalf("%d files", len(m.Train.Files))
	}
	if !slices.Equal(tokensOf(t, many.Out, m, m.Train), tokensOf(t, one.Out, whole, whole.Train)) {
		t.Error("other tokens")
	}
	for _, f := range m.Train.Files[:len(m.Train.Files)-1] {
		if f.Tokens != 777 {
			t.Errorf("%s holds %d tokens", f.Name, f.Tokens)
		}
	}
}

var errCrash = errors.New("crash")

// Killed ahead of any change on disk, again and again, the folder ends with the
// same bytes as when nothing happens.
func TestKilledAndResumedGivesTheSameBytes(t *testing.T) {
	docs := sayings(t, 600)
	dir := t.TempDir()
	inputs := []string{
		write(t, dir, "a.jsonl", jsonLines(t, docs[:250])), write(t, dir, "b.txt", []byte(strings.Join(docs[250:400], ""))),
		write(t, dir, "c.jsonl.gz", zipped(t, jsonLines(t, docs[400:]))),
	}
	config := func(name string) PrepareConfig {
		cfg := usual(filepath.Join(dir, name), testBPE(t), inputs...)
		cfg.FileSize, cfg.saveEvery = 20_000, 1
		return cfg
	}
	prepare(t, config("whole"))
	want := folder(t, filepath.Join(dir, "whole"))
	crashes := 0
	for step := 1; ; step++ {
		cfg := config(fmt.Sprint("crash", step))
		n := 0
		cfg.before = func(string) error {
			if n++; n == step {
				return errCrash
			}
			return nil
		}
		_, err := Prepare(context.Background(), cfg)
		if err == nil {
			break
		}
		if !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		crashes++
		prepare(t, config(fmt.Sprint("crash", step)))
		got := folder(t, cfg.Out)
		sameFolder(t, got, want)
		if t.Failed() {
			t.Fatalf("killed at change %d", step)
		}
	}
	if crashes < 10 {
		t.Errorf("only %d places to be killed at", crashes)
	}
	// One folder that is killed a step later each time.
	cfg := config("often")
	for step := 2; ; step++ {
		n := 0
		cfg.before = func(string) error {
			if n++; n == step {
				return errCrash
			}
			return nil
		}
		if _, err := Prepare(context.Background(), cfg); err == nil {
			break
		}
	}
	sameFolder(t, folder(t, cfg.Out), want)
}

func TestStoppedPreparationGoesOn(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	docs := sayings(t, 6000)
	cfg := usual(filepath.Join(dir, "out"), testBPE(t), write(t, dir, "a.jsonl", jsonLines(t, docs)))
	whole := cfg
	whole.Out = filepath.Join(dir, "whole")
	prepare(t, whole)
	ctx, cancel := context.WithCancel(context.Background())
	cfg.Report = func(PrepareReport) { cancel() }
	_, err := Prepare(ctx, cfg)
	var unfinished *Unfinished
	if !errors.As(err, &unfinished) || !strings.Contains(err.Error(), "the same command goes on") {
		t.Fatalf("%v", err)
	}
	if _, err := OpenDataset(cfg.Out, ""); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("an unfinished folder opens: %v", err)
	}
	resumed := int64(0)
	cfg.Report = func(r PrepareReport) { resumed = r.ResumedTokens }
	prepare(t, cfg)
	if resumed == 0 {
		t.Error("began anew")
	}
	sameFolder(t, folder(t, cfg.Out), folder(t, whole.Out))
}

func TestPrepareLeavesWholeAndForeignFoldersAlone(t *testing.T) {
	dir := t.TempDir()
	in := write(t, dir, "a.jsonl", jsonLines(t, sayings(t, 100)))
	cfg := usual(filepath.Join(dir, "out"), testBPE(t), in)
	prepare(t, cfg)
	was := folder(t, cfg.Out)
	prepare(t, cfg)
	sameFolder(t, folder(t, cfg.Out), was)
	for key, change := range map[string]func(*PrepareConfig){
		"tokenizer": func(c *PrepareConfig) { c.Tokenizer = Bytes{} }, "inputs": func(c *PrepareConfig) { c.Inputs = []string{in, in} },
		"field": func(c *PrepareConfig) { c.Field = "body" }, "dtype": func(c *PrepareConfig) { c.Dtype = Uint32 },
		"held-out": func(c *PrepareConfig) { c.HeldOut = 0.2 }, "file size": func(c *PrepareConfig) { c.FileSize = 5 },
	} {
		other := cfg
		change(&other)
		if _, err := Prepare(context.Background(), other); err == nil || !strings.Contains(err.Error(), "another "+key) {
			t.Errorf("another %s: %v", key, err)
		}
	}
	foreign := t.TempDir()
	write(t, foreign, "letter.txt", []byte("dear"))
	cfg.Out = foreign
	if _, err := Prepare(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "letter.txt") {
		t.Errorf("a foreign folder: %v", err)
	}
}

func TestWrongInputIsNamed(t *testing.T) {
	good := string(jsonLines(t, sayings(t, 3)))
	long := `{"text":"` + strings.Repeat("x", MaxDocument+1) + `"}`
	for _, c := range []struct {
		name, content, want string
		tok                 Tokenizer
	}{
		{"a.jsonl", good + "{\n", "a.jsonl:4: not a JSON object", nil},
		{"a.jsonl", good + "\n\n[1]\n", "a.jsonl:6: not a JSON object", nil},
		{"a.jsonl", good + `{"body":"x","id":3}`, `a.jsonl:4: no field "text": name the field that holds the text with --field (there are: body, id)`, nil},
		{"a.jsonl", good + `{"text":7}`, `a.jsonl:4: field "text" holds 7, a text is needed`, nil},
		{"a.jsonl", good + `{"text":null}`, `holds null`, nil},
		{"a.jsonl", good + `{"text":"a\u0000b"}`, "a.jsonl:4: the document holds a NUL", Bytes{}},
		{"a.jsonl", good + long, "a.jsonl:4: a document of 16777217 bytes", nil},
		{"a.jsonl.gz", string(zipped(t, []byte(good+good))[:120]), "cut short", nil},
		{"a.jsonl.zst", string(zstdOf(t, []byte(good+good))[:120]), "a.jsonl.zst:", nil},
		{"a.txt.gz", string(zipped(t, []byte(good+good))[:120]), "cut short", nil},
		{"a.txt.gz", "\x1f\x8b\x00", "a.txt.gz", nil},
		{"a.txt", good + "\x00", "NUL", nil},
		{"a.txt", strings.Repeat("\xe9\xe8", 300), "not UTF-8", nil},
		{"a.txt", "", "no text", nil},
		{"a.txt", "one word", "nothing was held out", nil},
		{"a.parquet", "PAR1", "without a Parquet reader", nil},
		{"a.json", `[{"text":"x"}]`, "a.json:1: not a JSON object", nil},
	} {
		dir := t.TempDir()
		cfg := usual(filepath.Join(dir, "out"), c.tok, write(t, dir, c.name, []byte(c.content)))
		if c.tok == nil {
			cfg.Tokenizer = testBPE(t)
		}
		if _, err := Prepare(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %.30q: %v, want %q", c.name, c.content, err, c.want)
		}
	}
}

// TestVanishingShareIsNotTakenForNone asks for a share so small that its inverse is no whole number any more.
func TestVanishingShareIsNotTakenForNone(t *testing.T) {
	dir := t.TempDir()
	cfg := usual(filepath.Join(dir, "out"), Bytes{}, write(t, dir, "a.txt", prose("a", 20_000)))
	cfg.HeldOut = 1e-300
	if _, err := Prepare(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "nothing was held out") {
		t.Errorf("a share of %g: %v", cfg.HeldOut, err)
	}
}

func TestInputsAreFoundByFolderAndGlob(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.jsonl", "a.txt", "sub/c.md", "sub/d.txt.gz", ".hidden.txt", "e.parquet"} {
		write(t, dir, name, []byte("x"))
	}
	write(t, dir, "film.bin", []byte{1, 0, 2})
	write(t, dir, "empty.txt", nil)
	for _, c := range []struct{ path, format, want string }{
		{"", "auto", "a.txt:text b.jsonl:jsonl e.parquet:parquet c.md:text d.txt.gz:text"},
		{"", "text", "a.txt:text c.md:text d.txt.gz:text"},
		{"", "parquet", "e.parquet:parquet"},
		{"[ae]*.txt", "auto", "a.txt:text empty.txt:text"},
		{"a.txt", "jsonl", "a.txt:jsonl"},
	} {
		found, err := listInputs([]string{filepath.Join(dir, c.path)}, c.format, "")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, in := range found {
			got = append(got, filepath.Base(in.path)+":"+in.format)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q as %s: %s, want %s", c.path, c.format, got, c.want)
		}
	}
	for _, path := range []string{"gone.txt", "*.zip", "[", "sub/../.hid"} {
		if _, err := listInputs([]string{filepath.Join(dir, path)}, "auto", ""); err == nil {
			t.Errorf("%s was found", path)
		}
	}
}

func TestPrepareConfigIsValidated(t *testing.T) {
	err := PrepareConfig{HeldOut: 0.9, Format: "pdf", Dtype: "float", Threads: -1}.Validate()
	for _, want := range []string{"input", "folder", "tokenizer", `"pdf"`, "field", `"float"`, "0.9", "files of 0", "-1 threads"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %s", err, want)
		}
	}
}

// FuzzJSONLines takes any bytes for JSON lines: an error with a line, or documents
// that come back.
func FuzzJSONLines(f *testing.F) {
	f.Add([]byte(`{"text":"a"}` + "\n\n" + `{"text":"\ud800 \u00e9\n"}`))
	f.Add([]byte(`{"text":` + "\n"))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "a.jsonl")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := newUnitReader([]input{{path: path, format: formatJSONL, size: int64(len(b))}}, "text", nil, true, position{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		for {
			text, last, err := r.next(nil)
			if err != nil {
				if !strings.HasPrefix(err.Error(), path+":") && err.Error() != "EOF" {
					t.Fatalf("%v names no line", err)
				}
				return
			}
			if len(text) == 0 || !last || bytes.IndexByte(text, 0) >= 0 {
				t.Fatalf("document %q, last %v", text, last)
			}
			if at := r.position(); at.Offset > int64(len(b)) || at.Line < 1 {
				t.Fatalf("at %+v", at)
			}
		}
	})
}

func BenchmarkPrepare(b *testing.B) {
	docs := sayings(b, 20_000)
	dir := b.TempDir()
	lines := jsonLines(b, docs)
	in := filepath.Join(dir, "a.jsonl")
	if err := os.WriteFile(in, lines, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(lines)))
	i := 0
	for b.Loop() {
		cfg := usual(filepath.Join(dir, fmt.Sprint(i)), testBPE(b), in)
		cfg.Threads = 1
		prepare(b, cfg)
		i++
	}
}
