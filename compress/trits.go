package compress

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

const (
	// denseShare is the share from which ternary values are coded five by five, which
	// then is shorter than a Golomb code of gaps, and faster.
	denseShare = 2500

	tritRun     = 5   // ternary values of one symbol
	tritSymbols = 243 // 3^5
	tritBits    = 12  // of the longest code
)

// trits is a Huffman code of five ternary values, each of which is 0, 1 (positive) or 2
// (negative), as a number of base 3, the first value its lowest digit. Symbols of equally many
// values that are not 0 have lengths that differ by at most one. It is immutable.
type trits struct {
	codes [tritSymbols]tritCode
	// table gives for the next 12 bits the symbol's values, two bits each, and above
	// them the length of its code, 0 where no code begins like this.
	table [1 << tritBits]uint16
}

type tritCode struct {
	bits   uint16 // the first in the lowest bit
	length uint8
}

// newTrits returns the code for a share of values that are not 0, in hundredths of a
// percent. All arithmetic is on integers, so that all machines agree.
func newTrits(share int) *trits {
	t := new(trits)
	lengths := tritLengths(share)
	order := make([]int, tritSymbols)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(lengths[a], lengths[b]) })
	next, last := 0, 0
	for _, symbol := range order {
		length := lengths[symbol]
		next <<= length - last
		last = length
		code := uint16(bits.Reverse16(uint16(next)) >> (16 - length))
		t.codes[symbol] = tritCode{bits: code, length: uint8(length)}
		entry := uint16(length) << (2 * tritRun)
		for i, rest := 0, symbol; i < tritRun; i, rest = i+1, rest/3 {
			entry |= uint16(rest%3) << (2 * i)
		}
		for at := int(code); at < len(t.table); at += 1 << length {
			t.table[at] = entry
		}
		next++
	}
	return t
}

// notZero counts the values of a symbol that are not 0.
func notZero(symbol int) int {
	n := 0
	for ; symbol > 0; symbol /= 3 {
		n += (symbol%3 + 1) / 2
	}
	return n
}

// pack is a weight and how many symbols it stands for, by the number of their values that are not 0.
type pack struct {
	weight uint64
	count  [tritRun + 1]int
}

// tritLengths returns the lengths of the best code whose longest has 12 bits (L. L. Larmore and
// D. S. Hirschberg, A fast algorithm for optimal length-limited Huffman codes, 1990).
func tritLengths(share int) [tritSymbols]int {
	signed := uint64(share) * 4096 / (2 * shareUnit) // of 4,096: one of the two that are not 0
	var symbols []pack
	var members, total, given [tritRun + 1]int
	for s := range tritSymbols {
		n := notZero(s)
		p := pack{weight: 1}
		for i := range tritRun {
			if i < n {
				p.weight *= signed
			} else {
				p.weight *= 4096 - 2*signed
			}
		}
		p.count[n] = 1
		members[n]++
		symbols = append(symbols, p)
	}
	slices.SortStableFunc(symbols, func(a, b pack) int { return cmp.Compare(a.weight, b.weight) })
	row := symbols
	for range tritBits - 1 {
		row = mergePairs(symbols, row)
	}
	for _, p := range row[:2*tritSymbols-2] {
		for n, c := range p.count {
			total[n] += c
		}
	}
	var lengths [tritSymbols]int
	for s := range lengths {
		n := notZero(s)
		lengths[s] = total[n] / members[n]
		if given[n] >= members[n]-total[n]%members[n] {
			lengths[s]++
		}
		given[n]++
	}
	return lengths
}

// mergePairs returns, by weight, the symbols and the pairs of neighbours in row; of
// equals the symbol first.
func mergePairs(symbols, row []pack) []pack {
	all := make([]pack, 0, 2*len(symbols))
	for i := 0; i+1 < len(row); i += 2 {
		pair := row[i]
		pair.weight += row[i+1].weight
		for n, c := range row[i+1].count {
			pair.count[n] += c
		}
		for len(symbols) > 0 && symbols[0].weight <= pair.weight {
			all, symbols = append(all, symbols[0]), symbols[1:]
		}
		all = append(all, pair)
	}
	return append(all, symbols...)
}

// maxBits bounds the code of n values of which at most k are not 0: the longest codes of
// symbols with i and j such values, mixed so that k is reached.
func (t *trits) maxBits(n, k int) int {
	var longest [tritRun + 1]int
	for s, c := range t.codes {
		longest[notZero(s)] = max(longest[notZero(s)], int(c.length))
	}
	runs, most := ceilDiv(n, tritRun), 0
	for i := range longest {
		for j := i; j <= tritRun; j++ {
			switch {
			case i*runs > k:
			case j*runs <= k:
				most = max(most, runs*longest[i], runs*longest[j])
			default:
				most = max(most, ceilDiv((j*runs-k)*longest[i]+(k-i*runs)*longest[j], j-i))
			}
		}
	}
	return most
}

// put writes the kept values of src.
func (t *trits) put(w *bitWriter, src []float32, kept []uint16) {
	var symbols [BlockValues/tritRun + 1]uint8
	powers := [tritRun]uint8{1, 3, 9, 27, 81}
	for _, at := range kept {
		negative := uint8(math.Float32bits(src[at]) >> 31)
		symbols[at/tritRun] += powers[at%tritRun] << negative
	}
	for _, s := range symbols[:ceilDiv(len(src), tritRun)] {
		c := t.codes[s]
		w.put(uint64(c.bits), uint(c.length))
	}
}

// take fills dst. It is normative (protocol, R9).
func (t *trits) take(r *bitReader, dst []float32, magnitude float32) error {
	values := [4]float32{0, magnitude, -magnitude, 0}
	var seen uint16
	for len(dst) > 0 {
		if r.held < tritBits {
			r.refill()
		}
		entry := t.table[r.acc&(1<<tritBits-1)]
		length := uint(entry >> (2 * tritRun))
		if length == 0 || length > r.held {
			return fmt.Errorf("%w: no code of five values begins like this", ErrFrame)
		}
		r.acc >>= length
		r.held -= length
		seen |= entry
		if len(dst) < tritRun {
			for i := range dst {
				dst[i] = values[entry>>(2*i)&3]
			}
			if entry<<(16-2*tritRun)>>(16-2*tritRun)>>(2*len(dst)) != 0 {
				return fmt.Errorf("%w: a value behind the end of its block", ErrFrame)
			}
			break
		}
		d := dst[:tritRun:tritRun]
		d[0] = values[entry&3]
		d[1] = values[entry>>2&3]
		d[2] = values[entry>>4&3]
		d[3] = values[entry>>6&3]
		d[4] = values[entry>>8&3]
		dst = dst[tritRun:]
	}
	if seen&(1<<(2*tritRun)-1) == 0 {
		return fmt.Errorf("%w: a block of zeros with a magnitude", ErrFrame)
	}
	return nil
}
