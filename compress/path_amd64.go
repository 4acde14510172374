//go:build amd64 && !noasm

package compress

import "golang.org/x/sys/cpu"

// paths returns what this processor can run, the best last. x/sys/cpu also asks whether
// the operating system saves the registers.
func paths() []path {
	all := []path{portable, avx2, avx512}
	return all[:1+fastest()]
}

func fastest() path {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX2:
		return avx512
	case cpu.X86.HasAVX2:
		return avx2
	default:
		return portable
	}
}

// whole returns how many of n values are in whole vectors, for a function that wants a
// multiple of step.
func (p path) whole(n, step int) int {
	if p == portable {
		return 0
	}
	return n / step * step
}

func (p path) fastMaxMagnitude(src []float32) (top uint32, done int) {
	done = p.whole(len(src), 64)
	switch {
	case done == 0:
	case p == avx512:
		top = maxMagnitudeAVX512(&src[0], done)
	default:
		top = maxMagnitudeAVX2(&src[0], done)
	}
	return top, done
}

func (p path) fastBytesOfFinite(dst []byte, src []float32) (bad uint32, done int) {
	done = p.whole(len(src), 32)
	switch {
	case done == 0:
	case p == avx512:
		bad = bytesOfFiniteAVX512(&dst[0], &src[0], done)
	default:
		bad = bytesOfFiniteAVX2(&dst[0], &src[0], done)
	}
	return bad, done
}

func (p path) fastFiniteOfBytes(dst []float32, src []byte) (bad uint32, done int) {
	done = p.whole(len(dst), 32)
	switch {
	case done == 0:
	case p == avx512:
		bad = finiteOfBytesAVX512(&dst[0], &src[0], done)
	default:
		bad = finiteOfBytesAVX2(&dst[0], &src[0], done)
	}
	return bad, done
}

func (p path) fastInt8Codes(dst []byte, src []float32, inverse float32) (done int) {
	done = p.whole(len(src), 64)
	switch {
	case done == 0:
	case p == avx512:
		int8CodesAVX512(&dst[0], &src[0], done, inverse)
	default:
		int8CodesAVX2(&dst[0], &src[0], done, inverse)
	}
	return done
}

func (p path) fastInt8Values(dst []float32, src []byte, scale float32) (lowest int32, done int) {
	done = p.whole(len(dst), 64)
	switch {
	case done == 0:
	case p == avx512:
		lowest = int8ValuesAVX512(&dst[0], &src[0], done, scale)
	default:
		lowest = int8ValuesAVX2(&dst[0], &src[0], done, scale)
	}
	return lowest, done
}

// wholeNibbles says whether bytes of two codes each are in whole vectors, without one to spare.
func (p path) wholeNibbles(values, codes int) bool {
	return codes > 0 && values == 2*codes && p.whole(codes, 16) == codes
}

func (p path) fastInt4Codes(dst []byte, src []float32, inverse float32) (done bool) {
	switch {
	case !p.wholeNibbles(len(src), len(dst)):
		return false
	case p == avx512:
		int4CodesAVX512(&dst[0], &src[0], len(dst), inverse)
	default:
		int4CodesAVX2(&dst[0], &src[0], len(dst), inverse)
	}
	return true
}

func (p path) fastE3M0Codes(dst []byte, src []float32, inverse float32) (done bool) {
	switch {
	case !p.wholeNibbles(len(src), len(dst)):
		return false
	case p == avx512:
		e3m0CodesAVX512(&dst[0], &src[0], len(dst), inverse)
	default:
		e3m0CodesAVX2(&dst[0], &src[0], len(dst), inverse)
	}
	return true
}

func (p path) fastNibbleValues(dst []float32, src []byte, table *levels, scale float32) (bad uint32, done bool) {
	switch {
	case !p.wholeNibbles(len(dst), len(src)):
		return 0, false
	case p == avx512:
		bad = nibbleValuesAVX512(&dst[0], &src[0], len(src), &table[0], scale)
	default:
		bad = nibbleValuesAVX2(&dst[0], &src[0], len(src), &table[0], scale)
	}
	return bad, true
}

func (p path) fastCountAtLeast(src []float32, limit uint32) (count, done int) {
	done = p.whole(len(src), 64)
	switch {
	case done == 0:
	case p == avx512:
		count = int(countAtLeastAVX512(&src[0], done, limit))
	default:
		count = int(countAtLeastAVX2(&src[0], done, limit))
	}
	return count, done
}

func (p path) fastSumDifference(sum, difference, a, b []float32) (done int) {
	done = p.whole(len(sum), 64)
	switch {
	case done == 0:
	case p == avx512:
		sumDifferenceAVX512(&sum[0], &difference[0], &a[0], &b[0], done)
	default:
		sumDifferenceAVX2(&sum[0], &difference[0], &a[0], &b[0], done)
	}
	return done
}

func (p path) fastProduct(dst []float32, stride int, factors []float32, rowStep, rankStep int, src []float32, rank int) (done bool) {
	const rowBytes = 4 * TileSide
	switch {
	case p == portable || rank == 0:
		return false
	case p == avx512:
		productAVX512(&dst[0], &factors[0], &src[0], half, rank, stride*rowBytes, 4*rowStep, 4*rankStep)
	default:
		productAVX2(&dst[0], &factors[0], &src[0], half, rank, stride*rowBytes, 4*rowStep, 4*rankStep)
	}
	return true
}
