package data

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// TokenizerFile is the name under which a tokenizer is kept beside its data and
// beside a model, as other tools expect it.
const TokenizerFile = "tokenizer.json"

// MaxTokenizerFile bounds tokenizer.json, in bytes.
const MaxTokenizerFile = 64 << 20

// ends lists what is taken for the end of a text when nobody says, in this order.
func ends() []string {
	return []string{endOfTextGPT2, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>"}
}

// OpenTokenizer reads a tokenizer: a tokenizer.json, or a folder that holds one,
// or GPT-2's two files (encoder.json and vocab.bpe, or vocab.json and
// merges.txt). endOfText is the text of the token that ends a document; empty
// takes the first known one that the file has.
func OpenTokenizer(path, endOfText string) (*BPE, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w: name a tokenizer.json or a folder that holds one", err)
	}
	if !info.IsDir() {
		return openTokenizerFile(path, endOfText)
	}
	if file := filepath.Join(path, TokenizerFile); exists(file) {
		return openTokenizerFile(file, endOfText)
	}
	for _, pair := range [][2]string{{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}} {
		vocab, merges := filepath.Join(path, pair[0]), filepath.Join(path, pair[1])
		if exists(vocab) && exists(merges) {
			return openGPT2(vocab, merges, endOfText)
		}
	}
	return nil, fmt.Errorf("open tokenizer: folder %s holds neither %s nor encoder.json with vocab.bpe nor vocab.json with merges.txt", path, TokenizerFile)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func openTokenizerFile(path, endOfText string) (*BPE, error) {
	b, err := readBounded(path, MaxTokenizerFile)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	t, err := ParseTokenizer(b, endOfText)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer %s: %w", path, err)
	}
	t.name = filepath.Base(filepath.Dir(absolute(path))) + "/" + filepath.Base(path)
	return t, nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s holds more than %d bytes", path, limit)
	}
	return b, err
}

// openGPT2 reads the two files of GPT-2's release: a JSON object from the text of
// a token to its number, and one merge a line.
func openGPT2(vocabPath, mergesPath, endOfText string) (*BPE, error) {
	b, err := readBounded(vocabPath, MaxTokenizerFile)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	vocab := make(map[string]int)
	if err := json.Unmarshal(b, &vocab); err != nil {
		return nil, fmt.Errorf("open tokenizer %s: %w: an object from token to number is expected", vocabPath, err)
	}
	if b, err = readBounded(mergesPath, MaxTokenizerFile); err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	f := newTokenizerFile()
	if f.Model.Merges, err = parseMerges(b); err != nil {
		return nil, fmt.Errorf("open tokenizer %s: %w", mergesPath, err)
	}
	for _, end := range slices.Concat([]string{endOfText}, ends()) {
		if id, ok := vocab[end]; ok {
			f.Added = append(f.Added, addedToken{ID: id, Content: end, Special: true})
			break
		}
	}
	f.Model.Vocab = vocab
	t, err := ParseTokenizer(f.encode(), endOfText)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer %s: %w", vocabPath, err)
	}
	t.name = filepath.Base(filepath.Dir(absolute(vocabPath))) + "/" + filepath.Base(vocabPath)
	return t, nil
}

// parseMerges reads vocab.bpe or merges.txt: one merge a line, in the order of their ranks.
func parseMerges(b []byte) (merges []pairText, err error) {
	n := 0
	for line := range bytes.Lines(b) {
		n++
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" || n == 1 && strings.HasPrefix(text, "#version") {
			continue
		}
		left, right, ok := strings.Cut(text, " ")
		if !ok || strings.Contains(right, " ") {
			return nil, fmt.Errorf("line %d is %.40q: two tokens with a blank between them are expected", n, text)
		}
		merges = append(merges, pairText{left, right})
	}
	return merges, nil
}

// tokenizerFile is the part of a Hugging Face tokenizer.json that matters here.
// What changes text before it is cut is refused: the tokens could not give the
// text back.
type tokenizerFile struct {
	Added      []addedToken    `json:"added_tokens"`
	Normalizer json.RawMessage `json:"normalizer"`
	Pre        *preTokenizer   `json:"pre_tokenizer"`
	Decoder    *struct {
		Type string `json:"type"`
	} `json:"decoder"`
	Model struct {
		Type         string         `json:"type"`
		Dropout      *float64       `json:"dropout"`
		Prefix       string         `json:"continuing_subword_prefix"`
		Suffix       string         `json:"end_of_word_suffix"`
		ByteFallback bool           `json:"byte_fallback"`
		IgnoreMerges bool           `json:"ignore_merges"`
		Vocab        map[string]int `json:"vocab"`
		Merges       []pairText     `json:"merges"`
	} `json:"model"`
}

type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

type preTokenizer struct {
	Type        string `json:"type"`
	PrefixSpace bool   `json:"add_prefix_space"`
	UseRegex    *bool  `json:"use_regex"`         // ByteLevel; absent is true
	Individual  bool   `json:"individual_digits"` // Digits
	Pattern     struct {
		Regex string `json:"Regex"`
	} `json:"pattern"` // Split
	Behavior string         `json:"behavior"`
	Invert   bool           `json:"invert"`
	Parts    []preTokenizer `json:"pretokenizers"` // Sequence
}

// pairText is a merge, written as "left right" or as a list of two.
type pairText [2]string

func (p *pairText) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var list []string
		if err := json.Unmarshal(b, &list); err != nil {
			return err
		}
		if len(list) != 2 {
			return fmt.Errorf("a merge of %d tokens, 2 are expected", len(list))
		}
		*p = pairText(list)
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	left, right, ok := strings.Cut(text, " ")
	if !ok {
		return fmt.Errorf("merge %.40q has no blank between two tokens", text)
	}
	*p = pairText{left, right}
	return nil
}

// ParseTokenizer reads a Hugging Face tokenizer.json: byte-level BPE cut by the
// rule of GPT-2, Llama 3 or Qwen 2. It refuses, saying which, whatever would make
// text come back changed (normalizers, an added blank in front). Post-processors
// are passed over: documents end with endOfText, see OpenTokenizer.
func ParseTokenizer(b []byte, endOfText string) (*BPE, error) {
	t, err := parseTokenizer(b)
	if err != nil {
		return nil, err
	}
	return t, t.chooseEnd(endOfText)
}

// parseTokenizer leaves open which token ends a document.
func parseTokenizer(b []byte) (*BPE, error) {
	if len(b) > MaxTokenizerFile {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", len(b), MaxTokenizerFile)
	}
	var f tokenizerFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("not a tokenizer.json: %w", err)
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	t := &BPE{name: TokenizerFile, file: b, merges: make(map[uint64]merge, len(f.Model.Merges)), special: make(map[string]int32), endOfText: -1}
	var err error
	if t.cut, err = f.Pre.cutting(); err != nil {
		return nil, err
	}
	if err := t.readVocab(&f); err != nil {
		return nil, err
	}
	if err := t.readMerges(&f); err != nil {
		return nil, err
	}
	return t, nil
}

func (f *tokenizerFile) check() error {
	m := &f.Model
	switch {
	case m.Type != "BPE" && (m.Type != "" || m.Merges == nil):
		return fmt.Errorf("a model of type %.20q: byte-level BPE is what this program reads", m.Type)
	case len(m.Vocab) == 0:
		return errors.New("no vocabulary")
	case len(m.Vocab)+len(f.Added) > MaxVocabulary || len(m.Merges) > MaxVocabulary:
		return fmt.Errorf("%d tokens and %d merges, at most %d of each are allowed", len(m.Vocab)+len(f.Added), len(m.Merges), MaxVocabulary)
	case m.Dropout != nil && *m.Dropout != 0:
		return errors.New("merges drop out at random: set model.dropout to null")
	case m.Prefix != "" || m.Suffix != "" || m.ByteFallback:
		return errors.New("words have prefixes, suffixes or byte fallback, as in SentencePiece: byte-level BPE is what this program reads")
	case len(f.Normalizer) > 0 && string(f.Normalizer) != "null":
		return errors.New("a normalizer changes the text, so that tokens would not give it back: set normalizer to null")
	case f.Decoder != nil && f.Decoder.Type != "ByteLevel":
		return fmt.Errorf("a decoder of type %.20q: ByteLevel is what this program reads", f.Decoder.Type)
	}
	for _, a := range f.Added {
		if a.SingleWord || a.LStrip || a.RStrip {
			return fmt.Errorf("added token %.40q takes in what stands beside it (single_word, lstrip or rstrip): set these to false", a.Content)
		}
	}
	return nil
}

// cutting reads how text is cut: ByteLevel with GPT-2's own rule, or Split with
// one of the known rules before a ByteLevel without; Digits may stand before.
func (p *preTokenizer) cutting() (cutting, error) {
	if p == nil {
		return cutting{}, errors.New("no pre_tokenizer: ByteLevel is what this program reads")
	}
	var c cutting
	parts := []preTokenizer{*p}
	if p.Type == "Sequence" {
		parts = p.Parts
	}
	split, level := false, false
	for _, part := range parts {
		switch {
		case part.PrefixSpace:
			return c, errors.New("a blank is added in front, so that tokens would not give the text back: set add_prefix_space to false")
		case level:
			return c, fmt.Errorf("a pre_tokenizer of type %.20q after ByteLevel is not supported", part.Type)
		case part.Type == "Digits" && part.Individual && !split:
			c.digits = true
		case part.Type == "Split" && part.Behavior == "Isolated" && !part.Invert && !split:
			known := map[string]pattern{expressionGPT2: patternGPT2, expressionLlama3: patternLlama3, expressionQwen2: patternQwen2}
			var ok bool
			if c.pattern, ok = known[part.Pattern.Regex]; !ok {
				return c, fmt.Errorf("text is split by %.60q: the rules of GPT-2, Llama 3 and Qwen 2 are what this program knows", part.Pattern.Regex)
			}
			split = true
		case part.Type == "ByteLevel" && split == (part.UseRegex != nil && !*part.UseRegex):
			level = true
		default:
			return c, fmt.Errorf("a pre_tokenizer of type %.20q in this place is not supported: ByteLevel is what this program reads", part.Type)
		}
	}
	if !level {
		return c, errors.New("no pre_tokenizer of type ByteLevel, without which not every text has tokens")
	}
	return c, nil
}

// readVocab fills texts, bytes, added and special.
func (t *BPE) readVocab(f *tokenizerFile) error {
	highest := 0
	for _, id := range f.Model.Vocab {
		highest = max(highest, id)
	}
	for _, a := range f.Added {
		highest = max(highest, a.ID)
	}
	if highest >= MaxVocabulary {
		return fmt.Errorf("a token has the number %d, below %d is allowed", highest, MaxVocabulary)
	}
	t.texts = make([]string, highest+1)
	literal := make(map[int]string) // added tokens are written as they are
	for _, a := range f.Added {
		if a.ID < 0 || a.Content == "" {
			return fmt.Errorf("added token %d %.40q: a number from 0 and a text are expected", a.ID, a.Content)
		}
		if was, twice := literal[a.ID]; twice && was != a.Content {
			return fmt.Errorf("added tokens %.40q and %.40q have the same number %d", was, a.Content, a.ID)
		}
		literal[a.ID] = a.Content
	}
	alphabet := byteOfRune()
	var raw []byte
	for written, id := range f.Model.Vocab {
		if id < 0 || t.texts[id] != "" {
			return fmt.Errorf("token %.40q has the number %d, which is negative or taken", written, id)
		}
		if content, ok := literal[id]; ok {
			if content != written {
				return fmt.Errorf("token %.40q and added token %.40q have the same number %d", written, content, id)
			}
			t.texts[id] = content
			continue
		}
		var ok bool
		if raw, ok = fromAlphabet(raw[:0], written, alphabet); !ok {
			return fmt.Errorf("token %d %.40q is not written in the byte-level alphabet", id, written)
		}
		t.texts[id] = string(raw)
	}
	for b, r := range runeOfByte() {
		id, ok := f.Model.Vocab[string(r)]
		if !ok || t.texts[id] != string([]byte{byte(b)}) {
			return fmt.Errorf("no token for the byte 0x%02x: a vocabulary of byte-level BPE has all 256", b)
		}
		t.bytes[b] = int32(id)
	}
	for _, a := range f.Added {
		t.texts[a.ID] = a.Content
		t.add(added{text: a.Content, token: int32(a.ID), special: a.Special})
	}
	if f.Model.IgnoreMerges {
		t.whole = make(map[string]int32, len(f.Model.Vocab))
		for written, id := range f.Model.Vocab {
			if _, ok := literal[id]; !ok && written != "" {
				t.whole[t.texts[id]] = int32(id)
			}
		}
	}
	return nil
}

func (t *BPE) add(a added) {
	if a.special {
		t.special[a.text] = a.token
	} else {
		t.ordinary = true
	}
	row := append(t.added[a.text[0]], a)
	slices.SortStableFunc(row, func(a, b added) int { return cmp.Compare(len(b.text), len(a.text)) })
	t.added[a.text[0]] = row
}

func (t *BPE) readMerges(f *tokenizerFile) error {
	vocab := f.Model.Vocab
	for rank, m := range f.Model.Merges {
		left, ok := vocab[m[0]]
		right, ok2 := vocab[m[1]]
		token, ok3 := vocab[m[0]+m[1]]
		if !ok || !ok2 || !ok3 {
			return fmt.Errorf("merge %d of %.40q and %.40q: one of them, or what they become, is not in the vocabulary", rank, m[0], m[1])
		}
		if t.texts[token] != t.texts[left]+t.texts[right] {
			return fmt.Errorf("merge %d of %.40q and %.40q becomes a special token", rank, m[0], m[1])
		}
		key := pairKey(int32(left), int32(right))
		if _, twice := t.merges[key]; twice {
			return fmt.Errorf("merge %d of %.40q and %.40q stands there twice", rank, m[0], m[1])
		}
		t.merges[key] = merge{rank: int32(rank), token: int32(token)}
	}
	return nil
}

// RestoreTokenizer reads the tokenizer that is kept beside a model: a tokenizer.json,
// or Bytes when there is none or when it does what Bytes does. endOfText is the token
// that ends a text there; below zero it is looked for, and the tokenizer has none when
// it is not found.
func RestoreTokenizer(file []byte, endOfText int32) (Tokenizer, error) {
	if file == nil {
		return Bytes{}, nil
	}
	t, err := parseTokenizer(file)
	if err != nil {
		return nil, err
	}
	if t.isBytes() {
		return Bytes{}, nil
	}
	if endOfText >= 0 {
		return t.WithEndOfText(endOfText)
	}
	_ = t.chooseEnd("") // without an end it still encodes and decodes
	return t, nil
}

// isBytes reports whether each token is the byte of its number.
func (t *BPE) isBytes() bool {
	for b, token := range t.bytes {
		if token != int32(b) {
			return false
		}
	}
	return len(t.texts) == Vocabulary && len(t.merges) == 0
}

// WithEndOfText returns the same tokenizer whose documents end with token.
func (t *BPE) WithEndOfText(token int32) (*BPE, error) {
	if token < 0 || int(token) >= len(t.texts) || t.texts[token] == "" {
		return nil, fmt.Errorf("texts end with token %d, which does not exist in %s", token, t.name)
	}
	other := *t
	other.endOfText = token
	return &other, nil
}

// chooseEnd finds the token that ends a document.
func (t *BPE) chooseEnd(text string) error {
	if text != "" {
		id, ok := t.special[text]
		if !ok {
			return fmt.Errorf("no special token %.40q to end a text with; there are: %s", text, t.specials())
		}
		t.endOfText = id
		return nil
	}
	for _, text := range ends() {
		if id, ok := t.special[text]; ok {
			t.endOfText = id
			return nil
		}
	}
	return fmt.Errorf("no known token ends a text: name one of its special tokens with --end-of-text (there are: %s)", t.specials())
}

func (t *BPE) specials() string {
	var names []string
	for text := range t.special {
		names = append(names, text)
	}
	if len(names) == 0 {
		return "none; add one to added_tokens"
	}
	slices.Sort(names)
	if len(names) > 8 {
		names = append(names[:8], "…")
	}
	return strings.Join(names, " ")
}

// runeOfByte is the alphabet in which byte-level tokens are written (GPT-2,
// bytes_to_unicode): printable Latin-1 stands for itself, the other bytes for the
// characters from U+0100 on.
func runeOfByte() (alphabet [256]rune) {
	next := rune(0x100)
	for b := range alphabet {
		switch {
		case b >= '!' && b <= '~', b >= 0xa1 && b <= 0xac, b >= 0xae:
			alphabet[b] = rune(b)
		default:
			alphabet[b] = next
			next++
		}
	}
	return alphabet
}

func byteOfRune() map[rune]byte {
	m := make(map[rune]byte, 256)
	for b, r := range runeOfByte() {
		m[r] = byte(b)
	}
	return m
}

// fromAlphabet appends the bytes that a token's written form stands for.
func fromAlphabet(dst []byte, written string, alphabet map[rune]byte) ([]byte, bool) {
	if written == "" || !utf8.ValidString(written) {
		return dst, false
	}
	for _, r := range written {
		b, ok := alphabet[r]
		if !ok {
			return dst, false
		}
		dst = append(dst, b)
	}
	return dst, true
}
