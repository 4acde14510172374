//go:build !noasm

package cpu

// instructionSets returns NEON, which every arm64 processor has.
func instructionSets() []instructionSet {
	vectors := &vectors{
		lanes: 4, add: addNEON, addRows: addRowsNEON, scale: scaleNEON, combine: combineNEON, scoreGrad: scoreGradNEON,
		dot: dotNEON, rowMax: rowMaxNEON, expSum: expSumNEON, expTotal: expTotalNEON, sumSquares: sumSquaresNEON,
		gelu: geluNEON, geluGrad: geluGradNEON,
		layerNorm: layerNormNEON, layerNormGrad: layerNormGradNEON, layerNormGradAdd: layerNormGradAddNEON,
		layerNormParams: layerNormParamsNEON, adamW: adamWNEON,
		rmsNorm: rmsNormNEON, rmsNormGrad: rmsNormGradNEON, rmsNormGradAdd: rmsNormGradAddNEON, rmsNormGain: rmsNormGainNEON,
		swiGLU: swiGLUNEON, swiGLUGrad: swiGLUGradNEON, rotate: rotateNEON,
	}
	multiplier := &multiplier{lanes: 4, rows: 8, vectors: 3, dot: dotNEON}
	return []instructionSet{{"neon", vectors, multiplier, fmaLoopNEON, 24, nil}}
}
