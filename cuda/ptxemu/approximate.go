package ptxemu

import "math"

// errorSource gives approximate instructions an error that depends on nothing
// but the seed and the value, as a card's does: a call with the same input
// gives the same result. Results that a float32 holds exactly, such as powers of
// two, come out exact.
type errorSource struct {
	seed  uint64
	share float64 // of the documented bound, 0 for none
}

func (c *Config) errorSource() errorSource {
	return errorSource{c.Seed, c.ApproximationError}
}

// draw returns a number in [-1, 1].
func (e errorSource) draw(x float32) float64 {
	// The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
	v := (uint64(math.Float32bits(x)) + e.seed) * 0x9e3779b97f4a7c15
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return float64(int64(v^v>>31)) * 0x1p-63
}

// relative returns v with an error of at most bound times its size, of which rounding is a part.
func (e errorSource) relative(v, bound float64, x float32) float32 {
	if e.share == 0 || float64(float32(v)) == v {
		return float32(v)
	}
	return within(v, v*(1+e.draw(x)*bound*e.share), math.Abs(v)*bound)
}

// absolute returns v with an error of at most bound.
func (e errorSource) absolute(v, bound float64, x float32) float32 {
	if e.share == 0 || float64(float32(v)) == v {
		return float32(v)
	}
	return within(v, v+e.draw(x)*bound*e.share, bound)
}

// within rounds a value that is off, unless rounding takes it beyond the bound.
func within(v, off, bound float64) float32 {
	if r := float32(off); math.Abs(float64(r)-v) <= bound {
		return r
	}
	return float32(v)
}
