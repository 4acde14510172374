package data

import (
	"unicode"
	"unicode/utf8"
)

// pattern is a rule by which text is cut into pieces before pairs are merged;
// tokens never cross the border of two pieces. The rules are published as
// regular expressions with a look-ahead, which Go's regexp does not have, and
// are written out by hand here, in one pass.
type pattern int

const (
	// patternGPT2 is the rule of GPT-2 (Radford et al. 2019, encoder.py).
	patternGPT2 pattern = iota
	// patternLlama3 is the rule of Llama 3, with digits in groups of three.
	patternLlama3
	// patternQwen2 is the same with every digit on its own.
	patternQwen2
)

// Expressions of the rules, as they stand in tokenizer.json.
const (
	expressionGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	expressionLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	expressionQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// next returns the length of the first piece of text, which is not empty.
func (p pattern) next(text []byte) int {
	switch p {
	case patternLlama3:
		return pieceLlama3(text, 3)
	case patternQwen2:
		return pieceLlama3(text, 1)
	case patternGPT2:
	}
	return pieceGPT2(text)
}

// charClass is what the rules tell apart.
type charClass uint8

const (
	classOther charClass = iota // also bytes that are not UTF-8
	classSpace
	classLetter
	classNumber
)

// classOf returns the class and the length of the first character of text, which
// is not empty.
func classOf(text []byte) (charClass, int) {
	c := text[0]
	switch {
	case c >= utf8.RuneSelf:
		return classOfRune(text)
	case c|0x20 >= 'a' && c|0x20 <= 'z':
		return classLetter, 1
	case c == ' ' || c >= '\t' && c <= '\r':
		return classSpace, 1
	case c >= '0' && c <= '9':
		return classNumber, 1
	}
	return classOther, 1
}

func classOfRune(text []byte) (charClass, int) {
	r, n := utf8.DecodeRune(text)
	switch {
	case unicode.IsLetter(r):
		return classLetter, n
	case unicode.IsSpace(r):
		return classSpace, n
	case unicode.IsNumber(r):
		return classNumber, n
	}
	return classOther, n
}

// run returns where the characters of one class end that begin at from.
func run(text []byte, from int, class charClass) int {
	for from < len(text) {
		c, n := classOf(text[from:])
		if c != class {
			break
		}
		from += n
	}
	return from
}

func pieceGPT2(text []byte) int {
	if n := contraction(text, false); n > 0 {
		return n
	}
	start := 0
	if text[0] == ' ' && len(text) > 1 {
		start = 1
	}
	if class, _ := classOf(text[start:]); class != classSpace {
		return run(text, start, class)
	}
	return spaces(text)
}

// spaces is the length of a piece of white space. When something follows, its
// last character is left over: a blank joins the word behind it.
func spaces(text []byte) int {
	end, last := 0, 0
	for end < len(text) {
		class, n := classOf(text[end:])
		if class != classSpace {
			if last > 0 {
				return last
			}
			return end
		}
		last = end
		end += n
	}
	return end
}

// pieceLlama3 takes digits in groups of at most digits.
func pieceLlama3(text []byte, digits int) int {
	if n := contraction(text, true); n > 0 {
		return n
	}
	class, n := classOf(text)
	line := text[0] == '\r' || text[0] == '\n'
	switch {
	case class == classLetter:
		return run(text, n, classLetter)
	case class == classNumber:
		end := n
		for count := 1; count < digits && end < len(text); count++ {
			c, n := classOf(text[end:])
			if c != classNumber {
				break
			}
			end += n
		}
		return end
	case !line && n < len(text):
		// Any one character may lead a word.
		if c, _ := classOf(text[n:]); c == classLetter {
			return run(text, n, classLetter)
		}
	}
	start := 0
	if text[0] == ' ' && len(text) > 1 {
		start = 1
	}
	if c, _ := classOf(text[start:]); c == classOther {
		end := run(text, start, classOther)
		for end < len(text) && (text[end] == '\r' || text[end] == '\n') {
			end++
		}
		return end
	}
	return lines(text)
}

// lines is a piece of white space that ends with the last line break in it, and
// spaces where there is none.
func lines(text []byte) int {
	end, last := 0, 0
	for end < len(text) {
		class, n := classOf(text[end:])
		if class != classSpace {
			break
		}
		end += n
		if c := text[end-1]; c == '\r' || c == '\n' {
			last = end
		}
	}
	if last > 0 {
		return last
	}
	return spaces(text)
}

// contraction returns the length of 's, 't, 're, 've, 'm, 'll or 'd at the start
// of text, in any case when fold is set, or 0.
func contraction(text []byte, fold bool) int {
	if len(text) < 2 || text[0] != '\'' {
		return 0
	}
	lower := func(c byte) byte {
		if fold && c >= 'A' && c <= 'Z' {
			return c | 0x20
		}
		return c
	}
	switch lower(text[1]) {
	case 's', 't', 'm', 'd':
		return 2
	case 0xc5:
		if fold && len(text) > 2 && text[2] == 0xbf { // ſ, which folds to s
			return 3
		}
	}
	if len(text) < 3 {
		return 0
	}
	switch [2]byte{lower(text[1]), lower(text[2])} {
	case [2]byte{'r', 'e'}, [2]byte{'v', 'e'}, [2]byte{'l', 'l'}:
		return 3
	}
	return 0
}

// firstDigit returns where the first number character of text stands, and its
// length; without one it returns len(text).
func firstDigit(text []byte) (at, length int) {
	for at < len(text) {
		class, n := classOf(text[at:])
		if class == classNumber {
			return at, n
		}
		at += n
	}
	return at, 0
}
