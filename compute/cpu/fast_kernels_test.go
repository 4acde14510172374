//go:build (amd64 || arm64) && !noasm

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// TestTileOffsets keeps the generator's offsets and the struct together.
func TestTileOffsets(t *testing.T) {
	var x tile
	for i, offset := range []uintptr{
		unsafe.Offsetof(x.a), unsafe.Offsetof(x.b), unsafe.Offsetof(x.c), unsafe.Offsetof(x.init), unsafe.Offsetof(x.bias),
		unsafe.Offsetof(x.lda), unsafe.Offsetof(x.ldb), unsafe.Offsetof(x.ldc), unsafe.Offsetof(x.ldinit),
		unsafe.Offsetof(x.k), unsafe.Offsetof(x.blocks), unsafe.Offsetof(x.tail),
	} {
		if offset != uintptr(8*i) {
			t.Errorf("field %d lies at %d, the generator expects %d", i, offset, 8*i)
		}
	}
}

const guard = float32(-12345)

// guarded returns n values followed by guards that check looks at.
func guarded(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n+20)
	for i := range x {
		x[i] = guard
	}
	for i := range n {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func near(t *testing.T, what string, got []float32, want func(i int) float64, n int, tolerance float64) {
	t.Helper()
	for i := range n {
		if w := want(i); math.Abs(float64(got[i])-w) > tolerance*(1+math.Abs(w)) || got[i] != got[i] {
			t.Fatalf("%s, %d values: [%d] is %v, want %v", what, n, i, got[i], w)
		}
	}
	for i := n; i < len(got); i++ {
		if got[i] != guard {
			t.Fatalf("%s, %d values: wrote past the end at %d", what, n, i)
		}
	}
}

// TestVectorKernels runs every row function at every length around the vector
// widths against float64.
func TestVectorKernels(t *testing.T) {
	for _, s := range instructionSets() {
		t.Run(s.name, func(t *testing.T) {
			for n := 1; n <= 50; n++ {
				vectorKernels(t, s.vectors, n)
			}
		})
	}
}

func vectorKernels(t *testing.T, v *vectors, n int) {
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	a, b, dst := guarded(rng, n), guarded(rng, n), guarded(rng, n)
	f := func(x []float32) func(i int) float64 { return func(i int) float64 { return float64(x[i]) } }

	v.add(&dst[0], &a[0], &b[0], n)
	near(t, "add", dst, func(i int) float64 { return float64(a[i]) + float64(b[i]) }, n, 1e-6)

	v.scale(&dst[0], &a[0], n, 0.3)
	near(t, "scale", dst, func(i int) float64 { return 0.3 * float64(a[i]) }, n, 1e-6)

	const rows = 5
	many := guarded(rng, n*rows)
	v.addRows(&dst[0], &many[0], n, rows, 4*n)
	near(t, "addRows", dst, func(i int) float64 {
		sum := 0.3 * float64(a[i])
		for r := range rows {
			sum += float64(many[r*n+i])
		}
		return sum
	}, n, 1e-6)

	copy(dst, b)
	v.scoreGrad(&dst[0], &a[0], n, 0.25, 0.5)
	near(t, "scoreGrad", dst, func(i int) float64 { return float64(a[i]) * (float64(b[i]) - 0.25) * 0.5 }, n, 1e-6)

	var dot, squares, exps float64
	highest := math.Inf(-1)
	for i := range n {
		dot += float64(a[i]) * float64(b[i])
		squares += float64(a[i]) * float64(a[i])
		exps += math.Exp(2*float64(a[i]) - 0.5)
		highest = max(highest, float64(a[i]))
	}
	sums := []float32{v.dot(&a[0], &b[0], n), v.rowMax(&a[0], n), v.expTotal(&a[0], n, 2, 0.5), v.expSum(&dst[0], &a[0], n, 2, 0.5)}
	near(t, "sums", sums, f([]float32{float32(dot), float32(highest), float32(exps), float32(exps)}), len(sums), 1e-5)
	near(t, "expSum", dst, func(i int) float64 { return math.Exp(2*float64(a[i]) - 0.5) }, n, 1e-6)
	if got := v.sumSquaresSlice(a[:n]); math.Abs(got-squares) > 1e-12*squares {
		t.Fatalf("sumSquares of %d: %v, want %v", n, got, squares)
	}

	v.gelu(&dst[0], &a[0], n)
	near(t, "gelu", dst, func(i int) float64 { return geluOf(float64(a[i])) }, n, 1e-6)
	again := slices.Clone(dst)
	v.geluGrad(&dst[0], &again[0], &b[0], &a[0], n)
	near(t, "gelu beside its gradient", again, func(i int) float64 { return geluOf(float64(a[i])) }, n, 1e-6)
	near(t, "geluGrad", dst, func(i int) float64 { return float64(b[i]) * geluSlopeOf(float64(a[i])) }, n, 3e-6)
}

func geluOf(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

func geluSlopeOf(x float64) float64 {
	const h = 1e-5
	return (geluOf(x+h) - geluOf(x-h)) / (2 * h)
}

// TestNegativeMaximum checks rows whose values are all below zero, the value
// of lanes past the end.
func TestNegativeMaximum(t *testing.T) {
	for _, s := range instructionSets() {
		for n := 1; n <= 40; n++ {
			x := make([]float32, n)
			for i := range x {
				x[i] = -float32(i + 1)
			}
			if got := s.vectors.rowMax(&x[0], n); got != -1 {
				t.Errorf("%s: maximum of -1..-%d is %v", s.name, n, got)
			}
		}
	}
}

// TestExp compares the exponential with float64 over its whole range: at most
// two units in the last place where the result is normal, and exact limits.
func TestExp(t *testing.T) {
	for _, s := range instructionSets() {
		exp := func(x float32) float32 {
			in, out := [1]float32{x}, [1]float32{}
			s.vectors.expSum(&out[0], &in[0], 1, 1, 0)
			return out[0]
		}
		worst, at := 0.0, float32(0)
		for x := float32(-87.3); x <= 88.7; x += 0.00731 {
			want := math.Exp(float64(x))
			unit := math.Abs(float64(math.Nextafter32(float32(want), math.MaxFloat32)) - float64(float32(want)))
			if e := math.Abs(float64(exp(x))-want) / unit; e > worst {
				worst, at = e, x
			}
		}
		if worst > 2 {
			t.Errorf("%s: exp(%v) is wrong by %.2f units in the last place", s.name, at, worst)
		}
		inf := float32(math.Inf(1))
		for _, c := range []struct{ x, want float32 }{
			{0, 1}, {89, inf}, {1e30, inf}, {inf, inf}, {-104, 0}, {-1e30, 0}, {-inf, 0}, {1e-40, 1},
		} {
			if got := exp(c.x); got != c.want {
				t.Errorf("%s: exp(%v) = %v, want %v", s.name, c.x, got, c.want)
			}
		}
		if tiny := exp(-95); tiny <= 0 || tiny > 1e-41 {
			t.Errorf("%s: exp(-95) = %v, want a denormal near 5.5e-42", s.name, tiny)
		}
		if nan := exp(float32(math.NaN())); nan == nan {
			t.Errorf("%s: exp(NaN) = %v", s.name, nan)
		}
	}
}

// TestTiles runs every micro-kernel, layout, kind of start and tail against
// float64, and checks that it writes nothing beside its tile.
func TestTiles(t *testing.T) {
	for _, s := range instructionSets() {
		t.Run(s.name, func(t *testing.T) {
			for rows := 1; rows <= 2*s.multiplier.rows+1; rows++ {
				for columns := 1; columns <= s.multiplier.vectors*s.multiplier.lanes; columns += s.multiplier.lanes / 3 {
					for _, depth := range []int{1, 3, 4, 9} {
						oneTile(t, s.multiplier, rows, columns, depth)
					}
				}
			}
		})
	}
}

func oneTile(t *testing.T, m *multiplier, rows, columns, depth int) {
	const ld = 60
	rng := rand.New(rand.NewPCG(uint64(rows), uint64(columns*100+depth)))
	cut := m.split(columns)
	if cut.panels != 1 {
		return // TestSplit covers these
	}
	_, vectors, tail := cut.panel(0)
	a, b := guarded(rng, rows*depth), guarded(rng, depth*columns)
	bias, start := guarded(rng, columns), guarded(rng, rows*ld)
	packed := make([]float32, depth*vectors*m.lanes)
	cut.packRows(packed, b, columns, depth, 0)
	for _, kMajor := range []bool{false, true} {
		for mode := range 4 {
			c := make([]float32, rows*ld)
			for i := range c {
				c[i] = guard
			}
			x := tile{a: &a[0], b: &packed[0], c: &c[0], lda: 4 * depth, ldb: 4 * vectors * m.lanes, ldc: 4 * ld, ldinit: 4 * ld, k: depth, tail: tail}
			if kMajor {
				x.lda = 4 * rows
			}
			if mode&1 != 0 {
				x.init = &start[0]
			}
			if mode&2 != 0 {
				x.bias = &bias[0]
			}
			m.panel(kMajor, vectors, rows, &x)
			for i := range rows {
				for j := range ld {
					if j >= columns {
						if c[i*ld+j] != guard {
							t.Fatalf("tile %d×%d, depth %d: wrote at column %d", rows, columns, depth, j)
						}
						continue
					}
					want := 0.0
					for k := range depth {
						at := i*depth + k
						if kMajor {
							at = k*rows + i
						}
						want += float64(a[at]) * float64(b[k*columns+j])
					}
					if x.init != nil {
						want += float64(start[i*ld+j])
					}
					if x.bias != nil {
						want += float64(bias[j])
					}
					if got := float64(c[i*ld+j]); !(math.Abs(got-want) < 1e-5) {
						t.Fatalf("tile %d×%d, depth %d, k-major %v, mode %d: (%d,%d) is %v, want %v", rows, columns, depth, kMajor, mode, i, j, got, want)
					}
				}
			}
		}
	}
}

// TestSplit checks that panels cover all columns once, in order, whole vectors
// but for the last.
func TestSplit(t *testing.T) {
	for _, s := range instructionSets() {
		for columns := 1; columns <= 500; columns++ {
			cut := s.multiplier.split(columns)
			next := 0
			for i := range cut.panels {
				column, vectors, tail := cut.panel(i)
				if column != next || vectors < 1 || vectors > s.multiplier.vectors || tail < 1 || tail > cut.lanes {
					t.Fatalf("%s: %d columns: panel %d is %d+%d vectors, tail %d", s.name, columns, i, column, vectors, tail)
				}
				if tail < cut.lanes && i < cut.panels-1 {
					t.Fatalf("%s: %d columns: panel %d is short", s.name, columns, i)
				}
				next = column + (vectors-1)*cut.lanes + tail
			}
			if next != columns {
				t.Fatalf("%s: %d columns: panels end at %d", s.name, columns, next)
			}
		}
	}
}

// TestPackColumns compares the transposing pack with packing the transpose.
func TestPackColumns(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, s := range instructionSets() {
		for _, columns := range []int{1, 7, 8, 23, 48, 61} {
			for _, depth := range []int{1, 7, 8, 9, 32, 35} {
				b, bt := guarded(rng, columns*depth), make([]float32, columns*depth)
				for j := range columns {
					for k := range depth {
						bt[k*columns+j] = b[j*depth+k]
					}
				}
				cut := s.multiplier.split(columns)
				for i := range cut.panels {
					column, vectors, _ := cut.panel(i)
					got, want := make([]float32, depth*vectors*cut.lanes), make([]float32, depth*vectors*cut.lanes)
					cut.packColumns(got, b[column*depth:], depth, depth, i)
					cut.packRows(want, bt[column:], columns, depth, i)
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Fatalf("%s: %d columns, depth %d, panel %d differ", s.name, columns, depth, i)
					}
				}
			}
		}
	}
}
