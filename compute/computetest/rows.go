package computetest

import (
	"math"
	"slices"

	"dunlin/compute"
)

func layerNormScenarios() []scenario {
	var all []scenario
	for _, s := range [][2]int{{1, 1}, {3, 2}, {5, 16}, {17, 33}, {40, 100}, {64, 128}, {9, 771}, {70, 5}} {
		all = append(all, scenario{named("layer norm/%dx%d", s[0], s[1]), func(r *rig) { layerNorm(r, s[0], s[1]) }})
	}
	return all
}

func layerNorm(r *rig, rows, n int) {
	x, dy := r.normal(rows*n, 2), r.normal(rows*n, 1)
	for i := range x {
		x[i] += 5 // a mean away from zero shows cancellation
	}
	gain, bias, start := r.normal(n, 1), r.normal(n, 1), r.normal(rows*n, 1)
	dgain, dbias := r.normal(n, 1), r.normal(n, 1)
	const eps = 1e-5

	y, mean, rstd := make([]float64, rows*n), make([]float64, rows), make([]float64, rows)
	dx, wantGain, wantBias := make([]float64, rows*n), widen(dgain), widen(dbias)
	for row := range rows {
		xs, ds := widen(x[row*n:(row+1)*n]), widen(dy[row*n:(row+1)*n])
		var sum, squares float64
		for _, v := range xs {
			sum += v
		}
		mean[row] = sum / float64(n)
		for _, v := range xs {
			squares += (v - mean[row]) * (v - mean[row])
		}
		rstd[row] = 1 / math.Sqrt(squares/float64(n)+eps)
		var meanG, meanGX float64
		for j := range xs {
			normal := (xs[j] - mean[row]) * rstd[row]
			y[row*n+j] = normal*float64(gain[j]) + float64(bias[j])
			g := ds[j] * float64(gain[j])
			meanG += g / float64(n)
			meanGX += g * normal / float64(n)
			wantGain[j] += ds[j] * normal
			wantBias[j] += ds[j]
		}
		for j := range xs {
			normal := (xs[j] - mean[row]) * rstd[row]
			dx[row*n+j] = (ds[j]*float64(gain[j]) - meanG - normal*meanGX) * rstd[row]
		}
	}

	op := compute.LayerNorm{
		Y: r.out(rows * n), X: r.in(x), Gain: r.in(gain), Bias: r.in(bias),
		Mean: r.out(rows), RStd: r.out(rows), Rows: rows, N: n, Eps: eps,
	}
	tol, gradTol := tolerance{abs: 1e-5, rel: 1e-5}, tolerance{abs: 1e-5, rel: 1e-6, scale: make([]float64, rows*n)}
	for i := range gradTol.scale { // rounding of x - mean is magnified by rstd twice
		s := rstd[i/n]
		gradTol.scale[i] = s * (2 + math.Abs(mean[i/n])*s) * 4
	}
	r.dev.LayerNorm(op)
	r.check("output", op.Y, y, tol)
	r.check("mean", op.Mean, mean, tol)
	r.check("rstd", op.RStd, rstd, tol)
	inPlace := op
	inPlace.Y = r.buffer(x)
	inPlace.X = inPlace.Y
	r.dev.LayerNorm(inPlace)
	r.check("output in place", inPlace.Y, y, tol)

	grad := compute.LayerNormGrad{
		DX: r.out(rows * n), DY: r.in(dy), X: op.X, DGain: r.buffer(dgain), DBias: r.buffer(dbias),
		Gain: op.Gain, Mean: op.Mean, RStd: op.RStd, Rows: rows, N: n,
	}
	r.dev.LayerNormGrad(grad)
	r.check("input gradient", grad.DX, dx, gradTol)
	r.check("gain gradient", grad.DGain, wantGain, tolerance{abs: 2e-4, rel: 1e-5})
	r.check("bias gradient", grad.DBias, wantBias, tolerance{abs: 2e-5, rel: 1e-5})

	grad.DX = r.buffer(dy)
	grad.DY = grad.DX
	r.dev.LayerNormGrad(grad)
	r.check("input gradient in place", grad.DX, dx, gradTol)

	grad.DX, grad.DY, grad.Accumulate = r.buffer(start), r.in(dy), true
	r.dev.LayerNormGrad(grad)
	for i := range dx {
		dx[i] += float64(start[i])
	}
	r.check("accumulated input gradient", grad.DX, dx, gradTol)
}

func embedScenarios() []scenario {
	return []scenario{{"embed", func(r *rig) {
		for _, width := range []int{1, 16, 67, 130} {
			embed(r, 3, 9, width, r.tokens(27, 11), true)
			embed(r, 3, 9, width, r.tokens(27, 11), false)
		}
	}}, {"embed far", func(r *rig) { // positions in many batches; tokens differ, but for pairs on either side of round distances
		tokens := make([]int32, 9*130)
		for i := range tokens {
			tokens[i] = int32(i)
		}
		for i, row := range []int{128, 255, 256, 383, 384, 511, 512} {
			tokens[520+i], tokens[650+i], tokens[780+i] = int32(row), int32(row+1), int32(row-1)
		}
		embed(r, 9, 130, 3, tokens, true)
	}}}
}

// embed checks token embeddings, with or without those of positions.
func embed(r *rig, batch, positions, width int, tokens []int32, placed bool) {
	const from = 4
	vocabulary := int(slices.Max(tokens)) + 1
	wte, wpe := r.normal(vocabulary*width, 1), r.normal((from+positions)*width, 1)
	dout := r.normal(batch*positions*width, 1)
	dwte, dwpe := r.normal(vocabulary*width, 1), r.normal((from+positions)*width, 1)
	want, wantWTE, wantWPE := make([]float64, len(dout)), widen(dwte), widen(dwpe)
	for row, token := range tokens {
		for j := range width {
			t := row % positions
			want[row*width+j] = float64(wte[int(token)*width+j])
			wantWTE[int(token)*width+j] += float64(dout[row*width+j])
			if placed {
				want[row*width+j] += float64(wpe[(from+t)*width+j])
				wantWPE[t*width+j] += float64(dout[row*width+j])
			}
		}
	}
	op := compute.Embed{
		Out: r.out(len(dout)), Tokens: r.ints(tokens), WTE: r.in(wte), WPE: r.in(wpe),
		B: batch, T: positions, C: width, From: from,
	}
	if !placed {
		op.WPE = compute.Buffer{}
	}
	r.dev.Embed(op)
	r.check("embedding", op.Out, want, tolerance{rel: 1e-7})
	grad := compute.EmbedGrad{
		DWTE: r.buffer(dwte), DWPE: r.buffer(dwpe), DOut: r.in(dout), Tokens: op.Tokens,
		B: batch, T: positions, C: width,
	}
	positionGrad := grad.DWPE
	if !placed {
		grad.DWPE = compute.Buffer{}
	}
	r.dev.EmbedGrad(grad)
	sum := tolerance{abs: 5e-6 + 1e-7*float64(batch*positions)}
	r.check("token gradient", grad.DWTE, wantWTE, sum)
	r.check("position gradient", positionGrad, wantWPE, sum)
}

func lossScenarios() []scenario {
	var all []scenario
	for _, s := range [][2]int{{1, 1}, {3, 2}, {17, 15}, {33, 256}, {5, 1003}, {70, 300}, {2, 2500}} {
		for _, std := range []float64{0.1, 5, 300} { // 300: exponentials underflow
			all = append(all, scenario{named("cross-entropy/%dx%d/std %v", s[0], s[1], std), func(r *rig) {
				crossEntropy(r, s[0], s[1], std)
			}})
		}
	}
	return append(all, scenario{"cross-entropy/peaks", func(r *rig) {
		// A device that passes over the largest value of a row overflows.
		peaks := []int{0, 1, 31, 32, 255, 256, 511, 512, 767, 768, 1023, 1024, 1279, 1280, 2047, 2048, 2303}
		crossEntropy(r, len(peaks), 2304, 5, peaks...)
	}})
}

// crossEntropy checks rows of logits, the first of which have a value that exceeds all others at the places of peaks.
func crossEntropy(r *rig, rows, vocabulary int, std float64, peaks ...int) {
	const scale = 0.125
	logits, targets := r.normal(rows*vocabulary, std), r.tokens(rows, vocabulary)
	for row, at := range peaks {
		logits[row*vocabulary+at] = 300
	}
	losses, grad := make([]float64, rows), make([]float64, rows*vocabulary)
	for row := range rows {
		x := widen(logits[row*vocabulary : (row+1)*vocabulary])
		highest := math.Inf(-1)
		for _, v := range x {
			highest = math.Max(highest, v)
		}
		var sum float64
		for _, v := range x {
			sum += math.Exp(v - highest)
		}
		losses[row] = highest + math.Log(sum) - x[targets[row]]
		for j, v := range x {
			grad[row*vocabulary+j] = math.Exp(v-highest) / sum * scale
		}
		grad[row*vocabulary+int(targets[row])] -= scale
	}
	op := compute.CrossEntropy{
		Logits: r.in(logits), Losses: r.out(rows), Targets: r.ints(targets), Rows: rows, V: vocabulary,
	}
	tol := tolerance{abs: 2e-6, rel: 1e-6}
	r.dev.CrossEntropy(op)
	r.check("losses", op.Losses, losses, tol)
	op.Logits, op.Losses, op.Grad, op.Scale = r.buffer(logits), r.out(rows), true, scale
	r.dev.CrossEntropy(op)
	r.check("losses with gradient", op.Losses, losses, tol)
	r.check("gradient", op.Logits, grad, tolerance{abs: 3e-7, rel: 2e-6})
}
