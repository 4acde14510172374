package data

import (
	"fmt"
	"math"
)

// BPE is a tokenizer of byte-level pairs (Sennrich et al. 2016; Radford et al.
// 2019): text is cut into pieces, a piece into bytes, and neighbours merge in
// the order in which the pairs were learned. ParseTokenizer, OpenTokenizer and
// TrainBPE make one.
type BPE struct {
	name      string
	file      []byte // tokenizer.json
	cut       cutting
	bytes     [256]int32       // token of each byte
	merges    map[uint64]merge // by pairKey
	texts     []string         // of each token; "" does not exist
	whole     map[string]int32 // pieces that are tokens as they are; nil for none
	added     [256][]added     // by first byte, longest first
	ordinary  bool             // some of added are not special
	special   map[string]int32 // tokens that text alone does not give
	endOfText int32
}

// cutting is how text becomes pieces.
type cutting struct {
	pattern pattern
	digits  bool // each digit alone before the pattern is applied
}

// merge is what a pair becomes; the lowest rank goes first.
type merge struct{ rank, token int32 }

// added is a token that is looked for before text is cut.
type added struct {
	text    string
	token   int32
	special bool
}

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// Vocab implements Tokenizer.
func (t *BPE) Vocab() int { return len(t.texts) }

// EndOfText implements Tokenizer.
func (t *BPE) EndOfText() int32 { return t.endOfText }

// File implements Tokenizer.
func (t *BPE) File() []byte { return t.file }

// Name implements Tokenizer.
func (t *BPE) Name() string { return t.name }

// Special returns the token of a special text such as <|endoftext|>.
func (t *BPE) Special(text string) (int32, bool) {
	token, ok := t.special[text]
	return token, ok
}

// Decode implements Tokenizer. Special tokens give their text.
func (t *BPE) Decode(dst []byte, tokens []int32) ([]byte, error) {
	for i, token := range tokens {
		if token < 0 || int(token) >= len(t.texts) || t.texts[token] == "" {
			return dst, fmt.Errorf("decode token %d: %d does not exist in %s", i, token, t.name)
		}
		dst = append(dst, t.texts[token]...)
	}
	return dst, nil
}

// Encoder implements Tokenizer.
func (t *BPE) Encoder() Encoder { return t.newEncoder(false).encode }

// EncodeSpecial appends the tokens of text to dst and, other than an Encoder,
// turns special texts such as <|endoftext|> into their tokens: for a prompt that
// a person types.
func (t *BPE) EncodeSpecial(dst []int32, text []byte) []int32 {
	return t.newEncoder(true).encode(dst, text)
}

// Bounds of an encoder's memory of pieces.
const (
	maxCachedPiece  = 48      // bytes; longer pieces hardly recur
	maxCachedPieces = 1 << 17 // then it forgets them all
)

// encoder encodes on one goroutine. Pieces recur, so it remembers their tokens.
type encoder struct {
	t       *BPE
	special bool
	known   map[string]stretch
	tokens  []int32 // of all known pieces

	symbols []int32 // of the piece at work
	ranks   []int32 // of symbols[i] and symbols[i+1]
}

// stretch is a range of encoder.tokens.
type stretch struct{ from, to int32 }

func (t *BPE) newEncoder(special bool) *encoder {
	return &encoder{t: t, special: special, known: make(map[string]stretch)}
}

func (e *encoder) encode(dst []int32, text []byte) []int32 {
	if !e.special && !e.t.ordinary {
		return e.encodeText(dst, text)
	}
	from := 0
	for at := 0; at < len(text); {
		token, n := e.addedAt(text[at:])
		if n == 0 {
			at++
			continue
		}
		dst = append(e.encodeText(dst, text[from:at]), token)
		at += n
		from = at
	}
	return e.encodeText(dst, text[from:])
}

// addedAt returns the longest added token at the start of text and its length.
func (e *encoder) addedAt(text []byte) (token int32, length int) {
	for _, a := range e.t.added[text[0]] {
		if (e.special || !a.special) && len(a.text) <= len(text) && string(text[:len(a.text)]) == a.text {
			return a.token, len(a.text)
		}
	}
	return 0, 0
}

func (e *encoder) encodeText(dst []int32, text []byte) []int32 {
	e.t.cut.each(text, func(piece []byte) { dst = e.encodePiece(dst, piece) })
	return dst
}

// each cuts text into pieces, in order.
func (c cutting) each(text []byte, yield func(piece []byte)) {
	for len(text) > 0 {
		part := text
		if c.digits {
			at, n := firstDigit(text)
			if at == 0 {
				yield(text[:n])
				text = text[n:]
				continue
			}
			part = text[:at]
		}
		text = text[len(part):]
		for len(part) > 0 {
			n := c.pattern.next(part)
			yield(part[:n])
			part = part[n:]
		}
	}
}

func (e *encoder) encodePiece(dst []int32, piece []byte) []int32 {
	if len(piece) == 1 {
		return append(dst, e.t.bytes[piece[0]])
	}
	if token, ok := e.t.whole[string(piece)]; ok {
		return append(dst, token)
	}
	if len(piece) > maxCachedPiece {
		return e.merge(dst, piece)
	}
	if s, ok := e.known[string(piece)]; ok {
		return append(dst, e.tokens[s.from:s.to]...)
	}
	if len(e.known) >= maxCachedPieces {
		clear(e.known)
		e.tokens = e.tokens[:0]
	}
	from := len(e.tokens)
	e.tokens = e.merge(e.tokens, piece)
	e.known[string(piece)] = stretch{int32(from), int32(len(e.tokens))}
	return append(dst, e.tokens[from:]...)
}

// noRank stands for a pair that does not merge.
const noRank = math.MaxInt32

func (e *encoder) rank(left, right int32) int32 {
	if m, ok := e.t.merges[pairKey(left, right)]; ok {
		return m.rank
	}
	return noRank
}

// maxScanned is the longest piece, in bytes, whose best pair is looked for by
// going over all of them.
const maxScanned = 128

// merge appends the tokens of a piece: the pair of lowest rank merges, the
// leftmost of equals, until none is left.
func (e *encoder) merge(dst []int32, piece []byte) []int32 {
	if len(piece) > maxScanned {
		return e.mergeLong(dst, piece)
	}
	symbols, ranks := e.symbols[:0], e.ranks[:0]
	for i, b := range piece {
		symbols = append(symbols, e.t.bytes[b])
		if i > 0 {
			ranks = append(ranks, e.rank(symbols[i-1], symbols[i]))
		}
	}
	for {
		best, at := int32(noRank), 0
		for i, r := range ranks {
			if r < best {
				best, at = r, i
			}
		}
		if best == noRank {
			break
		}
		symbols[at] = e.t.merges[pairKey(symbols[at], symbols[at+1])].token
		symbols = append(symbols[:at+1], symbols[at+2:]...)
		ranks = append(ranks[:at], ranks[at+1:]...)
		if at > 0 {
			ranks[at-1] = e.rank(symbols[at-1], symbols[at])
		}
		if at < len(ranks) {
			ranks[at] = e.rank(symbols[at], symbols[at+1])
		}
	}
	e.symbols, e.ranks = symbols, ranks // keeps what they have grown to
	return append(dst, symbols...)
}

// mergeLong does the same with a heap over a linked list, so that a piece of n
// bytes takes n log n steps: a megabyte of one letter is a piece too.
func (e *encoder) mergeLong(dst []int32, piece []byte) []int32 {
	links := make([]link, len(piece))
	candidates := queue[candidate]{before: func(a, b candidate) bool { return a.rank < b.rank || a.rank == b.rank && a.at < b.at }}
	for i, b := range piece {
		links[i] = link{token: e.t.bytes[b], left: int32(i - 1), right: int32(i + 1)}
	}
	offer := func(at int32) {
		right := links[at].right
		if int(right) >= len(links) {
			return
		}
		if r := e.rank(links[at].token, links[right].token); r != noRank {
			candidates.push(candidate{r, at, links[at].token, links[right].token})
		}
	}
	for i := range links {
		offer(int32(i))
	}
	for c, ok := candidates.pop(); ok; c, ok = candidates.pop() {
		left := &links[c.at]
		if left.token != c.left || int(left.right) >= len(links) || links[left.right].token != c.right {
			continue // one of the two has merged with another
		}
		gone := &links[left.right]
		left.token = e.t.merges[pairKey(c.left, c.right)].token
		left.right = gone.right
		gone.token = -1
		if int(left.right) < len(links) {
			links[left.right].left = c.at
		}
		offer(c.at)
		if left.left >= 0 {
			offer(left.left)
		}
	}
	for i := int32(0); int(i) < len(links); i = links[i].right {
		dst = append(dst, links[i].token)
	}
	return dst
}

// link is a symbol of a long piece, between its neighbours.
type link struct{ token, left, right int32 } // token −1 has merged into the left

// candidate is a pair that may merge, as it stood when it was seen.
type candidate struct{ rank, at, left, right int32 }
