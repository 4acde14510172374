package compress

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// TestBasis compares with the definition in float64: each value to one rounding.
func TestBasis(t *testing.T) {
	var b basis
	b.fill()
	for j := range TileSide {
		for r := range half {
			want := math.Sqrt(1.0/32) * math.Cos(math.Pi*float64((2*r+1)*j)/128)
			if j == 0 {
				want = 0.125
			}
			got := b.even[j/2*half+r]
			if j%2 == 1 {
				got = b.odd[j/2*half+r]
			}
			if math.Abs(float64(got)-want) > 0x1p-26 {
				t.Errorf("q(%d, %d) = %g, want %g", j, r, got, want)
			}
		}
	}
}

func randomTile(seed uint64) *tile {
	rng := rand.New(rand.NewPCG(seed, 0))
	var t tile
	for i := range t {
		t[i] = float32(rng.NormFloat64())
	}
	return &t
}

// frequency is the definition of one frequency of a column.
func frequency(t *tile, j, column int) float64 {
	sum := 0.0
	for r := range TileSide {
		sum += float64(t[r*TileSide+column]) * math.Cos(math.Pi*float64((2*r+1)*j)/128)
	}
	if j == 0 {
		return sum * 0.125
	}
	return sum * math.Sqrt(1.0/32)
}

func TestForward(t *testing.T) {
	const seed = 31
	var b basis
	b.fill()
	src := randomTile(seed)
	var got tile
	b.forward(portable, &got, src)
	for j := range TileSide {
		for column := range TileSide {
			if want := frequency(src, j, column); math.Abs(float64(got[j*TileSide+column])-want) > 1e-5 {
				t.Fatalf("seed %d: frequency %d of column %d is %g, want %g", seed, j, column, got[j*TileSide+column], want)
			}
		}
	}
}

// TestInverse puts back what some frequencies hold, compared with the sum of cosines in float64.
func TestInverse(t *testing.T) {
	const seed = 32
	var b basis
	b.fill()
	for _, mask := range []uint64{math.MaxUint64, 1, 2, 1 << 63, 0x8000000000000001, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x0123456789abcdef} {
		src, want := randomTile(seed), [BlockValues]float64{}
		at := 0
		for j := range TileSide {
			if mask>>j&1 == 0 {
				continue
			}
			scale := math.Sqrt(1.0 / 32)
			if j == 0 {
				scale = 0.125
			}
			for i := range BlockValues {
				r, column := i/TileSide, i%TileSide
				want[i] += scale * math.Cos(math.Pi*float64((2*r+1)*j)/128) * float64(src[at*TileSide+column])
			}
			at++
		}
		var got tile
		b.inverse(portable, &got, src, mask)
		for i, x := range got {
			if math.Abs(float64(x)-want[i]) > 1e-5 {
				t.Fatalf("seed %d, frequencies %#x: value %d is %g, want %g", seed, mask, i, x, want[i])
			}
		}
	}
}

func TestForward2D(t *testing.T) {
	const seed = 33
	var b basis
	b.fill()
	src := randomTile(seed)
	got, scratch := *src, tile{}
	b.forward2D(portable, &got, &scratch)
	var columns, rows tile
	for i := range columns {
		columns[i] = float32(frequency(src, i/TileSide, i%TileSide))
	}
	transpose(&rows, &columns)
	for i := range got {
		if want := frequency(&rows, i/TileSide, i%TileSide); math.Abs(float64(got[i])-want) > 1e-4 {
			t.Fatalf("seed %d: value %d is %g, want %g", seed, i, got[i], want)
		}
	}
	b.inverse2D(portable, &got, &scratch)
	for i := range got {
		if math.Abs(float64(got[i]-src[i])) > 1e-4 {
			t.Fatalf("seed %d: value %d came back as %g, was %g", seed, i, got[i], src[i])
		}
	}
}

// TestRankAdapts sees that a block gets the frequencies that the others do not need, and that a
// matrix of that rank comes back up to four bits.
func TestRankAdapts(t *testing.T) {
	const seed, rank = 34, 2
	rng := rand.New(rand.NewPCG(seed, 0))
	c, err := NewRank(rank)
	if err != nil {
		t.Fatal(err)
	}
	src, dst := make([]float32, 3*BlockValues), make([]float32, 3*BlockValues)
	var b basis
	b.fill()
	var rows, block tile
	for i := range 5 * TileSide {
		rows[i] = float32(rng.NormFloat64())
	}
	b.inverse(portable, &block, &rows, 0x8000000000010007) // five frequencies in the middle block
	copy(src[BlockValues:], block[:])
	src[0] = 1e-4
	frame, err := c.Encode(nil, src)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Decode(dst, frame); err != nil {
		t.Fatal(err)
	}
	var lost, all float64
	for i, x := range src {
		lost += (float64(x) - float64(dst[i])) * (float64(x) - float64(dst[i]))
		all += float64(x) * float64(x)
	}
	if got := math.Sqrt(lost / all); got > 0.15 {
		t.Errorf("seed %d: relative error %g", seed, got)
	}
}

func TestRankRefuses(t *testing.T) {
	c, err := NewRank(1)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := c.Encode(nil, randomTile(35)[:])
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"two frequencies": func(b []byte) []byte {
			clear(b[headerBytes:])
			b[headerBytes] = 3
			return append(b, make([]byte, rankRow)...)
		},
		"none, but bytes": func(b []byte) []byte { clear(b[headerBytes:]); return b },
		"no mask":         func(b []byte) []byte { return b[:headerBytes+7] },
		"short row":       func(b []byte) []byte { return b[:len(b)-1] },
	} {
		b := change(append([]byte(nil), frame...))
		if err := c.Decode(make([]float32, BlockValues), b); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestTransformOverflow decodes frequencies whose sums leave float32.
func TestTransformOverflow(t *testing.T) {
	dct := mustSparse(NewDCT(5000))
	b, err := appendHeader(nil, dct.id(), uint16(dct.share), BlockValues)
	if err != nil {
		t.Fatal(err)
	}
	w := bitWriter{out: make([]byte, 4096)}
	w.put(maxScale16, 16)
	w.put(maxScale16, 16)
	for range keptOf(BlockValues, dct.share) {
		dct.code.put(&w, 0, 0, 2)
	}
	dst := make([]float32, BlockValues)
	if err := dct.Decode(dst, append(b, w.out[:w.close()]...)); !errors.Is(err, ErrNotFinite) || !errors.Is(err, ErrFrame) {
		t.Errorf("dct: error %v", err)
	}
	rank, err := NewRank(32)
	if err != nil {
		t.Fatal(err)
	}
	b, err = appendHeader(nil, idRank, 32, BlockValues)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
	for range 32 {
		b = append(b, maxInt4Scale&0xff, maxInt4Scale>>8)
		for range 32 {
			b = append(b, 0x77)
		}
	}
	if err := rank.Decode(dst, b); !errors.Is(err, ErrNotFinite) || !errors.Is(err, ErrFrame) {
		t.Errorf("rank: error %v", err)
	}
}
