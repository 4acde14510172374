package optimizer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu"
)

// orthogonal runs the iteration on one matrix.
func orthogonal(t *testing.T, x []float32, rows, columns int) []float32 {
	t.Helper()
	d, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := &core{device: d}
	small := min(rows, columns)
	n, err := openNewtonSchulz(c, len(x), small)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Alloc(len(x))
	if err != nil {
		t.Fatal(err)
	}
	d.Upload(b, x)
	out := make([]float32, len(x))
	if err := d.Download(out, n.orthogonal(b, rows, columns)); err != nil {
		t.Fatal(err)
	}
	return out
}

func normal(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// singular returns the singular values of a matrix, largest first: Jacobi's
// one-sided rotations in float64 make its rows orthogonal, their lengths are the
// values.
func singular(x []float32, rows, columns int) []float64 {
	if rows > columns {
		turned := make([]float32, len(x))
		for i := range rows {
			for j := range columns {
				turned[j*rows+i] = x[i*columns+j]
			}
		}
		return singular(turned, columns, rows)
	}
	m := make([][]float64, rows)
	for i := range m {
		for _, v := range x[i*columns : (i+1)*columns] {
			m[i] = append(m[i], float64(v))
		}
	}
	for rotated := true; rotated; {
		rotated = false
		for i := range m {
			for j := range i {
				a, b, c := dot(m[i], m[i]), dot(m[j], m[j]), dot(m[i], m[j])
				if math.Abs(c) <= 1e-12*math.Sqrt(a*b) {
					continue
				}
				rotated = true
				rotate(m[i], m[j], (b-a)/(2*c))
			}
		}
	}
	values := make([]float64, rows)
	for i := range m {
		values[i] = math.Sqrt(dot(m[i], m[i]))
	}
	slices.Sort(values)
	slices.Reverse(values)
	return values
}

// rotate turns two rows by the angle whose cotangent doubled is zeta, which makes
// them orthogonal.
func rotate(x, y []float64, zeta float64) {
	tan := math.Copysign(1, zeta) / (math.Abs(zeta) + math.Hypot(1, zeta))
	cos := 1 / math.Hypot(1, tan)
	for k := range x {
		x[k], y[k] = cos*x[k]-cos*tan*y[k], cos*tan*x[k]+cos*y[k]
	}
}

func dot(x, y []float64) float64 {
	var sum float64
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

// TestOrthogonal: singular values end around 1 whatever the shape. Five steps
// multiply a share of the norm by at most newtonA⁵, so that smaller ones than 0.01
// stay below; a random matrix that is not square has none.
func TestOrthogonal(t *testing.T) {
	const seed, enough = 21, 0.01
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, shape := range [][2]int{{1, 1}, {1, 7}, {7, 1}, {16, 48}, {48, 16}, {24, 24}, {64, 33}, {80, 128}} {
		rows, columns := shape[0], shape[1]
		x := normal(rng, rows*columns)
		before, after := singular(x, rows, columns), singular(orthogonal(t, x, rows, columns), rows, columns)
		norm := math.Sqrt(dot(before, before))
		large := 0
		for _, s := range before {
			if s > enough*norm {
				large++
			}
		}
		if rows != columns && large != min(rows, columns) {
			t.Errorf("seed %d, %d×%d: singular values %v are no test", seed, rows, columns, before)
		}
		if after[0] > 1.3 || after[large-1] < 0.6 {
			t.Errorf("seed %d, %d×%d: singular values from %g to %g", seed, rows, columns, after[large-1], after[0])
		}
	}
}

// TestOrthogonalKeepsDirections: UᵀXV stays diagonal and positive, which for the
// iteration means that the result's product with x is symmetric and has x's sign.
func TestOrthogonalKeepsDirections(t *testing.T) {
	const seed, n = 22, 12
	rng := rand.New(rand.NewPCG(seed, 0))
	x := normal(rng, n*n)
	y := orthogonal(t, x, n, n)
	product := func(i, j int) float64 {
		var sum float64
		for k := range n {
			sum += float64(x[i*n+k]) * float64(y[j*n+k])
		}
		return sum
	}
	for i := range n {
		if product(i, i) <= 0 {
			t.Errorf("seed %d: x·yᵀ has %g on its diagonal", seed, product(i, i))
		}
		for j := range i {
			if diff := math.Abs(product(i, j) - product(j, i)); diff > 1e-3 {
				t.Errorf("seed %d: x·yᵀ differs from its transpose by %g", seed, diff)
			}
		}
	}
}

// TestOrthogonalIgnoresScale: powers of two change no bit, other factors only
// roundings.
func TestOrthogonalIgnoresScale(t *testing.T) {
	const seed, rows, columns = 23, 9, 20
	rng := rand.New(rand.NewPCG(seed, 0))
	x := normal(rng, rows*columns)
	want := orthogonal(t, x, rows, columns)
	scaled := func(by float32) []float32 {
		y := slices.Clone(x)
		for i := range y {
			y[i] *= by
		}
		return orthogonal(t, y, rows, columns)
	}
	for _, by := range []float32{0x1p-40, 0.5, 0x1p30} {
		if !slices.Equal(scaled(by), want) {
			t.Errorf("seed %d: a factor of %g changes bits", seed, by)
		}
	}
	for i, v := range scaled(3e-5) {
		if math.Abs(float64(v-want[i])) > 1e-4 {
			t.Errorf("seed %d: value %d is %g, at another scale %g", seed, i, v, want[i])
		}
	}
}

// TestOrthogonalOfNothing: zero stays zero, and so does what float32 cannot square.
func TestOrthogonalOfNothing(t *testing.T) {
	for _, v := range []float32{0, 1e-40} {
		for _, y := range orthogonal(t, []float32{v, 0, 0, v}, 2, 2) {
			if y != 0 {
				t.Errorf("%g becomes %g", v, y)
			}
		}
	}
}

// TestMuonLeavesLookupsToAdamW: a table has Adam's moments, a hidden matrix one
// momentum, and the two steps are of about the same size.
func TestMuonLeavesLookupsToAdamW(t *testing.T) {
	const seed, rows, columns = 24, 32, 64
	d, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var buffers [2]compute.Buffer
	for i := range buffers {
		if buffers[i], err = d.Alloc(2 * rows * columns); err != nil {
			t.Fatal(err)
		}
	}
	target := Target{
		Device: d, Params: buffers[0], Grads: buffers[1], Lookups: []string{"table"},
		Tensors: []compute.Tensor{{Name: "table", Shape: []int{rows, columns}}, {Name: "w", Shape: []int{rows, columns}}},
	}
	inner, err := New(target, MuonConfig{Momentum: 0.95, AdamW: AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}})
	if err != nil {
		t.Fatal(err)
	}
	d.Upload(target.Grads, normal(rand.New(rand.NewPCG(seed, 0)), 2*rows*columns))
	if _, err := inner.Step(0.01, 0, 1); err != nil {
		t.Fatal(err)
	}
	state, err := inner.Save()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, kept := range state.Tensors {
		names = append(names, kept.Name)
	}
	if want := []string{"adamw.m.table", "adamw.v.table", "muon.m.w"}; !slices.Equal(names, want) {
		t.Errorf("keeps %v, want %v", names, want)
	}
	size := func(from int) float64 {
		return math.Sqrt(d.SumSquares(target.Params.Slice(from, from+rows*columns)) / (rows * columns))
	}
	// The first step of Adam is the rate everywhere; Muon's is muonSize of it, up to
	// singular values that are not quite 1.
	if adam, muon := size(0), size(rows*columns); math.Abs(adam-0.01) > 1e-5 || muon < 0.7*muonSize*0.01 || muon > 1.2*muonSize*0.01 {
		t.Errorf("steps of %g by adamw and %g by muon", adam, muon)
	}
}
