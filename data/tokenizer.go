package data

import "fmt"

// Vocabulary is the number of tokens of the byte tokenizer.
const Vocabulary = 256

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
