package compress

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

const (
	// BlockValues is the number of values of one block (protocol, R4).
	BlockValues = 4096
	// TileSide is the number of rows and columns of a 2-D tensor in one block.
	TileSide = 64
	// MinSlabBytes is what a slab encodes to at least, the last one of a fragment excepted.
	MinSlabBytes = 16 << 10
	// largeSlabBytes is what a slab encodes to at most where a fragment has fewSlabs or more: each slab is asked for apart,
	// which costs as much processor time as to encode some 10 KiB.
	largeSlabBytes = 64 << 10
	// fewSlabs leaves each member of a small round slabs to sum.
	fewSlabs = 8
	// MaxFragmentValues bounds a fragment, padding included: 2^33 values are 32 GiB of float32.
	MaxFragmentValues = 1 << 33
	// MaxSlabValues bounds one slab and so one frame: 2^22 values are 16 MiB of float32.
	MaxSlabValues = 1 << 22
)

// ErrLayout is wrapped by every error about shapes that cannot be laid out.
var ErrLayout = errors.New("bad fragment layout")

// Shape names one tensor of a fragment. Dims has at least one entry, each at least
// 1. A tensor of more than two dimensions is seen as a matrix of Dims[0] rows.
type Shape struct {
	Name string
	Dims []int
	// Corner is the extents of the first rows and columns, those that move; nil:
	// all. Only a tensor of one or two dimensions has one.
	Corner []int
}

// Values returns the number of values of the tensor: the product of its dimensions.
func (s Shape) Values() int {
	n := 1
	for _, d := range s.Dims {
		n *= d
	}
	return n
}

func (s Shape) validate() error {
	if s.Name == "" {
		return fmt.Errorf("%w: a tensor has no name", ErrLayout)
	}
	if len(s.Dims) == 0 {
		return fmt.Errorf("%w: tensor %s has no dimensions", ErrLayout, s.Name)
	}
	n := 1
	for _, d := range s.Dims {
		if d < 1 || d > MaxFragmentValues/n {
			return fmt.Errorf("%w: tensor %s: dimensions %v are not 1 to %d values", ErrLayout, s.Name, s.Dims, MaxFragmentValues)
		}
		n *= d
	}
	inside := len(s.Corner) == len(s.Dims) && len(s.Dims) <= 2
	for i := 0; inside && i < len(s.Dims); i++ {
		inside = s.Corner[i] >= 1 && s.Corner[i] <= s.Dims[i]
	}
	if s.Corner != nil && !inside {
		return fmt.Errorf("%w: tensor %s of dimensions %v moves in a corner of %v", ErrLayout, s.Name, s.Dims, s.Corner)
	}
	return nil
}

// moving returns how many of the n values from offset on, all of one row, move: the first ones.
func (s Shape) moving(offset, n int) int {
	if s.Corner == nil {
		return n
	}
	last := len(s.Dims) - 1
	if last > 0 && offset/s.Dims[last] >= s.Corner[0] {
		return 0
	}
	return min(max(0, s.Corner[last]-offset%s.Dims[last]), n)
}

// Layout is the place of every value of one fragment in block order: the tiles of
// all tensors of two and more dimensions in the order given, tile rows first, then
// all 1-D tensors joined in the order given. It is immutable.
type Layout struct {
	shapes      []Shape
	matrices    []matrix
	vectors     []vector
	vectorBlock int // first block of the joined 1-D tensors
	vectorLen   int // values of the joined 1-D tensors, without padding
	block       int // values of a block
	blocks      int
	slabBlocks  int  // blocks of a slab, the last one excepted
	resting     bool // a tensor does not move everywhere
}

// matrix is one tiled tensor.
type matrix struct {
	tensor     int
	rows, cols int
	across     int // tiles in one row of tiles
	first, end int // blocks [first, end)
}

// vector is one of the joined tensors: its values stand at [at, at+n) of the join.
type vector struct {
	tensor, at, n int
}

// NewLayout lays out a fragment of the given tensors, in the order given (the
// RunSpec's name order), for a codec that turns a block into encodedBlockBytes bytes:
// a slab has an eighth of the blocks, rounded down, but no more than encode to 64 KiB
// and no fewer than encode to MinSlabBytes.
func NewLayout(shapes []Shape, encodedBlockBytes int) (*Layout, error) {
	if encodedBlockBytes < 1 {
		return nil, fmt.Errorf("%w: a block encodes to %d bytes", ErrLayout, encodedBlockBytes)
	}
	l := &Layout{block: BlockValues}
	if err := l.place(shapes); err != nil {
		return nil, err
	}
	large := min(l.blocks/fewSlabs, largeSlabBytes/encodedBlockBytes)
	l.slabBlocks = min(max(large, ceilDiv(MinSlabBytes, encodedBlockBytes)), MaxSlabValues/BlockValues)
	return l, nil
}

// NewFlatLayout lays out one 1-D tensor of the given number of values, cut into
// slabs of slabValues, without padding to a multiple of 4,096. It is for simulated
// peers, whose whole state is a few values.
func NewFlatLayout(name string, values, slabValues int) (*Layout, error) {
	if slabValues < 1 || slabValues > MaxSlabValues {
		return nil, fmt.Errorf("%w: slabs of %d values, allowed are 1 to %d", ErrLayout, slabValues, MaxSlabValues)
	}
	l := &Layout{block: slabValues, slabBlocks: 1}
	if err := l.place([]Shape{{Name: name, Dims: []int{values}}}); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Layout) place(shapes []Shape) error {
	if len(shapes) == 0 {
		return fmt.Errorf("%w: a fragment needs at least one tensor", ErrLayout)
	}
	seen := make(map[string]bool, len(shapes))
	for i, s := range shapes {
		if err := s.validate(); err != nil {
			return err
		}
		if seen[s.Name] {
			return fmt.Errorf("%w: tensor %s is named twice", ErrLayout, s.Name)
		}
		seen[s.Name] = true
		l.shapes = append(l.shapes, Shape{Name: s.Name, Dims: slices.Clone(s.Dims), Corner: slices.Clone(s.Corner)})
		l.resting = l.resting || s.Corner != nil
		if len(s.Dims) == 1 {
			l.vectors = append(l.vectors, vector{tensor: i, at: l.vectorLen, n: s.Dims[0]})
			l.vectorLen += s.Dims[0]
		} else if err := l.tile(i, s.Dims[0], s.Values()/s.Dims[0]); err != nil {
			return err
		}
		if l.vectorLen > MaxFragmentValues {
			return fmt.Errorf("%w: more than %d values in one fragment", ErrLayout, MaxFragmentValues)
		}
	}
	l.vectorBlock = l.blocks
	l.blocks += ceilDiv(l.vectorLen, l.block)
	if l.blocks > MaxFragmentValues/l.block {
		return fmt.Errorf("%w: more than %d values with padding in one fragment", ErrLayout, MaxFragmentValues)
	}
	return nil
}

func (l *Layout) tile(tensor, rows, cols int) error {
	down, across := ceilDiv(rows, TileSide), ceilDiv(cols, TileSide)
	if down > (MaxFragmentValues/BlockValues-l.blocks)/across {
		return fmt.Errorf("%w: more than %d values with padding in one fragment", ErrLayout, MaxFragmentValues)
	}
	m := matrix{tensor: tensor, rows: rows, cols: cols, across: across, first: l.blocks, end: l.blocks + down*across}
	l.matrices = append(l.matrices, m)
	l.blocks = m.end
	return nil
}

// Shapes returns the tensors in the order given. The caller must not change them.
func (l *Layout) Shapes() []Shape { return l.shapes }

// Blocks returns the number of blocks of the fragment.
func (l *Layout) Blocks() int { return l.blocks }

// Values returns the number of values in block order, padding included.
func (l *Layout) Values() int { return l.blocks * l.block }

// Parameters returns the number of values of all tensors, without padding.
func (l *Layout) Parameters() int {
	n := l.vectorLen
	for _, m := range l.matrices {
		n += m.rows * m.cols
	}
	return n
}

// Slabs returns the number of slabs of the fragment.
func (l *Layout) Slabs() int { return ceilDiv(l.blocks, l.slabBlocks) }

// SlabValues returns the range [from, to) of slab i in block order.
func (l *Layout) SlabValues(i int) (from, to int) {
	a, b := l.slabRange(i)
	return a * l.block, b * l.block
}

func (l *Layout) slabRange(i int) (from, to int) {
	if i < 0 || i >= l.Slabs() {
		panic(fmt.Sprintf("compress: slab %d of %d", i, l.Slabs()))
	}
	return i * l.slabBlocks, min((i+1)*l.slabBlocks, l.blocks)
}

// Check tells whether tensors fit the layout: one slice a tensor, in the order
// of Shapes, each of that tensor's length.
func (l *Layout) Check(tensors [][]float32) error {
	if len(tensors) != len(l.shapes) {
		return fmt.Errorf("%w: got %d tensors, the fragment has %d", ErrLayout, len(tensors), len(l.shapes))
	}
	for i, s := range l.shapes {
		if len(tensors[i]) != s.Values() {
			return fmt.Errorf("%w: tensor %s has %d values, want %d", ErrLayout, s.Name, len(tensors[i]), s.Values())
		}
	}
	return nil
}

// Gather copies the tensors (see Check) into dst in block order. dst has Values()
// values; padding becomes +0.
func (l *Layout) Gather(dst []float32, tensors [][]float32) {
	l.gather(dst, tensors, 0, l.blocks)
}

// GatherSlab copies the part of the tensors that stands in slab i into dst, which
// has the slab's length; padding becomes +0.
func (l *Layout) GatherSlab(dst []float32, tensors [][]float32, i int) {
	from, to := l.slabRange(i)
	l.gather(dst, tensors, from, to)
}

// Scatter copies src, Values() values in block order, into the tensors; padding
// is dropped.
func (l *Layout) Scatter(tensors [][]float32, src []float32) {
	l.scatter(tensors, src, 0, l.blocks)
}

// ScatterSlab copies src, the values of slab i, into the tensors; padding is dropped.
func (l *Layout) ScatterSlab(tensors [][]float32, src []float32, i int) {
	from, to := l.slabRange(i)
	l.scatter(tensors, src, from, to)
}

// ZeroPadding sets the padding in dst, the values of slab i, to +0. Whatever a
// frame holds there, the state of a replica stays +0 in its padding.
func (l *Layout) ZeroPadding(dst []float32, i int) {
	from, to := l.slabRange(i)
	l.mustHold(dst, from, to)
	l.runs(from, to, func(r run) {
		if r.tensor < 0 {
			clear(dst[r.at : r.at+r.n])
		}
	})
}

// ZeroResting sets the values outside of their tensors' corners in dst, the outer
// gradient of slab i, to +0: whatever a frame holds there, they do not move.
func (l *Layout) ZeroResting(dst []float32, i int) {
	if !l.resting {
		return
	}
	from, to := l.slabRange(i)
	l.mustHold(dst, from, to)
	l.runs(from, to, func(r run) {
		if r.tensor >= 0 {
			clear(dst[r.at+l.shapes[r.tensor].moving(r.offset, r.n) : r.at+r.n])
		}
	})
}

func (l *Layout) gather(dst []float32, tensors [][]float32, from, to int) {
	l.mustHold(dst, from, to)
	l.runs(from, to, func(r run) {
		if r.tensor < 0 {
			clear(dst[r.at : r.at+r.n])
		} else {
			copy(dst[r.at:r.at+r.n], tensors[r.tensor][r.offset:r.offset+r.n])
		}
	})
}

func (l *Layout) scatter(tensors [][]float32, src []float32, from, to int) {
	l.mustHold(src, from, to)
	l.runs(from, to, func(r run) {
		if r.tensor >= 0 {
			copy(tensors[r.tensor][r.offset:r.offset+r.n], src[r.at:r.at+r.n])
		}
	})
}

func (l *Layout) mustHold(values []float32, from, to int) {
	if len(values) != (to-from)*l.block {
		panic(fmt.Sprintf("compress: %d values for %d blocks of %d", len(values), to-from, l.block))
	}
}

// run is a stretch of block order: n values at `at` (counted from the first block
// asked for) are those of a tensor from offset on, or padding when tensor < 0.
type run struct {
	tensor, offset, at, n int
}

// runs visits blocks [from, to) from the first value to the last.
func (l *Layout) runs(from, to int, visit func(run)) {
	for _, m := range l.matrices {
		for b := max(from, m.first); b < min(to, m.end); b++ {
			m.tileRuns(b-m.first, (b-from)*BlockValues, visit)
		}
	}
	if to > l.vectorBlock {
		l.vectorRuns(max(from, l.vectorBlock), to, from, visit)
	}
}

// tileRuns visits tile k of a matrix, whose first value is at `at`.
func (m matrix) tileRuns(k, at int, visit func(run)) {
	row, col := k/m.across*TileSide, k%m.across*TileSide
	width := min(TileSide, m.cols-col)
	height := min(TileSide, m.rows-row)
	for r := range height {
		visit(run{tensor: m.tensor, offset: (row+r)*m.cols + col, at: at + r*TileSide, n: width})
		if width < TileSide {
			visit(run{tensor: -1, at: at + r*TileSide + width, n: TileSide - width})
		}
	}
	if height < TileSide {
		visit(run{tensor: -1, at: at + height*TileSide, n: (TileSide - height) * TileSide})
	}
}

// vectorRuns visits blocks [from, to) of the joined 1-D tensors; origin is the
// block that stands at 0.
func (l *Layout) vectorRuns(from, to, origin int, visit func(run)) {
	lo, hi := (from-l.vectorBlock)*l.block, (to-l.vectorBlock)*l.block
	shift := (l.vectorBlock - origin) * l.block
	for _, v := range l.vectors {
		a, b := max(lo, v.at), min(hi, v.at+v.n)
		if a < b {
			visit(run{tensor: v.tensor, offset: a - v.at, at: shift + a, n: b - a})
		}
	}
	if pad := max(lo, l.vectorLen); pad < hi {
		visit(run{tensor: -1, at: shift + pad, n: hi - pad})
	}
}

func ceilDiv(a, b int) int {
	if a > math.MaxInt-b {
		panic("compress: size out of range")
	}
	return (a + b - 1) / b
}
