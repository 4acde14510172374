package cuda

import (
	"fmt"
	"math"

	"dunlin/compute"
)

// heads is the shape of an attention and the kernels' variant for it.
type heads struct {
	keys, size, stride int
	variant            kernel  // of the three sizes
	rows               int     // of a block, forward
	gradRows           int     // of a block, backward
	batch              int     // elements of one launch
	share              float64 // of an element's tiles that one launch takes
}

// heads panics when heads do not fit, or are larger than the kernels'.
func (d *Device) heads(positions, count, keys, width int) heads {
	if keys == 0 {
		keys = count
	}
	if positions < 1 || count < 1 || width < count || width%count != 0 || keys < 1 || count%keys != 0 {
		panic(fmt.Sprintf("cuda: attention over %d positions with %d heads of width %d, %d of keys", positions, count, width, keys))
	}
	h := heads{keys: keys, size: width / count, stride: (count + 2*keys) * (width / count)}
	switch {
	case h.size <= 32:
		h.variant, h.rows, h.gradRows = 0, 32, 32
	case h.size <= 64:
		h.variant, h.rows, h.gradRows = 1, 64, 32
	case h.size <= maxHead:
		h.variant, h.rows, h.gradRows = 2, 32, 16
	default:
		panic(fmt.Sprintf("cuda: attention heads of %d values: the kernels have room for %d", h.size, maxHead))
	}
	// Of the five products of a gradient's longer kernel, as if nothing were masked.
	work := 10 * float64(count) * float64(positions) * float64(positions) * float64(h.size)
	h.batch, h.share = min(65535, max(1, int(d.longest/work))), min(1, d.longest/work)
	return h
}

// pieces calls launch for each part of n tiles, from the last on.
func (h heads) pieces(n uint32, launch func(from, to uint32)) {
	size := max(1, uint32(h.share*float64(n)))
	for to := n; to > 0; to -= min(size, to) {
		launch(to-min(size, to), to)
	}
}

// maxHead is the most values of an attention head.
const maxHead = 128

// MaxHead implements compute.Bounded.
func (d *Device) MaxHead() int { return maxHead }

func (h heads) scale() uint64 { return bits(float32(1 / math.Sqrt(float64(h.size)))) }

// Attention implements compute.Device.
func (d *Device) Attention(op compute.Attention) {
	h := d.heads(op.T, op.H, op.KV, op.C)
	if op.From < 0 || op.From >= op.T {
		panic(fmt.Sprintf("cuda: attention from position %d of %d", op.From, op.T))
	}
	queries := op.T - op.From
	qkv, out := need("attention qkv", op.QKV, op.B*op.T*h.stride), need("attention out", op.Out, op.B*queries*op.C)
	lse := needOptional("attention lse", op.LSE, op.B*op.H*queries)
	wide := flag(aligned(h.size, qkv, out))
	for b := 0; b < op.B; b += h.batch {
		sums := lse
		if lse != 0 {
			sums += 4 * uint64(b*op.H*queries)
		}
		h.pieces(blocks(queries, h.rows), func(from, to uint32) {
			d.launch(kernelAttention32+h.variant, [3]uint32{to - from, uint32(op.H), uint32(min(h.batch, op.B-b))}, [3]uint32{uint32(h.rows * 4), 1, 1},
				out+4*uint64(b*queries*op.C), sums, qkv+4*uint64(b*op.T*h.stride),
				uint64(op.T), uint64(op.From), uint64(op.H), uint64(h.keys), uint64(h.size), h.scale(), uint64(to-1), wide)
		})
	}
}

// AttentionGrad implements compute.Device.
func (d *Device) AttentionGrad(op compute.AttentionGrad) {
	h := d.heads(op.T, op.H, op.KV, op.C)
	n, sums := op.B*op.T*h.stride, op.B*op.H*op.T
	dqkv, qkv := need("attention gradient dqkv", op.DQKV, n), need("attention gradient qkv", op.QKV, n)
	dout, out := need("attention gradient dout", op.DOut, op.B*op.T*op.C), need("attention gradient out", op.Out, op.B*op.T*op.C)
	lse, delta := need("attention gradient lse", op.LSE, sums), d.scratch(&d.delta, 4*sums)
	wide := flag(aligned(h.size, dqkv, qkv, dout, out))
	for b := 0; b < op.B; b += h.batch {
		batch, tiles, block := uint32(min(h.batch, op.B-b)), blocks(op.T, h.gradRows), [3]uint32{uint32(h.gradRows * 4), 1, 1}
		rows, outs, at := 4*uint64(b*op.T*h.stride), 4*uint64(b*op.T*op.C), 4*uint64(b*op.H*op.T)
		h.pieces(tiles, func(from, to uint32) {
			d.launch(kernelQueryGrad32+h.variant, [3]uint32{to - from, uint32(op.H), batch}, block,
				dqkv+rows, delta+at, dout+outs, qkv+rows, out+outs, lse+at,
				uint64(op.T), uint64(op.H), uint64(h.keys), uint64(h.size), h.scale(), uint64(to-1), wide)
		})
		h.pieces(tiles, func(from, to uint32) {
			d.launch(kernelKeyGrad32+h.variant, [3]uint32{to - from, uint32(h.keys), batch}, block,
				dqkv+rows, delta+at, dout+outs, qkv+rows, lse+at,
				uint64(op.T), uint64(op.H), uint64(h.keys), uint64(h.size), h.scale(), uint64(from), wide)
		})
	}
}
