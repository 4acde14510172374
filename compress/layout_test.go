package compress_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/compress"
)

// number returns tensors whose values are all different and not zero.
func number(shapes []compress.Shape) [][]float32 {
	var out [][]float32
	next := float32(1)
	for _, s := range shapes {
		v := make([]float32, s.Values())
		for i := range v {
			v[i] = next
			next++
		}
		out = append(out, v)
	}
	return out
}

func zeros(shapes []compress.Shape) [][]float32 {
	var out [][]float32
	for _, s := range shapes {
		out = append(out, make([]float32, s.Values()))
	}
	return out
}

var mixed = []compress.Shape{
	{Name: "a", Dims: []int{100}},
	{Name: "b", Dims: []int{130, 70}},
	{Name: "c", Dims: []int{5000}},
	{Name: "d", Dims: []int{64, 64}},
	{Name: "e", Dims: []int{1, 3}},
	{Name: "f", Dims: []int{2, 3, 70}},
	{Name: "g", Dims: []int{1}},
}

func newLayout(t testing.TB, shapes []compress.Shape, codec compress.Codec) *compress.Layout {
	t.Helper()
	l, err := compress.NewLayout(shapes, compress.EncodedBlockBytes(codec))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestBlockOrder checks the place of single values against the definition of R4.
func TestBlockOrder(t *testing.T) {
	l := newLayout(t, mixed, compress.Int8{})
	tensors := number(mixed)
	dst := make([]float32, l.Values())
	l.Gather(dst, tensors)

	// b: 3×2 tiles (blocks 0 to 5), d: block 6, e: 7, f: 2 rows of 210: 4 tiles (8 to 11),
	// then a, c, g joined: 5,101 values in blocks 12 and 13.
	if l.Blocks() != 14 || l.Values() != 14*4096 || l.Parameters() != 100+130*70+5000+4096+3+420+1 {
		t.Fatalf("%d blocks, %d values, %d parameters", l.Blocks(), l.Values(), l.Parameters())
	}
	at := func(block, i int) float32 { return dst[block*4096+i] }
	for _, c := range []struct {
		what      string
		got, want float32
	}{
		{"b[0][0]", at(0, 0), tensors[1][0]},
		{"b[63][63]", at(0, 4095), tensors[1][63*70+63]},
		{"b[0][64]", at(1, 0), tensors[1][64]},
		{"b[5][69]", at(1, 5*64+5), tensors[1][5*70+69]},
		{"padding right of b", at(1, 6), 0},
		{"b[129][69]", at(5, 1*64+5), tensors[1][129*70+69]},
		{"padding below b", at(5, 2*64), 0},
		{"d[1][0]", at(6, 64), tensors[3][64]},
		{"e[0][2]", at(7, 2), tensors[4][2]},
		{"f[1][2][69]", at(11, 64+17), tensors[5][419]},
		{"a[99]", at(12, 99), tensors[0][99]},
		{"c[0]", at(12, 100), tensors[2][0]},
		{"c[4999]", at(13, 5099-4096), tensors[2][4999]},
		{"g[0]", at(13, 5100-4096), tensors[6][0]},
		{"padding after g", at(13, 5101-4096), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: %g, want %g", c.what, c.got, c.want)
		}
	}
}

// TestGatherScatter checks on random shapes that every value has one place, that
// padding is +0, and that slabs cover block order without gap or overlap.
func TestGatherScatter(t *testing.T) {
	const seed = 3
	rng := rand.New(rand.NewPCG(seed, 0))
	for trial := range 60 {
		var shapes []compress.Shape
		for i := range 1 + rng.IntN(6) {
			dims := []int{1 + rng.IntN(200)}
			if rng.IntN(3) > 0 {
				dims = append(dims, 1+rng.IntN(200))
			}
			shapes = append(shapes, compress.Shape{Name: string(rune('a' + i)), Dims: dims})
		}
		l := newLayout(t, shapes, compress.Int8{})
		tensors := number(shapes)
		if err := l.Check(tensors); err != nil {
			t.Fatal(err)
		}
		whole := dirty(l.Values())
		l.Gather(whole, tensors)
		bySlab := dirty(l.Values())
		back := zeros(shapes)
		end := 0
		for s := range l.Slabs() {
			from, to := l.SlabValues(s)
			if from != end || to <= from || to > l.Values() {
				t.Fatalf("seed %d, trial %d: slab %d is [%d, %d) after %d", seed, trial, s, from, to, end)
			}
			end = to
			l.GatherSlab(bySlab[from:to], tensors, s)
			l.ScatterSlab(back, bySlab[from:to], s)
		}
		if end != l.Values() {
			t.Fatalf("seed %d, trial %d: slabs end at %d of %d", seed, trial, end, l.Values())
		}
		sum, want := 0.0, 0.0
		for i := range whole {
			if math.Float32bits(whole[i]) != math.Float32bits(bySlab[i]) {
				t.Fatalf("seed %d, trial %d: value %d differs by slabs", seed, trial, i)
			}
			sum += float64(whole[i])
		}
		for i := range tensors {
			for j, x := range tensors[i] {
				want += float64(x)
				if back[i][j] != x {
					t.Fatalf("seed %d, trial %d: tensor %d value %d came back as %g", seed, trial, i, j, back[i][j])
				}
			}
		}
		if sum != want {
			t.Fatalf("seed %d, trial %d: block order sums to %g, tensors to %g", seed, trial, sum, want)
		}
	}
}

func dirty(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.NaN())
	}
	return v
}

func TestZeroPadding(t *testing.T) {
	l := newLayout(t, mixed, compress.Int8{})
	ones := zeros(mixed)
	for _, v := range ones {
		for i := range v {
			v[i] = 1
		}
	}
	want := make([]float32, l.Values())
	l.Gather(want, ones)
	for s := range l.Slabs() {
		from, to := l.SlabValues(s)
		got := make([]float32, to-from)
		for i := range got {
			got[i] = 1
		}
		l.ZeroPadding(got, s)
		for i := range got {
			if got[i] != want[from+i] {
				t.Fatalf("slab %d value %d: %g, want %g", s, i, got[i], want[from+i])
			}
		}
	}
}

// TestZeroResting compares with tensors of which only the corner is set.
func TestZeroResting(t *testing.T) {
	shapes := []compress.Shape{
		{Name: "columns", Dims: []int{130, 150}, Corner: []int{130, 70}},
		{Name: "all", Dims: []int{66, 66}},
		{Name: "rows", Dims: []int{150, 130}, Corner: []int{70, 130}},
		{Name: "vector", Dims: []int{5000}, Corner: []int{4100}},
		{Name: "both", Dims: []int{65, 65}, Corner: []int{1, 64}},
		{Name: "short", Dims: []int{7}, Corner: []int{7}},
	}
	l := newLayout(t, shapes, compress.FP32{})
	ones, corners := zeros(shapes), zeros(shapes)
	for i, s := range shapes {
		for j := range ones[i] {
			ones[i][j] = 1
			last := len(s.Dims) - 1
			if s.Corner == nil || j%s.Dims[last] < s.Corner[last] && (last == 0 || j/s.Dims[1] < s.Corner[0]) {
				corners[i][j] = 1
			}
		}
	}
	want := make([]float32, l.Values())
	l.Gather(want, corners)
	for s := range l.Slabs() {
		from, to := l.SlabValues(s)
		got := make([]float32, to-from)
		l.GatherSlab(got, ones, s)
		l.ZeroResting(got, s)
		if !slices.Equal(got, want[from:to]) {
			t.Fatalf("slab %d of %d: not what moves is left", s, l.Slabs())
		}
	}
	for name, bad := range map[string]compress.Shape{
		"extents": {Name: "a", Dims: []int{4, 4}, Corner: []int{4}}, "too large": {Name: "a", Dims: []int{4}, Corner: []int{5}},
		"empty": {Name: "a", Dims: []int{4, 4}, Corner: []int{4, 0}}, "three": {Name: "a", Dims: []int{4, 4, 4}, Corner: []int{4, 4, 4}},
	} {
		if _, err := compress.NewLayout([]compress.Shape{bad}, 4096); !errors.Is(err, compress.ErrLayout) {
			t.Errorf("a corner with bad %s: %v", name, err)
		}
	}
}

// TestSlabSize checks R4: all slabs but the last encode to 16 KiB or more; a fragment has 8 or more of them before they grow
// beyond that, and they grow to 64 KiB at most.
func TestSlabSize(t *testing.T) {
	for _, name := range compress.Names() {
		codec, _ := compress.ByName(name)
		perBlock := compress.EncodedBlockBytes(codec)
		frame := codec.EncodedSlabBytes(compress.BlockValues) - perBlock // of no blocks
		for _, blocks := range []int{1, 3, 15, 60, 107, 400, 3000, 50_000} {
			l := newLayout(t, []compress.Shape{{Name: "w", Dims: []int{64 * blocks, 64}}}, codec)
			from, to := l.SlabValues(0)
			n := codec.EncodedSlabBytes(to-from) - frame
			fewest := n-perBlock < compress.MinSlabBytes
			switch {
			case l.Slabs() > 1 && n < compress.MinSlabBytes:
				t.Errorf("%s, %d blocks: slab 0 of %d encodes to %d bytes", name, blocks, l.Slabs(), n)
			case !fewest && (l.Slabs() < 8 || n > 64<<10):
				t.Errorf("%s, %d blocks: %d slabs of %d bytes", name, blocks, l.Slabs(), n)
			case blocks*perBlock > 2<<20 && n+perBlock <= 64<<10:
				t.Errorf("%s, %d blocks: slab 0 encodes to %d bytes only", name, blocks, n)
			}
		}
	}
}

func TestLayoutRefuses(t *testing.T) {
	for name, shapes := range map[string][]compress.Shape{
		"nothing":       {},
		"no name":       {{Dims: []int{1}}},
		"no dimensions": {{Name: "a"}},
		"zero":          {{Name: "a", Dims: []int{4, 0}}},
		"negative":      {{Name: "a", Dims: []int{-4, -4}}},
		"overflow":      {{Name: "a", Dims: []int{1 << 40, 1 << 40}}},
		"twice":         {{Name: "a", Dims: []int{4}}, {Name: "a", Dims: []int{4}}},
		"thin and long": {{Name: "a", Dims: []int{1 << 32, 1}}},
		"many large":    {{Name: "a", Dims: []int{1 << 33}}, {Name: "b", Dims: []int{1 << 33}}},
	} {
		if _, err := compress.NewLayout(shapes, 4160); !errors.Is(err, compress.ErrLayout) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := compress.NewLayout(mixed, 0); !errors.Is(err, compress.ErrLayout) {
		t.Errorf("blocks of no bytes: error %v", err)
	}
	l := newLayout(t, mixed, compress.Int8{})
	bad := zeros(mixed)
	bad[2] = bad[2][1:]
	if err := l.Check(bad); !errors.Is(err, compress.ErrLayout) {
		t.Errorf("a tensor too short: error %v", err)
	}
	if err := l.Check(bad[:3]); !errors.Is(err, compress.ErrLayout) {
		t.Errorf("tensors missing: error %v", err)
	}
}

func TestFlatLayout(t *testing.T) {
	l, err := compress.NewFlatLayout("w", 10, 4)
	if err != nil {
		t.Fatal(err)
	}
	if l.Slabs() != 3 || l.Values() != 12 || l.Parameters() != 10 {
		t.Fatalf("%d slabs, %d values, %d parameters", l.Slabs(), l.Values(), l.Parameters())
	}
	tensors := number(l.Shapes())
	dst := dirty(12)
	l.Gather(dst, tensors)
	if dst[9] != 10 || dst[10] != 0 || dst[11] != 0 {
		t.Fatalf("block order %v", dst)
	}
	if _, err := compress.NewFlatLayout("w", 10, 0); !errors.Is(err, compress.ErrLayout) {
		t.Errorf("slabs of nothing: error %v", err)
	}
}

func BenchmarkGather(b *testing.B) {
	shapes := []compress.Shape{{Name: "w", Dims: []int{384, 1536}}, {Name: "b", Dims: []int{1536}}}
	l := newLayout(b, shapes, compress.Int8{})
	tensors := number(shapes)
	dst := make([]float32, l.Values())
	for b.Loop() {
		l.Gather(dst, tensors)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(l.Values()), "ns/value")
}
