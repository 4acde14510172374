package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// TrainBPEConfig says what a tokenizer is learned from.
type TrainBPEConfig struct {
	Inputs []string // as for Prepare
	Format string
	Field  string
	Vocab  int   // tokens, with the 256 bytes and the end of a text
	Limit  int64 // bytes of text to read; 0 is all

	Parquet OpenDocuments
	// Report hears how it goes on: first of the text, then of the merges.
	Report func(TrainBPEReport)

	maxPieces int // distinct ones that are kept; 0 is usualPieces
}

// TrainBPEReport tells how learning goes on.
type TrainBPEReport struct {
	Read, Size int64 // bytes on disk
	Bytes      int64 // of text
	Pieces     int   // distinct ones
	Tokens     int   // learned so far, 0 while text is read
}

// Bounds of a learned vocabulary.
const (
	minLearned = 256 + 1
	// usualPieces bounds memory: with more distinct pieces those that occur least
	// are forgotten, which changes rare merges only. About a gigabyte.
	usualPieces = 1 << 22
	// minCount is how often a pair must occur to become a token.
	minCount = 2
)

// endText is the special token of a learned vocabulary, its last.
const endText = "<|endoftext|>"

// Validate lists every fault.
func (c TrainBPEConfig) Validate() error {
	var faults []error
	if len(c.Inputs) == 0 {
		faults = append(faults, errors.New("no input: name files, folders or quoted globs"))
	}
	if !slices.Contains(Formats(), c.Format) {
		faults = append(faults, fmt.Errorf("format %q: allowed are %v", c.Format, Formats()))
	}
	if c.Field == "" {
		faults = append(faults, errors.New("no field"))
	}
	if c.Vocab < minLearned || c.Vocab > MaxVocabulary {
		faults = append(faults, fmt.Errorf("a vocabulary of %d: allowed are %d to %d", c.Vocab, minLearned, MaxVocabulary))
	}
	if c.Limit < 0 {
		faults = append(faults, fmt.Errorf("a limit of %d bytes", c.Limit))
	}
	return errors.Join(faults...)
}

// TrainBPE learns a byte-level BPE from text, cut by GPT-2's rule: the pair that
// occurs most often becomes a token, of equals the one whose left, then right,
// token has the lower number. Bytes are numbered in the order of their written
// form, as Hugging Face's trainer does, so that both learn the same merges. The
// same text gives the same tokenizer. It has fewer tokens than asked for when no
// pair occurs twice any more.
func TrainBPE(ctx context.Context, cfg TrainBPEConfig) (*BPE, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.maxPieces == 0 {
		cfg.maxPieces = usualPieces
	}
	if cfg.Report == nil {
		cfg.Report = func(TrainBPEReport) {}
	}
	inputs, err := listInputs(cfg.Inputs, cfg.Format, "")
	if err != nil {
		return nil, err
	}
	l := newLearner()
	if err := l.read(ctx, cfg, inputs); err != nil {
		return nil, err
	}
	if err := l.learn(ctx, cfg); err != nil {
		return nil, err
	}
	return l.tokenizer()
}

// learner keeps the distinct pieces of a text and the pairs in them.
type learner struct {
	seen  map[string]int64 // how often a piece occurs
	words []word
	pairs map[uint64]*pairCount
	best  queue[rated]

	texts  []string // of the tokens, in the written alphabet
	number map[string]int32
	merges []pairText
	merged map[uint64]bool
	report TrainBPEReport
}

// word is a piece as tokens so far.
type word struct {
	tokens []int32
	count  int64
}

// pairCount is how often a pair occurs, and in which words it may be found.
type pairCount struct {
	count int64
	words []int32
}

// rated is a pair with its count when it was queued, which may have fallen since.
type rated struct {
	pair  uint64
	count int64
}

func newLearner() *learner {
	l := &learner{
		seen: make(map[string]int64), pairs: make(map[uint64]*pairCount), number: make(map[string]int32), merged: make(map[uint64]bool),
		best: queue[rated]{before: func(a, b rated) bool { return a.count > b.count || a.count == b.count && a.pair < b.pair }},
	}
	alphabet := runeOfByte()
	runes := slices.Sorted(slices.Values(alphabet[:]))
	for _, r := range runes {
		l.token(string(r))
	}
	return l
}

// token returns the number of a token, a new one unless another merge gave it.
func (l *learner) token(text string) int32 {
	id, known := l.number[text]
	if !known {
		id = int32(len(l.texts))
		l.texts = append(l.texts, text)
		l.number[text] = id
	}
	return id
}

// read counts the pieces of the text.
func (l *learner) read(ctx context.Context, cfg TrainBPEConfig, inputs []input) error {
	r, err := newUnitReader(inputs, cfg.Field, cfg.Parquet, false, position{})
	if err != nil {
		return err
	}
	for _, in := range inputs {
		l.report.Size += in.size
	}
	var buf []byte
	for cfg.Limit == 0 || l.report.Bytes < cfg.Limit {
		buf, _, err = r.next(buf[:0])
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			break
		}
		if cfg.Limit > 0 {
			buf = buf[:min(int64(len(buf)), cfg.Limit-l.report.Bytes)]
		}
		l.report.Bytes += int64(len(buf))
		cutting{}.each(buf, func(piece []byte) { l.seen[string(piece)]++ })
		for least := int64(1); len(l.seen) > cfg.maxPieces; least++ {
			l.forget(least)
		}
		l.report.Read, l.report.Pieces = r.bytesRead(), len(l.seen)
		cfg.Report(l.report)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return errors.Join(err, r.close())
	}
	if len(l.seen) == 0 {
		return errors.Join(errors.New("learn tokens: no text in the inputs: name files with text"), r.close())
	}
	return r.close()
}

// forget drops the pieces that occur least times.
func (l *learner) forget(least int64) {
	for piece, count := range l.seen {
		if count <= least {
			delete(l.seen, piece)
		}
	}
}

// learn merges pairs until there are enough tokens.
func (l *learner) learn(ctx context.Context, cfg TrainBPEConfig) error {
	l.spell()
	for len(l.texts) < cfg.Vocab-1 {
		top, ok := l.best.pop()
		if !ok || top.count < minCount {
			break
		}
		p := l.pairs[top.pair]
		if p == nil || p.count != top.count {
			if p != nil && p.count >= minCount {
				l.best.push(rated{top.pair, p.count})
			}
			continue
		}
		l.merge(top.pair, p)
		if len(l.merges)%256 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			l.report.Tokens = len(l.texts) + 1
			cfg.Report(l.report)
		}
	}
	l.report.Tokens = len(l.texts) + 1
	cfg.Report(l.report)
	return nil
}

// spell turns pieces into words of bytes and counts their pairs.
func (l *learner) spell() {
	alphabet := runeOfByte()
	var ofByte [256]int32
	for b, r := range alphabet {
		ofByte[b] = l.number[string(r)]
	}
	// In a fixed order, so that memory is laid out alike each time.
	pieces := make([]string, 0, len(l.seen))
	for piece := range l.seen {
		pieces = append(pieces, piece)
	}
	slices.Sort(pieces)
	for _, piece := range pieces {
		w := word{tokens: make([]int32, len(piece)), count: l.seen[piece]}
		for i := range len(piece) {
			w.tokens[i] = ofByte[piece[i]]
		}
		l.words = append(l.words, w)
		for i := 1; i < len(w.tokens); i++ {
			l.change(pairKey(w.tokens[i-1], w.tokens[i]), w.count, int32(len(l.words)-1))
		}
	}
	l.seen = nil
	for pair, p := range l.pairs {
		l.best.push(rated{pair, p.count})
	}
}

// change adds to a pair's count. A word is noted where the pair is new in it.
func (l *learner) change(pair uint64, by int64, in int32) {
	p := l.pairs[pair]
	if p == nil {
		p = new(pairCount)
		l.pairs[pair] = p
	}
	p.count += by
	if n := len(p.words); by > 0 && (n == 0 || p.words[n-1] != in) {
		p.words = append(p.words, in)
	}
}

// merge makes a token of a pair, in every word.
func (l *learner) merge(pair uint64, p *pairCount) {
	left, right := int32(pair>>32), int32(uint32(pair))
	if !l.merged[pair] { // two ways to one token can bring a pair back
		l.merged[pair] = true
		l.merges = append(l.merges, pairText{l.texts[left], l.texts[right]})
	}
	token := l.token(l.texts[left] + l.texts[right])
	grown := make(map[uint64]bool)
	for _, at := range p.words {
		l.mergeWord(at, left, right, token, grown)
	}
	delete(l.pairs, pair)
	delete(grown, pair)
	for g := range grown {
		if p := l.pairs[g]; p != nil && p.count >= minCount {
			l.best.push(rated{g, p.count})
		}
	}
}

// mergeWord merges a pair in one word from left to right, changes the counts of
// the pairs beside it and notes those that may have grown.
func (l *learner) mergeWord(at, left, right, token int32, grown map[uint64]bool) {
	w := &l.words[at]
	t := w.tokens
	n := 0 // tokens written so far
	for i := 0; i < len(t); i++ {
		if i+1 == len(t) || t[i] != left || t[i+1] != right {
			t[n] = t[i]
			n++
			continue
		}
		if n > 0 {
			l.change(pairKey(t[n-1], left), -w.count, at)
			l.change(pairKey(t[n-1], token), w.count, at)
			grown[pairKey(t[n-1], token)] = true
		}
		if i+2 < len(t) {
			l.change(pairKey(right, t[i+2]), -w.count, at)
			l.change(pairKey(token, t[i+2]), w.count, at)
			grown[pairKey(token, t[i+2])] = true
		}
		t[n] = token
		n++
		i++
	}
	w.tokens = t[:n]
}

// tokenizer writes what was learned as a tokenizer.json and reads it.
func (l *learner) tokenizer() (*BPE, error) {
	f := newTokenizerFile()
	f.Model.Vocab = make(map[string]int, len(l.texts))
	for text, id := range l.number {
		f.Model.Vocab[text] = int(id)
	}
	f.Model.Merges = l.merges
	f.Added = []addedToken{{ID: len(l.texts), Content: endText, Special: true}}
	return ParseTokenizer(f.encode(), endText)
}
