package data

import (
	_ "embed"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// gpt2Merges is the vocab.bpe of GPT-2's release (OpenAI 2019, MIT licence), byte for
// byte but compressed; everything else of its vocabulary follows from it.
//
//go:embed gpt2.bpe.zst
var gpt2Merges []byte

// endOfTextGPT2 is the special token of GPT-2's vocabulary.
const endOfTextGPT2 = "<|endoftext|>"

// GPT2 returns GPT-2's tokenizer: 256 bytes, in the order of the characters that they
// are written with, what 50,000 merges become, and the end of a text. endOfText is as in
// OpenTokenizer.
func GPT2(endOfText string) (*BPE, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("read GPT-2's vocabulary: %w", err)
	}
	defer z.Close()
	b, err := z.DecodeAll(gpt2Merges, nil)
	if err != nil {
		return nil, fmt.Errorf("read GPT-2's vocabulary: %w", err)
	}
	f := newTokenizerFile()
	if f.Model.Merges, err = parseMerges(b); err != nil {
		return nil, fmt.Errorf("read GPT-2's vocabulary: %w", err)
	}
	vocab := make(map[string]int, Vocabulary+len(f.Model.Merges)+1)
	add := func(written string) { vocab[written] = len(vocab) }
	alphabet := runeOfByte()
	for _, itself := range []bool{true, false} {
		for b, r := range alphabet {
			if (r == rune(b)) == itself {
				add(string(r))
			}
		}
	}
	for _, m := range f.Model.Merges {
		add(m[0] + m[1])
	}
	f.Added = []addedToken{{ID: len(vocab), Content: endOfTextGPT2, Special: true}}
	add(endOfTextGPT2)
	f.Model.Vocab = vocab
	t, err := ParseTokenizer(f.encode(), endOfText)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer gpt2: %w", err)
	}
	t.name = "gpt2"
	return t, nil
}
