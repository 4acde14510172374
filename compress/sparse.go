package compress

import (
	"fmt"
	"math"
)

// Sparse keeps the largest values of each block of 4,096 as their places, signs and one
// or two magnitudes a block; all others become 0. It is used with error feedback: what
// is not sent grows until it is.
//
// Block of n values, of which k = max(1, round(n·share)) are kept: the magnitudes as
// bfloat16, the smaller first; the sign bit of the first is set when fewer than k
// values are kept, and then their number follows in 12 bits. For each kept value in
// order: the number of values left out before it in the Golomb code of the share (see
// golombFor), a bit that is set when it is negative, and with two magnitudes a bit
// that is set when it has the larger one. Bits are packed from the lowest, blocks
// follow one another without a gap, the last byte is filled up with zeros. A block in which
// nothing is kept is 16 zero bits.
//
// With one magnitude and a share of 25 % or more the block is instead the magnitude and then
// five values after the other in a Huffman code of their signs (see trits).
//
// With a transform the values are those of the block's two-dimensional DCT-II, seen as
// a tile of 64×64 values: column by column, each from the lowest frequency. A short
// last block is filled up with zeros, which are dropped when it is decoded.
type Sparse struct {
	share  int // kept values in hundredths of a percent
	levels int // magnitudes a block, 1 or 2
	dct    bool
	code   golomb
	pairs  *gapPairs // reads code faster, with one magnitude
	trits  *trits    // codes the block in place of code, when not nil
}

// NewTernary returns the codec "ternary-P", which keeps a share in hundredths of a percent
// (MinShare to MaxShare) with one magnitude, their mean. A value costs about H(p) + p
// bits: 0.94 at 20 %, 1.31 at 35 %.
func NewTernary(share int) (Sparse, error) { return newSparse(share, 1, false) }

// NewTopK2 returns the codec "topk2-P", which keeps a share in hundredths of a percent
// (MinShare to MaxShare) with two bits each, a sign and one of two magnitudes, after
// A. Sarfi et al., SparseLoCo, arXiv 2508.15706, 2025. A value costs about H(p) + 2p
// bits: 0.16 at 1.56 %, which are 64 values of each 4,096.
func NewTopK2(share int) (Sparse, error) { return newSparse(share, 2, false) }

// NewDCT returns the codec "dct-P": NewTopK2 of frequencies in place of values, after
// B. Peng et al., DeMo, arXiv 2411.19870, 2024. It also refuses to encode values above 2^112.
func NewDCT(share int) (Sparse, error) { return newSparse(share, 2, true) }

func newSparse(share, levels int, dct bool) (Sparse, error) {
	if err := checkShare(share); err != nil {
		return Sparse{}, err
	}
	c := Sparse{share: share, levels: levels, dct: dct, code: golombFor(share)}
	switch {
	case levels == 1 && share >= denseShare:
		c.trits = newTrits(share)
	case levels == 1:
		c.pairs = newGapPairs(c.code)
	}
	return c, nil
}

// Name returns "ternary-P", "topk2-P" or "dct-P" with P the share in percent.
func (c Sparse) Name() string { return c.kind() + "-" + formatShare(c.share) }

func (c Sparse) kind() string {
	switch {
	case c.dct:
		return "dct"
	case c.levels == 1:
		return "ternary"
	default:
		return "topk2"
	}
}

func (c Sparse) id() byte {
	switch {
	case c.dct:
		return idDCT
	case c.levels == 1:
		return idTernary
	default:
		return idTopK2
	}
}

// EncodedSlabBytes bounds a frame; the usual one is 3 to 10 % smaller.
func (c Sparse) EncodedSlabBytes(values int) int {
	blocks, last := values/BlockValues, values%BlockValues
	if c.dct {
		blocks, last = ceilDiv(values, BlockValues), 0
	}
	n := headerBytes + bitSlack + blocks*c.blockBytes(BlockValues)
	if last > 0 {
		n += c.blockBytes(last)
	}
	return n
}

func (c Sparse) blockBytes(values int) int {
	k := keptOf(values, c.share)
	if c.trits != nil {
		return ceilDiv(16+c.trits.maxBits(values, k), 8)
	}
	return ceilDiv(16*c.levels+12+c.levels*k+c.code.maxBits(k, values-k), 8)
}

// Encode implements Codec.
func (c Sparse) Encode(dst []byte, src []float32) ([]byte, error) {
	return c.encode(fastest(), dst, src)
}

func (c Sparse) encode(p path, dst []byte, src []float32) ([]byte, error) {
	start := len(dst)
	dst, err := appendHeader(dst, c.id(), uint16(c.share), len(src))
	if err != nil {
		return dst, err
	}
	var b basis
	if c.dct {
		if err := p.checkRange(src); err != nil {
			return dst[:start], fmt.Errorf("encode %s: %w", c.Name(), err)
		}
		b.fill()
	}
	at := len(dst)
	dst = grow(dst, c.EncodedSlabBytes(len(src))-headerBytes)
	w := bitWriter{out: dst[at:]}
	for len(src) > 0 {
		block := src[:min(BlockValues, len(src))]
		src = src[len(block):]
		var ok bool
		if c.dct {
			ok = c.encodeTile(p, &w, block, &b)
		} else {
			ok = c.encodeBlock(p, &w, block)
		}
		if !ok {
			return dst[:start], fmt.Errorf("encode %s: %w", c.Name(), ErrNotFinite)
		}
	}
	return dst[:at+w.close()], nil
}

// encodeTile writes the frequencies of one block.
func (c Sparse) encodeTile(p path, w *bitWriter, src []float32, b *basis) bool {
	var t, scratch tile
	t.load(src, 0)
	b.forward2D(p, &t, &scratch)
	return c.encodeBlock(p, w, t[:])
}

// encodeBlock writes one block and says whether all values are finite.
func (c Sparse) encodeBlock(p path, w *bitWriter, src []float32) bool {
	var places positions
	k := keptOf(len(src), c.share)
	n, ok := largest(p, &places, src, k)
	if !ok {
		return false
	}
	kept := places[:n]
	small, large, limit := c.magnitudes(src, kept)
	if small == 0 {
		w.put(0, 16)
		return true
	}
	if c.trits != nil {
		w.put(uint64(small), 16)
		c.trits.put(w, src, kept)
		return true
	}
	if n == k {
		w.put(uint64(small), 16)
	} else {
		w.put(uint64(small)|0x8000, 16)
	}
	if c.levels == 2 {
		w.put(uint64(large), 16)
	}
	if n != k {
		w.put(uint64(n), 12)
	}
	if c.levels == 1 {
		c.code.putSigned(w, src, kept)
		return true
	}
	next := 0
	for _, at := range kept {
		x := math.Float32bits(src[at])
		c.code.put(w, int(at)-next, uint64(x>>31)|uint64((limit-x&^(1<<31))>>31)<<1, 2)
		next = int(at) + 1
	}
	return true
}

// magnitudes returns the two magnitudes that stand for the kept values, and the largest
// magnitude that the smaller one stands for. With one level both are the mean. Else
// the border begins at the mean and is moved twice to the middle between the means on
// its two sides (S. P. Lloyd, Least squares quantization in PCM, 1982).
func (c Sparse) magnitudes(src []float32, kept []uint16) (small, large uint16, limit uint32) {
	var values [BlockValues]float32
	for i, at := range kept {
		values[i] = math.Float32frombits(magnitude(src[at]))
	}
	all := values[:len(kept)]
	sum := 0.0
	for _, m := range all {
		sum += float64(m)
	}
	low := sum / float64(max(1, len(all)))
	high := low
	for range 3 * (c.levels - 1) {
		limit = math.Float32bits(float32((low + high) / 2))
		low, high = means(all, limit, sum)
	}
	small, large = scale16(float32(low), maxScale16), scale16(float32(high), maxScale16)
	if large > 0 {
		small = max(small, 1) // a block that keeps something has no magnitude of 0
	}
	return small, large, limit
}

// means returns the means of the magnitudes up to border (as bits) and of those above
// it, the other one where there are none. sum is that of all.
func means(magnitudes []float32, border uint32, sum float64) (low, high float64) {
	above, n := 0.0, 0
	for _, m := range magnitudes {
		over := uint64(border-math.Float32bits(m)) >> 31 & 1 // 1 when above, without a jump that nobody can predict
		above += math.Float64frombits(math.Float64bits(float64(m)) & -over)
		n += int(over)
	}
	switch n {
	case 0:
		low = sum / float64(max(1, len(magnitudes)))
		return low, low
	case len(magnitudes):
		high = sum / float64(n)
		return high, high
	}
	return (sum - above) / float64(len(magnitudes)-n), above / float64(n)
}

// Decode implements Codec.
func (c Sparse) Decode(dst []float32, frame []byte) error {
	return c.decode(fastest(), dst, frame)
}

func (c Sparse) decode(p path, dst []float32, frame []byte) error {
	in, err := body(frame, c.id(), uint16(c.share), len(dst))
	if most := c.EncodedSlabBytes(len(dst)); err == nil && len(frame) > most {
		err = fmt.Errorf("%w: %d bytes for %d values, at most %d", ErrFrame, len(frame), len(dst), most)
	}
	if err == nil {
		r := bitReader{in: in}
		var b basis
		if c.dct {
			b.fill()
		}
		for len(dst) > 0 && err == nil {
			block := dst[:min(BlockValues, len(dst))]
			dst = dst[len(block):]
			if c.dct {
				err = c.decodeTile(p, &r, block, &b)
			} else {
				err = c.decodeBlock(&r, block)
			}
		}
		if err == nil && !r.closed() {
			err = fmt.Errorf("%w: it does not end with its last block", ErrFrame)
		}
	}
	if err != nil {
		return fmt.Errorf("decode %s: %w", c.Name(), err)
	}
	return nil
}

// decodeTile fills one block from its frequencies.
func (c Sparse) decodeTile(p path, r *bitReader, dst []float32, b *basis) error {
	var t, scratch tile
	if err := c.decodeBlock(r, t[:]); err != nil {
		return err
	}
	b.inverse2D(p, &t, &scratch)
	copy(dst, t[:])
	if p.maxMagnitude(dst) >= infinity {
		return fmt.Errorf("%w: %w", ErrFrame, ErrNotFinite)
	}
	return nil
}

// decodeBlock is normative (protocol, R9): a value is one of the block's magnitudes
// with a sign, or +0.
func (c Sparse) decodeBlock(r *bitReader, dst []float32) error {
	clear(dst)
	head := uint16(r.take(16))
	if head == 0 {
		return r.err()
	}
	if c.trits != nil {
		if head > maxScale16 {
			return fmt.Errorf("%w: magnitude %#04x is not canonical", ErrFrame, head)
		}
		return c.trits.take(r, dst, scaleValue(head))
	}
	small, k := head&0x7fff, keptOf(len(dst), c.share)
	large, n := small, k
	if c.levels == 2 {
		large = uint16(r.take(16))
	}
	if head>>15 == 1 {
		n = int(r.take(12))
	}
	if small == 0 || small > large || large > maxScale16 || n == 0 || n > k || n == k && head>>15 == 1 {
		return fmt.Errorf("%w: magnitudes %#04x, %#04x for %d values are not canonical", ErrFrame, head, large, n)
	}
	values := [4]float32{scaleValue(small), -scaleValue(small), scaleValue(large), -scaleValue(large)}
	for at := 0; n > 0; n-- {
		if c.pairs != nil {
			n, at = c.pairs.take(r, dst, values[0], n, at)
		}
		gap, tail := c.code.take(r, uint(c.levels))
		if at += gap; at >= len(dst) {
			return fmt.Errorf("%w: a value behind the end of its block", ErrFrame)
		}
		dst[at] = values[tail&3]
		at++
	}
	return r.err()
}
