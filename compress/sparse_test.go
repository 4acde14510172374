package compress

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestGolombParameter compares the integer arithmetic with the definition.
func TestGolombParameter(t *testing.T) {
	for share := MinShare; share <= MaxShare; share++ {
		q := 1 - float64(share)/shareUnit
		want := 1
		for math.Pow(q, float64(want))+math.Pow(q, float64(want+1)) > 1 {
			want++
		}
		if got := golombFor(share).m; got != want {
			t.Errorf("share %d: m = %d, want %d", share, got, want)
		}
	}
}

// TestGolombGaps writes every gap of a block and reads it back; its length is the code's
// definition, and the bound of many gaps holds for each alone.
func TestGolombGaps(t *testing.T) {
	for _, share := range []int{MinShare, 156, 1250, 1700, 2000, 3500, MaxShare} {
		g := golombFor(share)
		out := make([]byte, BlockValues+64)
		for gap := range BlockValues {
			w := bitWriter{out: out}
			g.put(&w, gap, 1, 2)
			n := w.at*8 + int(w.held)
			want := gap/g.m + 1 + int(g.width)
			if gap%g.m >= g.short {
				want++
			}
			if n != want+2 || want > g.maxBits(1, gap) {
				t.Fatalf("share %d, gap %d: %d bits, want %d, bound %d", share, gap, n-2, want, g.maxBits(1, gap))
			}
			r := bitReader{in: out[:w.close()]}
			if got, tail := g.take(&r, 2); got != gap || tail != 1 || !r.closed() {
				t.Fatalf("share %d: gap %d came back as %d, tail %d", share, gap, got, tail)
			}
		}
	}
}

// TestGapPairs reads frames, and random bits behind a magnitude, by pairs of gaps and gap by gap: values, error and what is left
// of the bits are the same.
func TestGapPairs(t *testing.T) {
	const seed = 23
	rng := rand.New(rand.NewPCG(seed, 0))
	src, got, want := make([]float32, BlockValues), make([]float32, BlockValues), make([]float32, BlockValues)
	for _, share := range []int{MinShare, 156, 1000, 2000, denseShare - 1} {
		pairwise := mustSparse(NewTernary(share))
		alone := pairwise
		alone.pairs = nil
		for trial := range 200 {
			n := 1 + rng.IntN(BlockValues)
			in := make([]byte, 2+rng.IntN(1<<(1+trial%12)))
			if trial%2 == 0 {
				for i := range src[:n] {
					src[i] = float32(rng.NormFloat64())
				}
				frame, err := pairwise.Encode(nil, src[:n])
				if err != nil {
					t.Fatal(err)
				}
				in = frame[headerBytes:]
			} else {
				for i := range in {
					in[i] = byte(rng.Uint32())
				}
				in[0], in[1] = 1, byte(rng.IntN(2)<<7)
			}
			a, b := bitReader{in: in}, bitReader{in: in}
			gotErr, wantErr := pairwise.decodeBlock(&a, got[:n]), alone.decodeBlock(&b, want[:n])
			if (gotErr == nil) != (wantErr == nil) {
				t.Fatalf("seed %d, share %d, trial %d: error %v, gap by gap %v", seed, share, trial, gotErr, wantErr)
			}
			if gotErr == nil && (!slices.Equal(got[:n], want[:n]) || 8*a.at-int(a.held) != 8*b.at-int(b.held)) {
				t.Fatalf("seed %d, share %d, trial %d: other values than gap by gap, or other bits read", seed, share, trial)
			}
		}
	}
}

// TestLargest compares with a sort.
func TestLargest(t *testing.T) {
	const seed = 21
	rng := rand.New(rand.NewPCG(seed, 0))
	var list positions
	for trial := range 300 {
		src := make([]float32, 1+rng.IntN(BlockValues))
		for i := range src {
			switch trial % 4 {
			case 0:
				src[i] = float32(rng.NormFloat64())
			case 1: // many ties
				src[i] = float32(rng.IntN(5) - 2)
			case 2: // mostly zero
				src[i] = float32(max(0, rng.IntN(50)-47)) * float32(rng.NormFloat64())
			case 3:
				for src[i] = math.Float32frombits(rng.Uint32()); src[i]-src[i] != 0; {
					src[i] = math.Float32frombits(rng.Uint32())
				}
			}
		}
		k := 1 + rng.IntN(len(src))
		order := make([]int, len(src))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int {
			return int(int64(magnitude(src[b])) - int64(magnitude(src[a])))
		})
		var want []uint16
		for _, at := range order[:k] {
			if src[at] != 0 {
				want = append(want, uint16(at))
			}
		}
		slices.Sort(want)
		for _, p := range paths() {
			n, ok := largest(p, &list, src, k)
			if !ok || !slices.Equal(list[:n], want) {
				t.Fatalf("seed %d, trial %d, path %d: %d of %d values: got %d places, want %d", seed, trial, p, k, len(src), n, len(want))
			}
		}
	}
}

// TestSparseDefinition compares decoded blocks with a plain computation: the kept places
// from a sort, with one level the mean of their magnitudes, with two the nearer of two
// means.
func TestSparseDefinition(t *testing.T) {
	const seed = 22
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, c := range []Sparse{mustSparse(NewTernary(2000)), mustSparse(NewTernary(3500)), mustSparse(NewTopK2(156)), mustSparse(NewTopK2(1250))} {
		src, dst := make([]float32, BlockValues), make([]float32, BlockValues)
		for i := range src {
			src[i] = float32(rng.NormFloat64() * 0.01)
		}
		frame, err := c.Encode(nil, src)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Decode(dst, frame); err != nil {
			t.Fatal(err)
		}
		var kept []float64
		for _, x := range src {
			kept = append(kept, math.Abs(float64(x)))
		}
		slices.Sort(kept)
		kept = kept[BlockValues-keptOf(BlockValues, c.share):]
		sums, counts := map[float64]float64{}, map[float64]float64{}
		for i, x := range src {
			m, got := math.Abs(float64(x)), math.Abs(float64(dst[i]))
			if (m >= kept[0]) != (got != 0) || got != 0 && math.Signbit(float64(x)) != math.Signbit(float64(dst[i])) {
				t.Fatalf("seed %d, %s: value %d: %g became %g", seed, c.Name(), i, x, dst[i])
			}
			if got != 0 {
				sums[got] += m
				counts[got]++
			}
		}
		if len(sums) != c.levels {
			t.Fatalf("seed %d, %s: %d magnitudes", seed, c.Name(), len(sums))
		}
		for m, sum := range sums {
			if mean := sum / counts[m]; math.Abs(mean-m) > mean/256 {
				t.Errorf("seed %d, %s: magnitude %g stands for values of mean %g", seed, c.Name(), m, mean)
			}
		}
		for i, x := range src {
			for m := range sums {
				if got := math.Abs(float64(dst[i])); got != 0 && math.Abs(math.Abs(float64(x))-m) < 0.8*math.Abs(math.Abs(float64(x))-got) {
					t.Errorf("seed %d, %s: %g became %g, %g is nearer", seed, c.Name(), x, got, m)
				}
			}
		}
	}
}

func mustSparse(c Sparse, err error) Sparse {
	if err != nil {
		panic(err)
	}
	return c
}

// TestSparseRefuses builds frames that no encoder writes.
func TestSparseRefuses(t *testing.T) {
	const n = 100
	for _, c := range []Sparse{mustSparse(NewTernary(2000)), mustSparse(NewTopK2(2000))} {
		frame := func(build func(w *bitWriter)) []byte {
			b, err := appendHeader(nil, c.id(), uint16(c.share), n)
			if err != nil {
				t.Fatal(err)
			}
			w := bitWriter{out: make([]byte, 200)}
			build(&w)
			return append(b, w.out[:w.close()]...)
		}
		head := func(w *bitWriter, small, large uint64) {
			w.put(small, 16)
			if c.levels == 2 {
				w.put(large, 16)
			}
		}
		gaps := func(w *bitWriter, gaps ...int) {
			for _, gap := range gaps {
				c.code.put(w, gap, 0, uint(c.levels))
			}
		}
		few := func(build func(w *bitWriter)) []byte {
			return frame(func(w *bitWriter) {
				head(w, 0x8080, 0x80)
				build(w)
			})
		}
		dst := make([]float32, n)
		good := few(func(w *bitWriter) { w.put(2, 12); gaps(w, 0, 98) })
		if err := c.Decode(dst, good); err != nil || dst[0] == 0 || dst[99] == 0 {
			t.Errorf("%s: a sound frame: %v", c.Name(), err)
		}
		for name, b := range map[string][]byte{
			"behind the end":      few(func(w *bitWriter) { w.put(2, 12); gaps(w, 0, 99) }),
			"far behind the end":  few(func(w *bitWriter) { w.put(1, 12); gaps(w, 4000) }),
			"no value":            few(func(w *bitWriter) { w.put(0, 12) }),
			"all values, counted": few(func(w *bitWriter) { w.put(20, 12); gaps(w, make([]int, 20)...) }),
			"too many values":     few(func(w *bitWriter) { w.put(21, 12); gaps(w, make([]int, 21)...) }),
			"zero magnitude":      frame(func(w *bitWriter) { head(w, 0x8000, 0x8000); w.put(1, 12); gaps(w, 1) }),
			"infinite magnitude":  frame(func(w *bitWriter) { head(w, 0x7f80, 0x7f80); gaps(w, make([]int, 20)...) }),
			"ends early":          few(func(w *bitWriter) { w.put(2, 12); gaps(w, 3) }),
			"only zeros":          frame(func(w *bitWriter) { head(w, 0x80, 0x80); w.put(0, 24) }),
			"spare bit set":       few(func(w *bitWriter) { w.put(1, 12); gaps(w, 0); w.put(1<<(7-w.held), 8-w.held) }),
			"nothing":             frame(func(w *bitWriter) {}),
		} {
			if err := c.Decode(dst, b); !errors.Is(err, ErrFrame) {
				t.Errorf("%s: %s: error %v", c.Name(), name, err)
			}
		}
	}
	c := mustSparse(NewTopK2(2000))
	b, _ := appendHeader(nil, c.id(), uint16(c.share), 1)
	if err := c.Decode(make([]float32, 1), append(b, 2, 0, 1, 0, 0xff)); !errors.Is(err, ErrFrame) {
		t.Errorf("magnitudes out of order: error %v", err)
	}
}
