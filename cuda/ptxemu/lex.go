package ptxemu

import (
	"fmt"
	"strings"
)

// token is a word, number, text in quotes or a sign of PTX.
type token struct {
	text       string
	line       int
	start, end int
}

// lexer splits PTX. It keeps no copy: tokens are slices of the text.
type lexer struct {
	text string
	at   int
	line int
}

// next returns the next token; an empty one ends the text.
func (l *lexer) next() (token, error) {
	if err := l.blank(); err != nil {
		return token{}, err
	}
	start := l.at
	if start == len(l.text) {
		return token{line: l.line, start: start, end: start}, nil
	}
	c := l.text[start]
	l.at++
	switch {
	case c == '"':
		end := strings.IndexAny(l.text[l.at:], "\"\n")
		if end < 0 || l.text[l.at+end] == '\n' {
			return token{}, fmt.Errorf("line %d: a text has no closing quote", l.line)
		}
		l.at += end + 1
	case wordStart(c):
		for l.at < len(l.text) && (wordStart(l.text[l.at]) && l.text[l.at] != '%' || digit(l.text[l.at])) {
			l.at++
		}
	case digit(c):
		for l.at < len(l.text) && (wordStart(l.text[l.at]) && l.text[l.at] != '%' || digit(l.text[l.at]) || l.text[l.at] == '.') {
			l.at++
		}
	case strings.IndexByte(",;:{}[]()<>+-!@|=.", c) < 0:
		return token{}, fmt.Errorf("line %d: unexpected character %q", l.line, c)
	}
	return token{text: l.text[start:l.at], line: l.line, start: start, end: l.at}, nil
}

// blank skips spaces and comments.
func (l *lexer) blank() error {
	for l.at < len(l.text) {
		switch c := l.text[l.at]; {
		case c == '\n':
			l.line++
			l.at++
		case c == ' ' || c == '\t' || c == '\r' || c == 0 && l.at == len(l.text)-1: // NVRTC's texts end with a zero
			l.at++
		case strings.HasPrefix(l.text[l.at:], "//"):
			if end := strings.IndexByte(l.text[l.at:], '\n'); end >= 0 {
				l.at += end
			} else {
				l.at = len(l.text)
			}
		case strings.HasPrefix(l.text[l.at:], "/*"):
			end := strings.Index(l.text[l.at+2:], "*/")
			if end < 0 {
				return fmt.Errorf("line %d: a comment does not end", l.line)
			}
			l.line += strings.Count(l.text[l.at:l.at+end+4], "\n")
			l.at += end + 4
		default:
			return nil
		}
	}
	return nil
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func wordStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c == '%'
}
