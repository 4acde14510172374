package compress

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// pathCodec is what every codec of this package is inside.
type pathCodec interface {
	Codec
	encode(p path, dst []byte, src []float32) ([]byte, error)
	decode(p path, dst []float32, frame []byte) error
}

func pathCodecs(t testing.TB) []pathCodec {
	var all []pathCodec
	for _, name := range append(Names(), "ternary-35", "rank-32") {
		c, err := ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c.(pathCodec))
	}
	return all
}

// checkEncode sees that all paths make the same frame of the values and give back the same bits.
func checkEncode(t *testing.T, c pathCodec, src []float32) {
	want, wantErr := c.encode(portable, nil, src)
	for _, p := range paths() {
		got, err := c.encode(p, nil, src)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s, path %d: error %v, in plain Go %v", c.Name(), p, err, wantErr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%s, path %d: the frame of %d values differs from that of plain Go", c.Name(), p, len(src))
		}
	}
	if wantErr == nil {
		checkDecode(t, c, len(src), want)
	}
}

// checkDecode sees that all paths accept or refuse a frame alike and give the same bits.
func checkDecode(t *testing.T, c pathCodec, n int, frame []byte) {
	want, got := make([]float32, n), make([]float32, n)
	wantErr := c.decode(portable, want, frame)
	for _, p := range paths() {
		err := c.decode(p, got, frame)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s, path %d: error %v, in plain Go %v", c.Name(), p, err, wantErr)
		}
		for i, x := range got {
			if err == nil && math.Float32bits(x) != math.Float32bits(want[i]) {
				t.Fatalf("%s, path %d: value %d is %g, in plain Go %g", c.Name(), p, i, x, want[i])
			}
		}
	}
}

// TestPaths compares all paths on values and frames that are hard: denormal, zeros of
// both signs, borders between codes, near overflow, not finite, changed at random.
func TestPaths(t *testing.T) {
	const seed = 41
	rng := rand.New(rand.NewPCG(seed, 0))
	kinds := []func() float32{
		func() float32 { return float32(rng.NormFloat64()) },
		func() float32 { return float32(rng.NormFloat64() * 1e-41) },
		func() float32 { return float32(rng.NormFloat64() * 1e-37) },
		func() float32 { return float32(rng.NormFloat64() * 1e33) },
		func() float32 { return float32(rng.IntN(31)-15) / 2 },
		func() float32 { return float32(math.Copysign(0, rng.Float64()-0.5)) },
		func() float32 { return float32(math.Ldexp(1.5, -rng.IntN(12))) * float32(rng.IntN(3)-1) },
		func() float32 { // powers of two and their neighbours
			return math.Float32frombits(0x3f800000 - uint32(rng.IntN(9))<<23 + uint32(rng.IntN(2))*uint32(max(0, rng.IntN(9)-7)) - uint32(rng.IntN(3)))
		},
		func() float32 { return float32(math.Ldexp(0.5+0.5*rng.Float64(), 128)) },
		func() float32 { return math.Float32frombits(rng.Uint32()) },
	}
	for _, c := range pathCodecs(t) {
		for trial := range 60 {
			src := make([]float32, 1+rng.IntN(600))
			if trial%5 == 0 {
				src = make([]float32, BlockValues+rng.IntN(2)*rng.IntN(BlockValues))
			}
			for i := range src {
				src[i] = kinds[trial%len(kinds)]()
			}
			checkEncode(t, c, src)
			frame, err := c.encode(portable, nil, src)
			for err == nil && trial%3 == 0 && rng.IntN(8) > 0 {
				frame[headerBytes+rng.IntN(len(frame)-headerBytes)] ^= byte(1 << rng.IntN(8))
				checkDecode(t, c, len(src), frame)
			}
		}
	}
}

// FuzzPaths reads values and a frame's body from bytes.
func FuzzPaths(f *testing.F) {
	f.Add(uint(0), uint16(300), bytes.Repeat([]byte{0, 0, 128, 63, 1, 0, 0, 0}, 200))
	f.Add(uint(2), uint16(64), []byte{128, 63, 0x87, 0x78})
	codecs := pathCodecs(f)
	f.Fuzz(func(t *testing.T, which uint, n uint16, data []byte) {
		c := codecs[which%uint(len(codecs))]
		if n == 0 || int(n) > 2*BlockValues {
			return
		}
		src := make([]float32, n)
		for i := range src {
			if at := 4 * i; at+4 <= len(data) {
				src[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[at:]))
			}
		}
		checkEncode(t, c, src)
		frame, err := c.encode(portable, nil, make([]float32, n))
		if err != nil {
			t.Fatal(err)
		}
		checkDecode(t, c, int(n), append(frame[:headerBytes:headerBytes], data...))
		copy(frame[headerBytes:], data)
		checkDecode(t, c, int(n), frame)
	})
}
