package compress

import (
	"fmt"
	"math"
	"math/bits"
)

// tile holds one block as 64 rows of 64 values.
type tile [BlockValues]float32

const half = TileSide / 2

// maxDCT is what a value to transform may measure at most, as bits: 2^112. Sums of
// 4,096 such values are finite.
const maxDCT = (127 + 112) << 23

// checkRange refuses values that are too large to transform.
func (p path) checkRange(src []float32) error {
	if p.maxMagnitude(src) > maxDCT {
		return fmt.Errorf("a value is above 2^112: %w", ErrNotFinite)
	}
	return nil
}

// cosines returns cos(πk/128)·√(1/32) for k from 0 to 64, constants so that all machines
// have the same.
func cosines() [TileSide + 1]float32 {
	return [TileSide + 1]float32{
		0x1.6a09e6p-3, 0x1.69edfcp-3, 0x1.699a42p-3, 0x1.690ec6p-3, 0x1.684b9cp-3, 0x1.6750e4p-3, 0x1.661ec2p-3, 0x1.64b568p-3,
		0x1.63150cp-3, 0x1.613deep-3, 0x1.5f3056p-3, 0x1.5cec98p-3, 0x1.5a730cp-3, 0x1.57c414p-3, 0x1.54e018p-3, 0x1.51c78cp-3,
		0x1.4e7aeap-3, 0x1.4afab2p-3, 0x1.474772p-3, 0x1.4361bap-3, 0x1.3f4a24p-3, 0x1.3b015p-3, 0x1.3687eap-3, 0x1.31dea2p-3,
		0x1.2d062ep-3, 0x1.27ff5p-3, 0x1.22caccp-3, 0x1.1d6972p-3, 0x1.17dc14p-3, 0x1.12238ep-3, 0x1.0c40c2p-3, 0x1.063498p-3,
		0x1p-3, 0x1.f347dcp-4, 0x1.e642b8p-4, 0x1.d8f29ap-4, 0x1.cb598cp-4, 0x1.bd79aap-4, 0x1.af5516p-4, 0x1.a0edfep-4,
		0x1.92469cp-4, 0x1.836132p-4, 0x1.74400ap-4, 0x1.64e57cp-4, 0x1.5553e4p-4, 0x1.458daap-4, 0x1.35953cp-4, 0x1.256d12p-4,
		0x1.1517a8p-4, 0x1.049782p-4, 0x1.e7de5ep-5, 0x1.c6427ap-5, 0x1.a4608ap-5, 0x1.823dc8p-5, 0x1.5fdf76p-5, 0x1.3d4aep-5,
		0x1.1a855ep-5, 0x1.ef2894p-6, 0x1.a8fa12p-6, 0x1.628a08p-6, 0x1.1be352p-6, 0x1.aa21a8p-7, 0x1.1c3af6p-7, 0x1.1c50e2p-8,
		0,
	}
}

// basis holds the orthonormal DCT-II over 64 values, q(j, r) = cos(π(2r+1)j/128)·√(1/32), and
// ⅛ for j = 0. Rows r and 63 − r differ by the sign of odd frequencies only, so the
// first 32 do. Even frequencies stand in even, frequency 2i in row i, odd ones in odd.
type basis struct {
	even, odd [half * half]float32
}

// fill computes the basis from the cosines.
func (b *basis) fill() {
	c := cosines()
	for j := range TileSide {
		part := &b.even
		if j%2 == 1 {
			part = &b.odd
		}
		for r := range half {
			part[j/2*half+r] = cosine(&c, (2*r+1)*j)
		}
	}
	for r := range half {
		b.even[r] = 0.125
	}
}

// cosine folds an angle in units of π/128 into the table.
func cosine(c *[TileSide + 1]float32, angle int) float32 {
	switch a := angle % 256; {
	case a <= 64:
		return c[a]
	case a <= 128:
		return -c[128-a]
	case a < 192:
		return -c[a-128]
	default:
		return c[256-a]
	}
}

// forward sets row j of dst to the j-th frequency of the columns of src.
func (b *basis) forward(p path, dst, src *tile) {
	var sum, difference [half * TileSide]float32
	for r := range half {
		top, bottom := src[r*TileSide:][:TileSide], src[(TileSide-1-r)*TileSide:][:TileSide]
		s, d := sum[r*TileSide:][:TileSide], difference[r*TileSide:][:TileSide]
		p.sumDifference(s, d, top, bottom)
	}
	p.product(dst[:], 2, b.even[:], false, sum[:], half)
	p.product(dst[TileSide:], 2, b.odd[:], false, difference[:], half)
}

// inverse is the other way. src holds only the frequencies in mask, one row each. It is normative
// (protocol, R9): for each of the first 32 rows the even and the odd frequencies
// are summed from the lowest, starting with 0; the row is the sum of the two, and row
// 63 − r their difference.
func (b *basis) inverse(p path, dst, src *tile, mask uint64) {
	var factors [2][half * half]float32
	var rows, sums [2][half * TileSide]float32
	parts := [2]*[half * half]float32{&b.even, &b.odd}
	var n [2]int
	for at := 0; mask != 0; at++ {
		j := bits.TrailingZeros64(mask)
		mask &= mask - 1
		k := n[j%2]
		n[j%2]++
		copy(rows[j%2][k*TileSide:][:TileSide], src[at*TileSide:])
		copy(factors[j%2][k*half:][:half], parts[j%2][j/2*half:])
	}
	for parity := range 2 {
		p.product(sums[parity][:], 1, factors[parity][:], true, rows[parity][:], n[parity])
	}
	for r := range half {
		top, bottom := dst[r*TileSide:][:TileSide], dst[(TileSide-1-r)*TileSide:][:TileSide]
		even, odd := sums[0][r*TileSide:][:TileSide], sums[1][r*TileSide:][:TileSide]
		p.sumDifference(top, bottom, even, odd)
	}
}

// transpose sets dst to the transposed src.
func transpose(dst, src *tile) {
	for c := 0; c < TileSide; c += 4 {
		first, second := (*[TileSide]float32)(dst[c*TileSide:]), (*[TileSide]float32)(dst[(c+1)*TileSide:])
		third, fourth := (*[TileSide]float32)(dst[(c+2)*TileSide:]), (*[TileSide]float32)(dst[(c+3)*TileSide:])
		for r := range TileSide {
			row := (*[4]float32)(src[r*TileSide+c:])
			first[r], second[r], third[r], fourth[r] = row[0], row[1], row[2], row[3]
		}
	}
}

// forward2D leaves in t its frequencies in both directions; scratch is overwritten.
func (b *basis) forward2D(p path, t, scratch *tile) {
	b.forward(p, scratch, t)
	transpose(t, scratch)
	b.forward(p, scratch, t)
	*t = *scratch
}

// inverse2D is the other way.
func (b *basis) inverse2D(p path, t, scratch *tile) {
	b.inverse(p, scratch, t, math.MaxUint64)
	transpose(t, scratch)
	b.inverse(p, scratch, t, math.MaxUint64)
	*t = *scratch
}

// product sets 32 rows of dst, stride rows apart, to factors·src: factors are of rows of
// 32, those of one row of dst, or transposed of one row of src, of which there are rank.
// Products are rounded, and added from the first on, beginning with 0.
func (p path) product(dst []float32, stride int, factors []float32, transposed bool, src []float32, rank int) {
	rowStep, rankStep := half, 1
	if transposed {
		rowStep, rankStep = 1, half
	}
	if p.fastProduct(dst, stride, factors, rowStep, rankStep, src, rank) {
		return
	}
	for r := range half {
		sum := dst[r*stride*TileSide:][:TileSide]
		clear(sum)
		k := 0
		for ; k+1 < rank; k += 2 { // two rows at once, in the same order
			f, g := factors[r*rowStep+k*rankStep], factors[r*rowStep+(k+1)*rankStep]
			first, second := src[k*TileSide:][:TileSide], src[(k+1)*TileSide:][:TileSide]
			for i, s := range sum {
				sum[i] = s + float32(f*first[i]) + float32(g*second[i])
			}
		}
		if k < rank {
			f := factors[r*rowStep+k*rankStep]
			for i, x := range src[k*TileSide:][:TileSide] {
				sum[i] += float32(f * x)
			}
		}
	}
}
