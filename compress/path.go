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

// Functions whose names begin with fast work on as many values from the first as
// suit them and say how many those are; plain Go does the others.
