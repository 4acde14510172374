package compresstest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"dunlin/compress"
)

// Properties states what a codec promises beyond the Codec interface.
type Properties struct {
	// Exact codecs give back the bits they were given.
	Exact bool
	// GaussError is the root mean square error of Gaussian values, as a share of their
	// root mean square, known from theory; what is measured may be 3 % off. 0 for exact
	// codecs.
	GaussError float64
	// Entropy is the least number of bits a value that Gaussian values need with this
	// codec's choices; a slab of them takes at most 2 % and 0.02 bits more. 0 where the rate is fixed.
	Entropy float64
	// MaxError bounds |x − decoded x| for a value x in a group of values whose
	// largest magnitude is absmax. Unused for exact codecs.
	MaxError func(x, absmax float64) float64
	// Group is the number of values that share a scale; values i and j share it
	// when i/Group == j/Group. Unused for exact codecs.
	Group int
	// BitsPerValue bounds the size of a frame of one block or more, header included.
	BitsPerValue float64
	// Transform codecs compute with sums of values: they may refuse values above 2^112, and
	// decode zeros and equal values up to a rounding.
	Transform bool
	// FixedRate codecs give frames of exactly EncodedSlabBytes.
	FixedRate bool
}

// Run checks codec against its properties.
func Run(t *testing.T, codec compress.Codec, p Properties) {
	t.Run("name", func(t *testing.T) { checkName(t, codec) })
	t.Run("error bound", func(t *testing.T) { checkError(t, codec, p) })
	t.Run("size", func(t *testing.T) { checkSize(t, codec, p) })
	t.Run("deterministic", func(t *testing.T) { checkDeterministic(t, codec, p) })
	t.Run("encode refuses", func(t *testing.T) { checkEncodeRefuses(t, codec) })
	t.Run("decode refuses", func(t *testing.T) { checkDecodeRefuses(t, codec) })
	t.Run("no allocation", func(t *testing.T) { checkAllocations(t, codec) })
	t.Run("gauss", func(t *testing.T) { checkGauss(t, codec, p) })
	t.Run("law", func(t *testing.T) { checkLaw(t, codec) })
	t.Run("idempotent", func(t *testing.T) { checkIdempotent(t, codec, p) })
}

// Inputs returns named slices of values that codecs find hard.
func Inputs(seed uint64) map[string][]float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	fill := func(n int, f func() float32) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = f()
		}
		return out
	}
	gauss := func(scale float64) func() float32 {
		return func() float32 { return float32(rng.NormFloat64() * scale) }
	}
	in := map[string][]float32{
		"one":            {0.5},
		"odd length":     fill(1001, gauss(1e-3)),
		"gauss block":    fill(compress.BlockValues, gauss(1e-3)),
		"gauss slab":     fill(4*compress.BlockValues, gauss(0.02)),
		"zeros":          make([]float32, compress.BlockValues),
		"tiny":           fill(compress.BlockValues, gauss(1e-37)),
		"denormal":       fill(compress.BlockValues, gauss(1e-41)),
		"huge":           fill(compress.BlockValues, gauss(5e37)),
		"negative zeros": fill(512, func() float32 { return float32(math.Copysign(0, -1)) }),
		"heavy tail":     fill(compress.BlockValues, func() float32 { return float32(math.Exp(rng.NormFloat64()*6) * float64(rng.IntN(3)-1)) }),
		"random bits": fill(compress.BlockValues, func() float32 {
			for {
				if x := math.Float32frombits(rng.Uint32()); x-x == 0 {
					return x
				}
			}
		}),
	}
	extreme := make([]float32, compress.BlockValues)
	extreme[3], extreme[300] = math.MaxFloat32, -math.MaxFloat32
	extreme[700], extreme[1400] = math.SmallestNonzeroFloat32, 0x1p-126
	in["extremes"] = extreme
	return in
}

// inputs returns the Inputs that a codec with these properties must take.
func (p Properties) inputs(seed uint64) map[string][]float32 {
	in := Inputs(seed)
	for name, src := range in {
		if p.Transform && absmax(src) > 0x1p112 {
			delete(in, name)
		}
	}
	return in
}

func mustEncode(t *testing.T, codec compress.Codec, src []float32) []byte {
	t.Helper()
	frame, err := codec.Encode(nil, src)
	if err != nil {
		t.Fatalf("encode %d values: %v", len(src), err)
	}
	return frame
}

func mustDecode(t *testing.T, codec compress.Codec, frame []byte, n int) []float32 {
	t.Helper()
	dst := make([]float32, n)
	for i := range dst {
		dst[i] = float32(math.NaN()) // whatever is not overwritten shows
	}
	if err := codec.Decode(dst, frame); err != nil {
		t.Fatalf("decode %d values: %v", n, err)
	}
	return dst
}

func checkName(t *testing.T, codec compress.Codec) {
	got, err := compress.ByName(codec.Name())
	if err != nil || !reflect.DeepEqual(got, codec) {
		t.Errorf("ByName(%q) = %v, %v", codec.Name(), got, err)
	}
}

func checkError(t *testing.T, codec compress.Codec, p Properties) {
	const seed = 7
	for name, src := range p.inputs(seed) {
		dst := mustDecode(t, codec, mustEncode(t, codec, src), len(src))
		top := 0.0
		for i, x := range src {
			if !p.Exact && i%p.Group == 0 {
				top = absmax(src[i:min(i+p.Group, len(src))])
			}
			if p.Exact {
				if math.Float32bits(dst[i]) != math.Float32bits(x) {
					t.Fatalf("seed %d, %s: value %d: %g became %g", seed, name, i, x, dst[i])
				}
				continue
			}
			bound := p.MaxError(float64(x), top)
			if diff := math.Abs(float64(x) - float64(dst[i])); !(diff <= bound) {
				t.Fatalf("seed %d, %s: value %d: %g became %g, %g away, bound %g", seed, name, i, x, dst[i], diff, bound)
			}
		}
	}
}

// checkGauss compares error and size on Gaussian values with theory, and sees that on no
// input the error is larger than the values: else error feedback could grow.
func checkGauss(t *testing.T, codec compress.Codec, p Properties) {
	const seed = 17
	rng := rand.New(rand.NewPCG(seed, 3))
	src := make([]float32, 64*compress.BlockValues)
	for i := range src {
		src[i] = float32(rng.NormFloat64() * 1e-3)
	}
	frame := mustEncode(t, codec, src)
	got := relativeError(src, mustDecode(t, codec, frame, len(src)))
	if math.Abs(got-p.GaussError) > 0.03*p.GaussError {
		t.Errorf("seed %d: relative error %.4f, theory says %.4f", seed, got, p.GaussError)
	}
	if bits := float64(8*len(frame)) / float64(len(src)); p.Entropy > 0 && (bits > 1.02*p.Entropy+0.02 || bits < 0.99*p.Entropy) {
		t.Errorf("seed %d: %.4f bits a value, the entropy is %.4f", seed, bits, p.Entropy)
	}
	for name, src := range p.inputs(seed) {
		dst := mustDecode(t, codec, mustEncode(t, codec, src), len(src))
		if e := relativeError(src, dst); e > 1+1e-5 {
			t.Errorf("seed %d, %s: relative error %g", seed, name, e)
		}
	}
}

// relativeError returns |a − b| ÷ |a|, or 0 when both are 0.
func relativeError(a, b []float32) float64 {
	var lost, all float64
	for i, x := range a {
		lost += (float64(x) - float64(b[i])) * (float64(x) - float64(b[i]))
		all += float64(x) * float64(x)
	}
	if lost == 0 {
		return 0
	}
	return math.Sqrt(lost / all)
}

// checkLaw feeds back the error for some rounds: all that was sent and what is held
// back are all that was put in, to one rounding a round (protocol, R1), and what is held
// back does not grow without bound.
func checkLaw(t *testing.T, codec compress.Codec) {
	const seed, rounds = 19, 60
	rng := rand.New(rand.NewPCG(seed, 4))
	n := compress.BlockValues + 1000
	e, total, sent := make([]float32, n), make([]float64, n), make([]float64, n)
	largest, held := 0.0, make([]float64, rounds)
	for round := range rounds {
		for i := range e {
			x := float32(rng.NormFloat64() * 1e-3)
			total[i] += float64(x)
			e[i] += x
			largest = max(largest, math.Abs(float64(e[i])))
		}
		for i, s := range mustDecode(t, codec, mustEncode(t, codec, e), n) {
			sent[i] += float64(s)
			e[i] -= s
			held[round] += float64(e[i]) * float64(e[i])
		}
	}
	for i := range e {
		if off := math.Abs(sent[i] + float64(e[i]) - total[i]); off > rounds*largest*0x1p-22 {
			t.Fatalf("seed %d: value %d: sent %g and held %g are not the total %g", seed, i, sent[i], e[i], total[i])
		}
	}
	if held[rounds-1] > 2*held[rounds/2] {
		t.Errorf("seed %d: error feedback grows: energy %g after %d rounds, %g after %d", seed, held[rounds/2], rounds/2, held[rounds-1], rounds)
	}
}

func absmax(group []float32) float64 {
	top := 0.0
	for _, x := range group {
		top = max(top, math.Abs(float64(x)))
	}
	return top
}

func checkSize(t *testing.T, codec compress.Codec, p Properties) {
	for name, src := range p.inputs(8) {
		n, limit := len(mustEncode(t, codec, src)), codec.EncodedSlabBytes(len(src))
		if n > limit || p.FixedRate && n != limit {
			t.Errorf("%s: frame of %d bytes, EncodedSlabBytes says %d", name, n, limit)
		}
		if bits := float64(8*n) / float64(len(src)); len(src) >= compress.BlockValues && bits > p.BitsPerValue {
			t.Errorf("%s: %.4f bits a value, bound %.4f", name, bits, p.BitsPerValue)
		}
	}
}

func checkDeterministic(t *testing.T, codec compress.Codec, p Properties) {
	for name, src := range p.inputs(9) {
		before := append([]float32(nil), src...)
		frame := mustEncode(t, codec, src)
		prefix := []byte("prefix")
		again, err := codec.Encode(prefix[:len(prefix):len(prefix)], src)
		if err != nil || !bytes.Equal(again[:len(prefix)], prefix) || !bytes.Equal(again[len(prefix):], frame) {
			t.Errorf("%s: a second encoding differs (%v)", name, err)
		}
		for i := range src {
			if math.Float32bits(src[i]) != math.Float32bits(before[i]) {
				t.Fatalf("%s: encode changed value %d", name, i)
			}
		}
	}
}

func checkEncodeRefuses(t *testing.T, codec compress.Codec) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0x7f800001)} {
		for _, at := range []int{0, 255, 256, 4095, 5000} {
			src := make([]float32, 5001)
			src[at] = bad
			dst := []byte{1, 2, 3}
			out, err := codec.Encode(dst, src)
			if !errors.Is(err, compress.ErrNotFinite) {
				t.Errorf("%g at %d: error %v", bad, at, err)
			}
			if len(out) != len(dst) {
				t.Errorf("%g at %d: %d bytes left behind", bad, at, len(out)-len(dst))
			}
		}
	}
	if _, err := codec.Encode(nil, nil); err == nil {
		t.Error("a frame of no values was encoded")
	}
	if _, err := codec.Encode(nil, make([]float32, compress.MaxSlabValues+1)); err == nil {
		t.Error("a frame above MaxSlabValues was encoded")
	}
}

func checkDecodeRefuses(t *testing.T, codec compress.Codec) {
	src := Inputs(10)["gauss block"]
	frame := mustEncode(t, codec, src)
	dst := make([]float32, len(src))
	refuse := func(what string, b []byte, dst []float32) {
		t.Helper()
		if err := codec.Decode(dst, b); !errors.Is(err, compress.ErrFrame) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	for n := range min(40, len(frame)) {
		refuse(fmt.Sprintf("first %d bytes", n), frame[:n], dst)
	}
	refuse("last byte missing", frame[:len(frame)-1], dst)
	refuse("one byte more", append(append([]byte(nil), frame...), 0), dst)
	refuse("one value fewer", frame, dst[:len(dst)-1])
	refuse("one value more", frame, make([]float32, len(dst)+1))
	refuse("no values", frame, nil)
	for at := range 12 {
		b := append([]byte(nil), frame...)
		b[at] ^= 0x40
		refuse(fmt.Sprintf("header byte %d changed", at), b, dst)
	}
	checkNeverNotFinite(t, codec, frame, dst)
}

// checkNeverNotFinite changes random bytes: a frame is refused or gives finite values.
func checkNeverNotFinite(t *testing.T, codec compress.Codec, frame []byte, dst []float32) {
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, 2))
	for trial := range 500 {
		b := append([]byte(nil), frame...)
		for range 1 + rng.IntN(8) {
			b[rng.IntN(len(b))] = byte(rng.Uint32() | 0x7f&-(rng.Uint32()&1))
		}
		if codec.Decode(dst, b) != nil {
			continue
		}
		for i, x := range dst {
			if x-x != 0 {
				t.Fatalf("seed %d, trial %d: a changed frame gave %g at %d", seed, trial, x, i)
			}
		}
	}
}

func checkAllocations(t *testing.T, codec compress.Codec) {
	src := Inputs(12)["gauss slab"]
	buf := make([]byte, 0, codec.EncodedSlabBytes(len(src)))
	dst := make([]float32, len(src))
	n := testing.AllocsPerRun(20, func() {
		frame, err := codec.Encode(buf, src)
		if err == nil {
			err = codec.Decode(dst, frame)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a slab", n)
	}
}

// checkIdempotent encodes what was decoded: the second decoding is close to the
// first, so a result that passes through a codec twice loses next to nothing.
func checkIdempotent(t *testing.T, codec compress.Codec, p Properties) {
	src := Inputs(13)["gauss slab"]
	once := mustDecode(t, codec, mustEncode(t, codec, src), len(src))
	twice := mustDecode(t, codec, mustEncode(t, codec, once), len(src))
	slack := 0.0
	if p.Transform {
		slack = 1e-5 * absmax(once)
	}
	for i := range once {
		if diff := math.Abs(float64(once[i]) - float64(twice[i])); diff > 1e-6*math.Abs(float64(once[i]))+slack {
			t.Fatalf("value %d: %g, the second time %g", i, once[i], twice[i])
		}
	}
}
