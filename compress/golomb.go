package compress

import "math/bits"

// golomb codes the gaps between kept values, which are geometric when each value is
// kept with the same probability: quotient by m in unary, remainder in the fewest
// bits (S. W. Golomb, Run-length encodings, 1966). At the best m this is the Huffman
// code of the gaps; it costs 0.3 to 3 % more than their entropy.
type golomb struct {
	m     int  // 1 to 693
	width uint // bits of a short remainder: the integer part of log2 m
	short int  // remainders below it have width bits, the others one more
	part  uint // ceil(2^24/m), to divide a gap below 4,096 by m
}

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
	return golomb{m: m, width: uint(width), short: 2<<width - m, part: uint(1<<24+m-1) / uint(m)}
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
