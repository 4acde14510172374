package compress

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Rank keeps of each block, seen as a tile of 64×64 values, the strongest
// frequencies of its columns, rank of the 64 on average: a low-rank matrix whose one
// factor is made of cosines that everybody knows, so that which ones is all that there
// is to say (after SVD-free DCT projection, arXiv 2505.17967, 2025). In each window of 16 blocks the
// 16·rank frequencies with the largest sum of magnitudes are kept, so that the rank
// follows the blocks. Used with error feedback. 0.016 + 0.0664·rank bits a value.
//
// A block is 8 bytes whose bit j says that frequency j is kept, then the 64 values of
// each one kept, from the lowest, as a group of Int4. A short last block is filled up
// with zeros, which are dropped when it is decoded.
type Rank struct {
	rank int
}

const (
	// MaxRank bounds the rank: half of all frequencies.
	MaxRank = 32

	rankWindow = 16 // blocks
	rankRow    = 2 + TileSide/2
)

// NewRank returns the codec "rank-R" that keeps rank frequencies of 64, 1 to MaxRank.
func NewRank(rank int) (Rank, error) {
	if rank < 1 || rank > MaxRank {
		return Rank{}, fmt.Errorf("rank %d: 1 to %d are allowed", rank, MaxRank)
	}
	return Rank{rank: rank}, nil
}

// Name returns "rank-R".
func (c Rank) Name() string { return fmt.Sprintf("rank-%d", c.rank) }

// EncodedSlabBytes returns 12 + 8 + 34·rank bytes a block.
func (c Rank) EncodedSlabBytes(values int) int {
	return headerBytes + ceilDiv(values, BlockValues)*(8+rankRow*c.rank)
}

// Encode implements Codec. It also refuses values above 2^112.
func (c Rank) Encode(dst []byte, src []float32) ([]byte, error) {
	return c.encode(fastest(), dst, src)
}

func (c Rank) encode(p path, dst []byte, src []float32) ([]byte, error) {
	start := len(dst)
	dst, err := appendHeader(dst, idRank, uint16(c.rank), len(src))
	if err != nil {
		return dst, err
	}
	if err := p.checkRange(src); err != nil {
		return dst[:start], fmt.Errorf("encode %s: %w", c.Name(), err)
	}
	at := len(dst)
	dst = grow(dst, c.EncodedSlabBytes(len(src))-headerBytes)
	out := dst[at:]
	var b basis
	b.fill()
	for len(src) > 0 {
		window := src[:min(rankWindow*BlockValues, len(src))]
		out = c.encodeWindow(p, out, window, &b)
		src = src[len(window):]
	}
	return dst[:len(dst)-len(out)], nil
}

// encodeWindow writes the blocks of one window and returns what is left of out.
func (c Rank) encodeWindow(p path, out []byte, src []float32, b *basis) []byte {
	var (
		scores [rankWindow * TileSide]float32
		keep   [rankWindow]uint64
		list   positions
		t, f   tile
	)
	blocks := ceilDiv(len(src), BlockValues)
	for i := range blocks {
		t.load(src, i)
		b.forward(p, &f, &t)
		for j := range TileSide {
			scores[i*TileSide+j] = sumMagnitudes(f[j*TileSide:][:TileSide])
		}
	}
	n, _ := largest(p, &list, scores[:blocks*TileSide], blocks*c.rank)
	for _, at := range list[:n] {
		keep[at/TileSide] |= 1 << (at % TileSide)
	}
	for i := range blocks {
		binary.LittleEndian.PutUint64(out, keep[i])
		out = out[8:]
		if keep[i] != 0 {
			t.load(src, i)
			b.forward(p, &f, &t)
		}
		for m := keep[i]; m != 0; m &= m - 1 {
			encodeInt4(p, out[:rankRow], f[bits.TrailingZeros64(m)*TileSide:][:TileSide])
			out = out[rankRow:]
		}
	}
	return out
}

// load copies block i of src, filled up with zeros.
func (t *tile) load(src []float32, i int) {
	n := copy(t[:], src[i*BlockValues:])
	clear(t[n:])
}

// sumMagnitudes adds |x| of a row in four parts.
func sumMagnitudes(row []float32) float32 {
	var sum [4]float32
	for ; len(row) >= 4; row = row[4:] {
		for i := range sum {
			sum[i] += math.Float32frombits(magnitude(row[i]))
		}
	}
	return (sum[0] + sum[1]) + (sum[2] + sum[3])
}

// Decode implements Codec.
func (c Rank) Decode(dst []float32, frame []byte) error {
	return c.decode(fastest(), dst, frame)
}

func (c Rank) decode(p path, dst []float32, frame []byte) error {
	in, err := body(frame, idRank, uint16(c.rank), len(dst))
	if err == nil {
		err = c.decodeBlocks(p, dst, in)
	}
	if err != nil {
		return fmt.Errorf("decode %s: %w", c.Name(), err)
	}
	return nil
}

func (c Rank) decodeBlocks(p path, dst []float32, in []byte) error {
	var (
		b       basis
		t, rows tile
		kept    int
	)
	b.fill()
	table := int4Levels()
	for i := 0; len(dst) > 0; i++ {
		if i%rankWindow == 0 {
			kept = c.rank * min(rankWindow, ceilDiv(len(dst), BlockValues))
		}
		if len(in) < 8 {
			return fmt.Errorf("%w: it ends too early", ErrFrame)
		}
		mask := binary.LittleEndian.Uint64(in)
		in = in[8:]
		n := bits.OnesCount64(mask)
		if kept -= n; kept < 0 {
			return fmt.Errorf("%w: more frequencies than the rank allows", ErrFrame)
		}
		if len(in) < n*rankRow {
			return fmt.Errorf("%w: it ends too early", ErrFrame)
		}
		block := dst[:min(BlockValues, len(dst))]
		dst = dst[len(block):]
		if n == 0 {
			clear(block)
			continue
		}
		if err := decodeNibbles(p, rows[:n*TileSide], in[:n*rankRow], int4Group, maxInt4Scale, &table); err != nil {
			return err
		}
		in = in[n*rankRow:]
		b.inverse(p, &t, &rows, mask)
		copy(block, t[:])
		if p.maxMagnitude(block) >= infinity {
			return fmt.Errorf("%w: %w", ErrFrame, ErrNotFinite)
		}
	}
	if len(in) > 0 {
		return fmt.Errorf("%w: it does not end with its last block", ErrFrame)
	}
	return nil
}
