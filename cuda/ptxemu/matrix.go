package ptxemu

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Accumulation is how tensor cores add up. Cards differ and none says how (Fasi
// et al. 2021, Numerical behavior of NVIDIA tensor cores); a kernel must do with all.
type Accumulation uint8

// The ways to add up the products of a row and a column and what was there.
const (
	Nearest    Accumulation = iota // exactly, rounded once to nearest
	Truncating                     // in groups of four, cut to 24 bits below the largest addend
	Reversed                       // one by one from the last, each sum rounded to nearest
)

// shape is an mma instruction's matrices: D[16,8] = A[16,k]·B[k,8] + C.
type shape struct {
	k    int
	wide bool // TF32, one value in a register instead of two
}

// place returns the row and column of the n-th value that a lane holds of A.
func (s shape) a(lane, n int) (row, column int) {
	if s.wide {
		return lane/4 + 8*(n&1), lane%4 + 4*(n>>1)
	}
	return lane/4 + 8*(n>>1&1), lane%4*2 + n&1 + 8*(n>>2)
}

// b returns the row and column of the n-th value that a lane holds of B.
func (s shape) b(lane, n int) (row, column int) {
	if s.wide {
		return lane%4 + 4*n, lane / 4
	}
	return lane%4*2 + n&1 + 8*(n>>1), lane / 4
}

// c returns the row and column of the n-th value that a lane holds of C and D.
func (shape) c(lane, n int) (row, column int) { return lane/4 + 8*(n>>1), lane%4*2 + n&1 }

// fragment is the registers of a matrix, in the order of PTX.
func (c *compiler) fragment(o Operand, n int, write bool) ([]int, error) {
	if o.Kind != Vector || len(o.Parts) != n {
		return nil, fmt.Errorf("a matrix of %d registers, want %d", len(o.Parts), n)
	}
	at := make([]int, n)
	for k, part := range o.Parts {
		if write && part.Kind != Reg {
			return nil, fmt.Errorf("the destination is no register")
		}
		var err error
		if at[k], err = c.source32(part, B32); err != nil {
			return nil, err
		}
	}
	return at, nil
}

// product is a compiled mma.
type product struct {
	shape
	a, b, c, d []int
	from, sum  Type
	mode       Accumulation
}

// matrixProduct compiles mma.sync.aligned.m16n8k{4,8,16}.row.col.
func (c *compiler) matrixProduct() error {
	i := c.at
	operands, err := c.operands(4)
	if err != nil {
		return err
	}
	if len(i.Op) != 10 || i.Op[1] != "sync" || i.Op[2] != "aligned" || i.Op[4] != "row" || i.Op[5] != "col" || i.Op[7] != i.Op[8] || i.Op[6] != i.Op[9] {
		return errUnknown
	}
	p := &product{from: parseType(i.Op[7]), sum: parseType(i.Op[6]), mode: c.k.config.Accumulation}
	switch name := i.Op[3]; {
	case name == "m16n8k16" && p.from != TF32:
		p.k = 16
	case name == "m16n8k8":
		p.k = 8
	case name == "m16n8k4" && p.from == TF32:
		p.k = 4
	default:
		return errUnknown
	}
	p.wide = p.from == TF32
	if p.from != F16 && p.from != BF16 && p.from != TF32 || p.sum != F32 && (p.sum != F16 || p.from != F16) {
		return errUnknown
	}
	per, sums := 2, 4
	if p.wide {
		per = 1
	}
	if p.sum == F16 {
		sums = 2
	}
	for _, f := range []struct {
		to    *[]int
		o     Operand
		n     int
		write bool
	}{{&p.d, operands[0], sums, true}, {&p.a, operands[1], p.k / 2 / per, false}, {&p.b, operands[2], p.k / 4 / per, false}, {&p.c, operands[3], sums, false}} {
		if *f.to, err = c.fragment(f.o, f.n, f.write); err != nil {
			return err
		}
	}
	c.op.mma, c.op.flops = true, int64(2*16*8*p.k)
	c.op.run = p.run
	return nil
}

// pair returns the values of a register of A or B: two, or one and 0 with TF32, whose lower bits the card ignores.
func (p *product) pair(v uint32) (low, high float64) {
	switch p.from {
	case BF16:
		return float64(math.Float32frombits(v << 16)), float64(math.Float32frombits(v &^ 0xffff))
	case F16:
		return half{10, 15}.decode(v & 0xffff), half{10, 15}.decode(v >> 16)
	default:
		return float64(math.Float32frombits(v &^ 0x1fff)), 0
	}
}

func (p *product) run(w *warp, m uint32) {
	if m != allLanes {
		w.fault(Divergence, bits.TrailingZeros32(^m), "a product of matrices wants all 32 threads, but %#x run it", m)
		return
	}
	var a [16][16]float64
	var b, c [16][8]float64
	per := 2 // values of a register
	if p.wide {
		per = 1
	}
	for k, at := range p.a {
		for lane, v := range &w.r[at] {
			row, column := p.shape.a(lane, per*k)
			low, high := p.pair(v)
			if a[row&15][column&15] = low; per == 2 {
				a[row&15][(column+1)&15] = high
			}
		}
	}
	for k, at := range p.b {
		for lane, v := range &w.r[at] {
			row, column := p.shape.b(lane, per*k)
			low, high := p.pair(v)
			if b[row&15][column&7] = low; per == 2 {
				b[(row+1)&15][column&7] = high
			}
		}
	}
	for lane := range 32 {
		for n := range 4 {
			row, column := p.shape.c(lane, n)
			if p.sum == F32 {
				c[row&15][column&7] = float64(math.Float32frombits(w.r[p.c[n]][lane]))
			} else {
				c[row&15][column&7] = halfOf(F16).decode(w.r[p.c[n/2]][lane] >> (16 * (n & 1)) & 0xffff)
			}
		}
	}
	for row := range c {
		p.mode.add(&c[row], a[row][:p.k], &b)
	}
	for lane := range 32 {
		for n, at := range p.d {
			if p.sum == F32 {
				row, column := p.shape.c(lane, n)
				w.r[at][lane] = math.Float32bits(float32(c[row&15][column&7]))
				continue
			}
			row, column := p.shape.c(lane, 2*n)
			w.r[at][lane] = halfOf(F16).encode(c[row&15][column&7], nearest) | halfOf(F16).encode(c[row&15][(column+1)&7], nearest)<<16
		}
	}
}

// add adds a row of A times B to a row of C as a card of a kind computes it. Products of two values are exact in float64.
// Columns go side by side, since each is one long chain of sums.
func (mode Accumulation) add(c *[8]float64, a []float64, b *[16][8]float64) {
	switch mode {
	case Truncating:
		for k := 0; k+4 <= len(a); k += 4 {
			for j := range c {
				c[j] = truncatedSum([5]float64{c[j], a[k] * b[k][j], a[k+1] * b[k+1][j], a[k+2] * b[k+2][j], a[k+3] * b[k+3][j]})
			}
		}
	case Reversed:
		for k := len(a) - 1; k >= 0; k-- {
			for j, v := range &b[k] {
				c[j] = float64(float32(c[j] + a[k]*v))
			}
		}
	case Nearest:
		c0, c1, c2, c3, c4, c5, c6, c7 := c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
		for k, v := range a {
			row := &b[k]
			c0, c1, c2, c3 = c0+v*row[0], c1+v*row[1], c2+v*row[2], c3+v*row[3]
			c4, c5, c6, c7 = c4+v*row[4], c5+v*row[5], c6+v*row[6], c7+v*row[7]
		}
		*c = [8]float64{c0, c1, c2, c3, c4, c5, c6, c7}
	}
}

// truncatedSum cuts all addends to 24 bits below the largest and the sum to a float32 towards zero.
func truncatedSum(addends [5]float64) float64 {
	const sign = 1 << 63
	largest := uint64(0) // magnitudes as integers are in the same order
	for _, v := range &addends {
		largest = max(largest, math.Float64bits(v)&^sign)
	}
	exponent := largest >> 52
	if largest == 0 || exponent == 2047 {
		return addends[0] + addends[1] + addends[2] + addends[3] + addends[4]
	}
	inverse := math.Float64frombits((2*1023 + 23 - exponent) << 52) // of the 24th bit
	s := int64(0)
	for _, v := range &addends {
		s += int64(v * inverse)
	}
	magnitude := uint64(max(s, -s))
	lost := max(0, bits.Len64(magnitude)-24)
	v := float64(magnitude>>lost<<lost) / inverse
	if s < 0 {
		v = -v
	}
	return float64(round32(v, towardZero)) // where denormals have fewer bits
}

// ldmatrix compiles ldmatrix.sync.aligned.m8n8.x{1,2,4}: eight lanes name the
// rows of a matrix of 8 × 8 values of 16 bits, every lane receives two of them.
func (c *compiler) ldmatrix() error {
	i := c.at
	operands, err := c.operands(2)
	if err != nil {
		return err
	}
	count := 0
	for n, name := range map[int]string{1: "x1", 2: "x2", 4: "x4"} {
		if i.has(name) {
			count = n
		}
	}
	if count == 0 || !i.has("m8n8") || !i.has("b16") {
		return errUnknown
	}
	to, err := c.fragment(operands[0], count, true)
	if err != nil {
		return err
	}
	a, err := c.access(operands[1], i.spaceOf(), load, 16)
	if err != nil {
		return err
	}
	turned := i.has("trans")
	c.op.run = func(w *warp, m uint32) {
		if m != allLanes {
			w.fault(Divergence, bits.TrailingZeros32(^m), "ldmatrix wants all 32 threads, but %#x run it", m)
			return
		}
		rows := uint32(1<<(8*count) - 1)
		w.locate(a)
		data, same := w.reach(a, rows)
		if data == nil {
			return
		}
		if same != rows {
			w.fault(Outside, bits.TrailingZeros32(rows&^same), "the rows are not all in shared memory")
			return
		}
		for k, at := range to {
			for lane := range 32 {
				if !turned {
					w.r[at][lane] = binary.LittleEndian.Uint32(data[w.address[8*k+lane/4]+uint64(lane%4*4):])
					continue
				}
				low := binary.LittleEndian.Uint16(data[w.address[8*k+lane%4*2]+uint64(lane/4*2):])
				high := binary.LittleEndian.Uint16(data[w.address[8*k+lane%4*2+1]+uint64(lane/4*2):])
				w.r[at][lane] = uint32(high)<<16 | uint32(low)
			}
		}
	}
	return nil
}
