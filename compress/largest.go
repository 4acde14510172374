package compress

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	// MinShare and MaxShare bound the share of values that a sparse codec keeps, in
	// hundredths of a percent.
	MinShare = 10
	MaxShare = 5000

	shareUnit = 10000
)

// parseShare reads a percentage such as "20" or "1.56" as hundredths of a percent.
// Each share has one way to be written.
func parseShare(percent string) (int, error) {
	whole, part, _ := strings.Cut(percent, ".")
	n, err := strconv.Atoi(whole + (part + "00")[:2])
	if err != nil || checkShare(n) != nil || formatShare(n) != percent {
		return 0, fmt.Errorf("share %q: give the percentage of values kept, 0.1 to 50 with at most two decimals, for example 1.56", percent)
	}
	return n, nil
}

func checkShare(share int) error {
	if share < MinShare || share > MaxShare {
		return fmt.Errorf("share of %d hundredths of a percent: %d to %d are allowed", share, MinShare, MaxShare)
	}
	return nil
}

func formatShare(share int) string {
	return strconv.FormatFloat(float64(share)/100, 'f', -1, 64)
}

// keptOf returns how many of n values a share is: rounded to the nearest, at least 1.
func keptOf(n, share int) int { return max(1, (n*share+shareUnit/2)/shareUnit) }

// magnitude returns the bits of |x|, which order like |x|.
func magnitude(x float32) uint32 { return math.Float32bits(x) &^ (1 << 31) }

// positions are places in a block in rising order.
type positions [BlockValues]uint16

// largest fills list with the places of the k values of src (at most BlockValues) with
// the largest magnitudes, of equals the first, zeros never. It returns how many they
// are, and false when a value is not finite.
func largest(p path, list *positions, src []float32, k int) (int, bool) {
	limit, ok := p.limit(src, k)
	if !ok {
		return 0, false
	}
	n := 0
	for i, x := range src {
		list[n&(BlockValues-1)] = uint16(i) // n is below it anyway, which the compiler cannot know
		n += int((limit - 1 - magnitude(x)) >> 31)
	}
	if n > k {
		n = dropTies(list[:n], src, limit, n-k)
	}
	return n, true
}

// limit returns a magnitude, at least 1, that k values of src reach, or more if some are
// equal, or fewer if the others are 0; false when a value is not finite. Where counting
// is fast it narrows the range in which the limit must lie, as if the values in it were evenly spread, and by half at times.
func (p path) limit(src []float32, k int) (uint32, bool) {
	if p == portable {
		kth, ok := kthMagnitude(src, k)
		return max(kth, 1), ok
	}
	low, high := uint32(1), p.maxMagnitude(src)+1
	if high > infinity {
		return 0, false
	}
	above := 0                                                // values from high on
	for step := uint32(1 << 23); high-low > step; step *= 2 { // an octave below the largest, then two, then four
		probe := high - step
		n := p.countAtLeast(src, probe)
		if n >= k {
			low = probe
			break
		}
		high, above = probe, n
	}
	count := p.countAtLeast(src, low)
	for round := 1; count > k && high-low > 1; round++ {
		probe := low + (high-low)/2
		if round%4 > 0 {
			share := (float64(count-k) - 0.5) / float64(count-above)
			probe = low + 1 + uint32(share*float64(high-low-1))
		}
		if n := p.countAtLeast(src, probe); n < k {
			high, above = probe, n
		} else {
			low, count = probe, n
		}
	}
	return low, true
}

// dropTies takes the last surplus places whose value has the given magnitude from the list.
func dropTies(list []uint16, src []float32, tie uint32, surplus int) int {
	from := len(list)
	for seen := 0; seen < surplus; {
		from--
		if magnitude(src[list[from]]) == tie {
			seen++
		}
	}
	n := from
	for _, at := range list[from:] {
		if magnitude(src[at]) != tie {
			list[n] = at
			n++
		}
	}
	return n
}

// kthMagnitude returns the k-th largest magnitude of src, k from 1 to len(src), and
// false when a value is not finite. It sorts by digits from the highest, and goes
// on with the values that share the digit in which the k-th lies.
func kthMagnitude(src []float32, k int) (uint32, bool) {
	var (
		values [BlockValues]uint32
		counts [2048]uint16
		result uint32
	)
	left := values[:len(src)]
	for i, x := range src {
		m := magnitude(x)
		left[i] = m
		counts[m>>20]++
	}
	for _, n := range counts[0x7f8:] {
		if n != 0 {
			return 0, false
		}
	}
	for shift := 20; ; shift -= 10 {
		digit := len(counts) - 1
		for k > int(counts[digit]) {
			k -= int(counts[digit])
			digit--
		}
		result |= uint32(digit) << shift
		if shift == 0 {
			return result, true
		}
		n := 0
		for _, m := range left {
			left[n] = m
			if m>>shift == result>>shift {
				n++
			}
		}
		left = left[:n]
		clear(counts[:])
		for _, m := range left {
			counts[m>>(shift-10)&0x3ff]++
		}
	}
}
