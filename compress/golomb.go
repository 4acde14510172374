package compress

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// golomb codes the gaps between kept values, which are geometric when each value is
// kept with the same probability: quotient by m in unary, remainder in the fewest
// bits (S. W. Golomb, Run-length encodings, 1966). At the best m this is the Huffman
// code of the gaps; it costs 0.3 to 3 % more than their entropy.
type golomb struct {
	m     int  // 1 to 693
	width uint // bits of a short remainder: the integer part of log2 m
	short int  // remainders below it have width bits, the others one more
	part  uint // ceil(2^24/m), to divide a gap below 4,096 by m
	codes *[shortGaps]gapCode
}

// shortGaps are gaps whose codes are kept.
const shortGaps = 64

// gapCode is the code of a gap, its first bit the lowest, 0 bits long where it was not kept.
type gapCode struct{ bits, length uint32 }

// golombFor returns the code for a share of kept values in hundredths of a percent:
// the smallest m with q^m + q^(m+1) ≤ 1, q the part not kept (R. G. Gallager and
// D. C. van Voorhis, 1975). The arithmetic is on integers, so that all machines agree.
func golombFor(share int) golomb {
	const one = 1 << 32
	q := uint64(one) * uint64(10000-share) / 10000
	m, power := 1, q
	for power+power*q/one > one {
		power = power * q / one
		m++
	}
	width := bits.Len(uint(m)) - 1
	g := golomb{m: m, width: uint(width), short: 2<<width - m, part: uint(1<<24+m-1) / uint(m)}
	codes := new([shortGaps]gapCode)
	for gap := range codes {
		w := bitWriter{out: make([]byte, 2*shortGaps)}
		g.put(&w, gap, 0, 0)
		if n := 8*w.at + int(w.held); n <= 32 {
			codes[gap] = gapCode{binary.LittleEndian.Uint32(w.out), uint32(n)} //nolint:gosec // bounded
		}
	}
	g.codes = codes
	return g
}

// maxBits bounds the code of gaps whose sum is total.
func (g golomb) maxBits(gaps, total int) int {
	// A gap of r beyond a multiple of m costs width + 1 bits and another when r ≥ short,
	// and has r/m less of unary than its share of total/m.
	n := gaps*(int(g.width)+1) + (total+g.m-1)/g.m
	if g.short < g.m {
		n += (gaps*(g.m-g.short) + g.m - 1) / g.m
	}
	return n
}

// putSigned writes for each place, in rising order, the gap before it and the sign of its value.
func (g golomb) putSigned(w *bitWriter, src []float32, places []uint16) {
	next := 0
	for _, at := range places {
		gap, negative := int(at)-next, uint64(math.Float32bits(src[at])>>31)
		next = int(at) + 1
		if gap >= shortGaps || g.codes[gap].length == 0 {
			g.put(w, gap, negative, 1)
			continue
		}
		c := g.codes[gap]
		w.put(uint64(c.bits)|negative<<c.length, uint(c.length)+1)
	}
}

// put writes a gap and then the low n bits of tail.
func (g golomb) put(w *bitWriter, gap int, tail uint64, n uint) {
	quotient := int(uint(gap) * g.part >> 24)
	rest := gap - quotient*g.m
	for ; quotient > 24; quotient -= 24 {
		w.put(0, 24)
	}
	v, width := uint64(rest), g.width
	if rest >= g.short {
		// The width bits that come first, then the last one.
		sum := uint64(rest + g.short)
		v = sum>>1 | sum&1<<width
		width++
	}
	w.put((v|tail<<width)<<1<<quotient|1<<quotient, uint(quotient)+1+width+n)
}

// take reads a gap and the n bits behind it, at most 2.
func (g golomb) take(r *bitReader, n uint) (gap int, tail uint64) {
	r.refill()
	quotient := uint(bits.TrailingZeros64(r.acc))
	if quotient+g.width+4 > r.held {
		return g.takeSlowly(r, n)
	}
	acc := r.acc >> (quotient + 1)
	rest := int(acc & (1<<g.width - 1))
	long := uint(g.short-1-rest) >> 63 // 1 when another bit belongs to the remainder
	rest += int(long) * (rest + int(acc>>g.width&1) - g.short)
	acc >>= g.width + long
	r.acc = acc >> n
	r.held -= quotient + 1 + g.width + long + n
	return int(quotient)*g.m + rest, acc & (1<<n - 1)
}

// takeSlowly is take for long gaps and at the end of the input.
func (g golomb) takeSlowly(r *bitReader, n uint) (gap int, tail uint64) {
	quotient := r.zeros()
	rest := int(r.take(g.width))
	if rest >= g.short {
		rest = rest<<1 + int(r.take(1)) - g.short
	}
	return quotient*g.m + rest, r.take(n)
}

// gapPairs says for each of the next pairBits of a code whose gaps have a sign bit behind them what is whole in them:
// from the lowest bit on the length of one or two gaps with their signs in 4 bits (0: not one is whole), both gaps in 8
// bits each, and in 2 bits each the signs, 1 for positive, 2 for negative, 0 where the second gap is not whole.
type gapPairs struct {
	table [1 << pairBits]uint32
	reach int // most values that an entry leads on
}

// pairBits hold two gaps of a ternary code more often than not.
const pairBits = 11

func newGapPairs(g golomb) *gapPairs {
	p := new(gapPairs)
	for i := range p.table {
		// The ones behind the bits end a gap that goes on there.
		r := bitReader{in: binary.LittleEndian.AppendUint64(nil, uint64(i)|^uint64(1<<pairBits-1))}
		at := 0
		for n := range uint(2) {
			gap, negative := g.take(&r, 1)
			read := 8*r.at - int(r.held)
			if read > pairBits || gap > 0xff {
				break
			}
			p.table[i] = p.table[i]&^0xf | uint32(read) | uint32(gap)<<(4+8*n) | uint32(1+negative)<<(20+2*n) //nolint:gosec // bounded above
			at += gap + 1
		}
		p.reach = max(p.reach, at+1)
	}
	return p
}

// take sets in dst, which is zero, the values that the first of n gaps from place at on lead to. It stops before one that is long
// or may lead out of dst, and before the last two, and returns how many are left, at least one, and from which place on.
func (p *gapPairs) take(r *bitReader, dst []float32, magnitude float32, n, at int) (left, next int) {
	values := [4]float32{0, magnitude, -magnitude, 0}
	for n > 2 && at+p.reach < len(dst) {
		if r.held < pairBits {
			if r.refill(); r.held < pairBits {
				break
			}
		}
		entry := p.table[r.acc&(1<<pairBits-1)]
		length := uint(entry & 0xf)
		if length == 0 {
			break
		}
		r.acc >>= length
		r.held -= length
		at += int(entry >> 4 & 0xff)
		dst[at] = values[entry>>20&3]
		at += 1 + int(entry>>12&0xff)
		second := int(entry>>22&3+1) >> 1
		dst[at] = values[entry>>22&3] // 0 where it is not whole, and set again by the next
		at += second
		n -= 1 + second
	}
	return n, at
}
