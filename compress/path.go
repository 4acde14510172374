package compress

// path is a set of instructions that codecs use. All give the same bits: what is not
// plain Go makes the same operations on each value.
type path uint8

const (
	portable path = iota
	avx2
	avx512
)

//go:generate go run -C ../compute/cpu/_asm . compress ../../../compress

// maxMagnitude returns the largest magnitude of the values, as bits.
func (p path) maxMagnitude(src []float32) uint32 {
	top, done := p.fastMaxMagnitude(src)
	for _, x := range src[done:] {
		top = max(top, magnitude(x))
	}
	return top
}

// countAtLeast counts the values whose magnitude is limit or more, limit at least 1.
func (p path) countAtLeast(src []float32, limit uint32) int {
	count, done := p.fastCountAtLeast(src, limit)
	for _, x := range src[done:] {
		count += int((limit - 1 - magnitude(x)) >> 31)
	}
	return count
}

// sumDifference sets sum = a + b and difference = a − b; sum may be a, and difference b.
func (p path) sumDifference(sum, difference, a, b []float32) {
	for i := p.fastSumDifference(sum, difference, a, b); i < len(sum); i++ {
		x, y := a[i], b[i]
		sum[i], difference[i] = x+y, x-y
	}
}

// Functions whose names begin with fast work on as many values from the first as
// suit them and say how many those are; plain Go does the others.
