package data

import "fmt"

// Vocabulary is the number of tokens of the byte tokenizer.
const Vocabulary = 256

// MaxVocabulary bounds every tokenizer.
const MaxVocabulary = 1 << 20

// Tokenizer turns text into tokens and back: Bytes and BPE. It never changes and
// may be used by several goroutines.
type Tokenizer interface {
	// Vocab returns the number of tokens; all are in [0, Vocab).
	Vocab() int
	// EndOfText returns the token that follows each document; it is below zero
	// for a restored tokenizer that has none.
	EndOfText() int32
	// Encoder returns a function that appends the tokens of text to dst. The
	// text is taken as it is: tokens with a special meaning do not arise from it.
	// Each goroutine needs one of its own.
	Encoder() Encoder
	// Decode appends the text of tokens to dst; it undoes an Encoder. It fails
	// at a token that does not exist.
	Decode(dst []byte, tokens []int32) ([]byte, error)
	// File returns the content of tokenizer.json, nil for Bytes.
	File() []byte
	// Name says for people which tokenizer it is.
	Name() string
}

// Encoder appends the tokens of text to dst.
type Encoder func(dst []int32, text []byte) []int32

// Bytes is the tokenizer whose tokens are the bytes of the text.
type Bytes struct{}

// Vocab implements Tokenizer.
func (Bytes) Vocab() int { return Vocabulary }

// EndOfText implements Tokenizer.
func (Bytes) EndOfText() int32 { return int32(EndOfText) }

// Encoder implements Tokenizer.
func (Bytes) Encoder() Encoder { return Encode }

// Decode implements Tokenizer.
func (Bytes) Decode(dst []byte, tokens []int32) ([]byte, error) { return Decode(dst, tokens) }

// File implements Tokenizer.
func (Bytes) File() []byte { return nil }

// Name implements Tokenizer.
func (Bytes) Name() string { return "bytes" }

// Encode appends the tokens of text to dst: its bytes.
func Encode(dst []int32, text []byte) []int32 {
	for _, b := range text {
		dst = append(dst, int32(b))
	}
	return dst
}

// Decode appends the text of tokens to dst, or fails at a token outside of
// [0, Vocabulary).
func Decode(dst []byte, tokens []int32) ([]byte, error) {
	for i, t := range tokens {
		if t < 0 || t >= Vocabulary {
			return dst, fmt.Errorf("decode token %d: %d is outside of [0, %d)", i, t, Vocabulary)
		}
		dst = append(dst, byte(t))
	}
	return dst, nil
}
