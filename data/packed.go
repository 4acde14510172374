package data

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Packed is tokens in memory as they travel and as files hold them: Width bytes
// each, little-endian.
type Packed struct {
	Bytes []byte
	Width int   // 1, 2 or 4
	Vocab int32 // tokens are below it
}

// Len implements Tokens.
func (p Packed) Len() int { return len(p.Bytes) / p.Width }

// Read implements Tokens. A token outside of the vocabulary is an error.
func (p Packed) Read(dst []int32, at int) error {
	if at < 0 || at > p.Len()-len(dst) {
		return fmt.Errorf("read %d tokens at %d of %d", len(dst), at, p.Len())
	}
	b := p.Bytes[at*p.Width:]
	for i := range dst {
		switch p.Width {
		case 1:
			dst[i] = int32(b[i])
		case 2:
			dst[i] = int32(binary.LittleEndian.Uint16(b[2*i:]))
		default:
			dst[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
		}
		if dst[i] < 0 || dst[i] >= p.Vocab {
			return fmt.Errorf("token %d is %d, the vocabulary has %d", at+i, dst[i], p.Vocab)
		}
	}
	return nil
}

// OpenWhole reads text as Open does, or one prepared folder whole: its tokens in
// memory, packed, with their tokenizer.
func OpenWhole(path string) (c *Corpus, err error) {
	if path == "" || exists(path) && !Prepared(path) {
		return Open(path)
	}
	dirs, weights, err := parseMixture(path)
	switch {
	case err != nil:
		return nil, err
	case dirs == nil:
		return Open(path)
	case len(dirs) > 1:
		return nil, fmt.Errorf("open data %s: a run takes one prepared folder: prepare the texts together, or train on this machine alone with `dunlin train`", path)
	}
	d, err := openPrepared(dirs, weights)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	c = &Corpus{Tokenizer: d.Tokenizer, Description: d.Description, Width: 2}
	if vocab := d.Tokenizer.Vocab(); d.Tokenizer.File() == nil {
		c.Width = 1
	} else if vocab > 1<<16 {
		c.Width = 4
	}
	if n := (d.TrainTokens() + d.HeldOutTokens()) * c.Width; n > MaxBytes {
		return nil, fmt.Errorf("open data %s: %d MB of tokens, and each peer of a run holds them in memory, %d MB at most: prepare less text", path, n>>20, MaxBytes>>20)
	}
	for _, part := range []struct {
		to *[]byte
		of []Tokens
	}{{&c.Train, d.Train}, {&c.HeldOut, d.HeldOut}} {
		for _, t := range part.of {
			if *part.to, err = pack(*part.to, t, c.Width); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// pack appends tokens to b, width bytes each.
func pack(b []byte, t Tokens, width int) ([]byte, error) {
	some := make([]int32, 1<<16)
	for at := 0; at < t.Len(); at += len(some) {
		part := some[:min(len(some), t.Len()-at)]
		if err := t.Read(part, at); err != nil {
			return nil, err
		}
		b = AppendPacked(b, part, width)
	}
	return b, nil
}

// AppendPacked appends tokens to b as Packed reads them.
func AppendPacked(b []byte, tokens []int32, width int) []byte {
	for _, token := range tokens {
		switch width {
		case 1:
			b = append(b, byte(token))
		case 2:
			b = binary.LittleEndian.AppendUint16(b, uint16(token))
		default:
			b = binary.LittleEndian.AppendUint32(b, uint32(token))
		}
	}
	return b
}

// Packed returns a part of the corpus as tokens.
func (c *Corpus) Packed(part []byte) Packed {
	return Packed{Bytes: part, Width: max(1, c.Width), Vocab: int32(c.Coder().Vocab())}
}

// Coder returns the corpus's tokenizer.
func (c *Corpus) Coder() Tokenizer {
	if c.Tokenizer == nil {
		return Bytes{}
	}
	return c.Tokenizer
}
