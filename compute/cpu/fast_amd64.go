//go:build amd64 && !noasm

package cpu

import "golang.org/x/sys/cpu"

// instructionSets returns what this processor can run, best first. x/sys/cpu
// also asks whether the operating system saves the registers.
func instructionSets() []instructionSet {
	var sets []instructionSet
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		multiplier := &multiplier{lanes: 16, rows: 8, vectors: 3, dot: dotAVX512}
		sets = append(sets, instructionSet{"avx512", avx512Vectors(), multiplier, fmaLoopAVX512, 12, avx512Pairs()})
	}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		multiplier := &multiplier{lanes: 8, rows: 6, vectors: 2, dot: dotAVX2}
		sets = append(sets, instructionSet{"avx2", avx2Vectors(), multiplier, fmaLoopAVX2, 12, nil})
	}
	return sets
}

// avx512Pairs returns the product of bf16, nil where it is missing.
func avx512Pairs() *multiplier {
	if !cpu.X86.HasAVX512BF16 || !cpu.X86.HasAVX512BW {
		return nil
	}
	return &multiplier{lanes: 16, rows: 8, vectors: 3, pairs: &pairing{narrowRowsBF16, pairRowsBF16}}
}

func avx512Vectors() *vectors {
	return &vectors{
		lanes: 16, add: addAVX512, addRows: addRowsAVX512, scale: scaleAVX512, combine: combineAVX512, scoreGrad: scoreGradAVX512,
		dot: dotAVX512, rowMax: rowMaxAVX512, expSum: expSumAVX512, expTotal: expTotalAVX512, sumSquares: sumSquaresAVX512,
		gelu: geluAVX512, geluGrad: geluGradAVX512,
		layerNorm: layerNormAVX512, layerNormGrad: layerNormGradAVX512, layerNormGradAdd: layerNormGradAddAVX512,
		layerNormParams: layerNormParamsAVX512, adamW: adamWAVX512,
		rmsNorm: rmsNormAVX512, rmsNormGrad: rmsNormGradAVX512, rmsNormGradAdd: rmsNormGradAddAVX512, rmsNormGain: rmsNormGainAVX512,
		swiGLU: swiGLUAVX512, swiGLUGrad: swiGLUGradAVX512, rotate: rotateAVX512,
	}
}

func avx2Vectors() *vectors {
	return &vectors{
		lanes: 8, add: addAVX2, addRows: addRowsAVX2, scale: scaleAVX2, combine: combineAVX2, scoreGrad: scoreGradAVX2,
		dot: dotAVX2, rowMax: rowMaxAVX2, expSum: expSumAVX2, expTotal: expTotalAVX2, sumSquares: sumSquaresAVX2,
		gelu: geluAVX2, geluGrad: geluGradAVX2,
		layerNorm: layerNormAVX2, layerNormGrad: layerNormGradAVX2, layerNormGradAdd: layerNormGradAddAVX2,
		layerNormParams: layerNormParamsAVX2, adamW: adamWAVX2,
		rmsNorm: rmsNormAVX2, rmsNormGrad: rmsNormGradAVX2, rmsNormGradAdd: rmsNormGradAddAVX2, rmsNormGain: rmsNormGainAVX2,
		swiGLU: swiGLUAVX2, swiGLUGrad: swiGLUGradAVX2, rotate: rotateAVX2,
	}
}
