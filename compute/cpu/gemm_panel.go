//go:build (amd64 || arm64) && !noasm

package cpu

import "unsafe"

// split cuts n columns into panels. Panels are as wide as the widest
// micro-kernel, but the last two share what is left when that would be a
// single vector.
type split struct {
	columns, lanes int
	wide           int // vectors of a wide panel
	wides          int // wide panels
	narrow         int // vectors of the panels after them
	panels         int
}

func (m *multiplier) split(columns int) split {
	s := split{columns: columns, lanes: m.lanes, wide: m.vectors}
	vectors := parts(columns, m.lanes)
	s.wides = vectors / m.vectors
	switch left := vectors % m.vectors; {
	case left == 0:
		s.panels = s.wides
	case left == 1 && m.vectors == 3 && s.wides > 0:
		s.wides--
		s.narrow = 2
		s.panels = s.wides + 2
	default:
		s.narrow = left
		s.panels = s.wides + 1
	}
	return s
}

// panel returns the first column of panel i, its vectors and the lanes of its
// last vector.
func (s *split) panel(i int) (column, vectors, tail int) {
	if i < s.wides {
		column, vectors = i*s.wide*s.lanes, s.wide
	} else {
		column, vectors = (s.wides*s.wide+(i-s.wides)*s.narrow)*s.lanes, s.narrow
	}
	tail = min(s.lanes, s.columns-column-(vectors-1)*s.lanes)
	return column, vectors, tail
}

// width returns the columns with the last vector filled up.
func (s *split) width() int { return parts(s.columns, s.lanes) * s.lanes }

// packRows packs panel i of B [depth, columns], ld values from row to row,
// into dst, which holds depth · vectors · lanes values. B begins at the panel.
func (s *split) packRows(dst, b []float32, ld, depth, i int) {
	_, vectors, tail := s.panel(i)
	copyPanel(s.lanes, vectors, &dst[0], &b[0], 4*ld, depth, tail)
}

// packColumns packs panel i of Bᵀ, B [columns, depth] with ld values from row
// to row, which begins at the panel.
func (s *split) packColumns(dst, b []float32, ld, depth, i int) {
	_, vectors, tail := s.panel(i)
	width := vectors * s.lanes
	columns := width - s.lanes + tail
	whole := depth / transposeSide * transposeSide
	c := 0
	for ; c+transposeSide <= columns; c += transposeSide {
		row := b[c*ld:]
		if whole > 0 {
			transpose(&dst[c], 4*width, &row[0], 4*ld, whole/transposeSide)
		}
		for k := whole; k < depth; k++ {
			for j := range transposeSide {
				dst[k*width+c+j] = row[j*ld+k]
			}
		}
	}
	for ; c < columns; c++ {
		for k, v := range b[c*ld:][:depth] {
			dst[k*width+c] = v
		}
	}
	if columns < width {
		for k := range depth {
			clear(dst[k*width+columns : (k+1)*width])
		}
	}
}

// aligned returns n values of memory, which grows as needed, that begin at a
// multiple of 64 bytes.
func aligned(memory []float32, n int) (grown, out []float32) {
	if len(memory) < n+16 {
		memory = make([]float32, n+16)
		largePages(memory)
	}
	skip := int(-uintptr(unsafe.Pointer(&memory[0]))/4) & 15
	return memory, memory[skip:][:n:n]
}
