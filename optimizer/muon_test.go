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
func orthogonal(t *testing.T, x []float32, rows, columns int, precision ...compute.Precision) []float32 {
	t.Helper()
	options := cpu.Options{Threads: 1}
	if len(precision) > 0 {
		options.Precision = precision[0]
	}
	d, err := cpu.New(options)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := &core{device: d}
	small := min(rows, columns)
	n, err := openTurner(c, len(x), small)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Alloc(len(x))
	if err != nil {
		t.Fatal(err)
	}
	d.Upload(b, x)
	out := make([]float32, len(x))
	turned, factor := n.orthogonal(b, rows, columns)
	if err := d.Download(out, turned); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		out[i] *= float32(factor)
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
		return singular(transposed(x, rows, columns), columns, rows)
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

// straightforward is what orthogonal approximates, in float64: the norm of the
// singular values' eighth powers, then the polynomials on the matrix itself.
func straightforward(x []float32, rows, columns int) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	gram := func(y []float64) []float64 {
		g := make([]float64, rows*rows)
		for i := range rows {
			for j := range rows {
				g[i*rows+j] = dot(y[i*columns:(i+1)*columns], y[j*columns:(j+1)*columns])
			}
		}
		return g
	}
	square := func(g []float64) []float64 {
		s := make([]float64, len(g))
		for i := range rows {
			for j := range rows {
				s[i*rows+j] = dot(g[i*rows:(i+1)*rows], g[j*rows:(j+1)*rows])
			}
		}
		return s
	}
	fourth := square(gram(y))
	bound := math.Pow(dot(fourth, fourth), 1.0/8)
	for i := range y {
		y[i] /= bound
	}
	for _, p := range polynomials {
		g := gram(y)
		s := square(g)
		next := make([]float64, len(y))
		for i := range rows {
			for k := range rows {
				z := p.b*g[i*rows+k] + p.c*s[i*rows+k]
				if i == k {
					z += p.a
				}
				for j := range columns {
					next[i*columns+j] += z * y[k*columns+j]
				}
			}
		}
		y = next
	}
	return y
}

func transposed(x []float32, rows, columns int) []float32 {
	y := make([]float32, len(x))
	for i := range rows {
		for j := range columns {
			y[j*rows+i] = x[i*columns+j]
		}
	}
	return y
}

// bf16Slack is how far outside of the band singular values may be on a device that
// rounds the operands of its products.
const bf16Slack = 0.12

// TestOrthogonalIsTheIteration: what is computed on the Gram matrix in float32 is the
// iteration on the matrix to rounding, and singular values from a hundredth of the
// largest end in the band, whatever the shape and however small the smallest are.
func TestOrthogonalIsTheIteration(t *testing.T) {
	const seed = 21
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, shape := range [][2]int{{1, 1}, {1, 7}, {7, 1}, {16, 48}, {48, 16}, {24, 24}, {64, 33}, {80, 128}} {
		for _, smallest := range []float64{1, 1e-2, 1e-4, 1e-8} {
			rows, columns := shape[0], shape[1]
			x := normal(rng, rows*columns)
			for i := range rows { // rows from 1 down to the smallest
				for j := range columns {
					x[i*columns+j] *= float32(math.Pow(smallest, float64(i)/float64(max(1, rows-1))))
				}
			}
			got := orthogonal(t, x, rows, columns)
			wide, turned := got, x
			if rows > columns {
				wide, turned = transposed(got, rows, columns), transposed(x, rows, columns)
			}
			want := straightforward(turned, min(rows, columns), max(rows, columns))
			var off, size float64
			for i, v := range want {
				off += (float64(wide[i]) - v) * (float64(wide[i]) - v)
				size += v * v
			}
			if off = math.Sqrt(off / size); !(off < 1e-4) {
				t.Errorf("seed %d, %d×%d, rows down to %g: %g off the iteration in float64", seed, rows, columns, smallest, off)
			}
			before, after := singular(x, rows, columns), singular(got, rows, columns)
			rounded := singular(orthogonal(t, x, rows, columns, compute.BF16), rows, columns)
			large := 0
			var eighth float64
			for _, s := range before {
				eighth += math.Pow(s, 8)
			}
			for _, s := range before {
				if s >= 0.01*math.Pow(eighth, 1.0/8) {
					large++
				}
			}
			if after[0] > turnedTo+1e-3 || after[large-1] < turnedFrom-1e-3 {
				t.Errorf("seed %d, %d×%d, rows down to %g: singular values from %g to %g", seed, rows, columns, smallest, after[large-1], after[0])
			}
			if rounded[0] > turnedTo+bf16Slack || rounded[large-1] < turnedFrom-bf16Slack {
				t.Errorf("seed %d, %d×%d, rows down to %g, bf16: singular values from %g to %g", seed, rows, columns, smallest, rounded[large-1], rounded[0])
			}
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
	inner, err := New(target, MuonConfig{Momentum: 0.95, Every: 1, AdamW: AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}})
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

// TestMuonEvery: fewer moves for steps of fewer tokens, within what a momentum remembers.
func TestMuonEvery(t *testing.T) {
	for _, c := range []struct{ width, tokens, want int }{{128, 256, 4}, {128, 512, 2}, {128, 1024, 1}, {384, 1024, 3}, {768, 256, 4}, {64, 1 << 20, 1}} {
		if got := MuonEvery(c.width, c.tokens); got != c.want {
			t.Errorf("width %d, %d tokens: every %d, want %d", c.width, c.tokens, got, c.want)
		}
	}
	for _, every := range []int{-1, 0, 5} {
		if (MuonConfig{Every: every, AdamW: AdamWConfig{Eps: 1e-8}}).Validate() == nil {
			t.Errorf("every %d is allowed", every)
		}
	}
}
