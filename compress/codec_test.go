package compress_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/compress"
	"dunlin/compress/compresstest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestConformance(t *testing.T) {
	for name, p := range map[string]compresstest.Properties{
		"fp32": {Exact: true, BitsPerValue: 32.03, FixedRate: true},
		"int8": {
			Group: 256, BitsPerValue: 8.15, FixedRate: true, GaussError: 0.0069,
			MaxError: func(x, absmax float64) float64 {
				if absmax < 127*0x1p-126 {
					return absmax
				}
				return absmax / 254 * (1 + 0x1p-16)
			},
		},
		"int4": {
			Group: 64, BitsPerValue: 4.28, FixedRate: true, GaussError: 0.1075,
			MaxError: func(x, absmax float64) float64 {
				if absmax < 7.1*0x1p-126 {
					return absmax
				}
				return absmax / 14 * (1 + 0x1p-7)
			},
		},
		"e3m0": {
			Group: 256, BitsPerValue: 4.09, FixedRate: true, GaussError: 0.19,
			MaxError: func(x, absmax float64) float64 {
				if absmax < 0x1p-126 {
					return absmax
				}
				return max(math.Abs(x)/3, absmax*0x1p-7) + absmax*0x1p-8
			},
		},
		"had4": {
			Group: 64, BitsPerValue: 4.28, FixedRate: true, GaussError: 0.1075, Transform: true,
			MaxError: func(_, absmax float64) float64 { return 64.0 / 14 * absmax * (1 + 0x1p-7) }, // all of a tile's error in one value
		},
		"ternary-20":   sparse(0.20, 1, 0.6197, 1.0),
		"ternary-35":   sparse(0.35, 1, 0.4815, 1.4),
		"topk2-1.56":   sparse(0.0156, 2, 0.940, 0.20),
		"topk2-12.5":   sparse(0.125, 2, 0.709, 0.95),
		"ternary-0.1":  sparse(0.001, 1, 0.994, 0.05),
		"ternary-25":   sparse(0.25, 1, 0.561, 1.3),
		"ternary-50":   sparse(0.50, 1, 0.4365, 2.1),
		"topk2-7.77":   sparse(0.0777, 2, 0.775, 0.7),
		"ternary-13.2": sparse(0.132, 1, 0.705, 0.8),
		"dct-1.56":     transform(sparse(0.0156, 2, 0.940, 0.20)),
		"dct-12.5":     transform(sparse(0.125, 2, 0.709, 0.95)),
		"rank-1":       transform(compresstest.Properties{Group: compress.BlockValues, BitsPerValue: 0.11, GaussError: 0.986}),
		"rank-8":       transform(compresstest.Properties{Group: compress.BlockValues, BitsPerValue: 0.58, GaussError: 0.918}),
		"rank-32":      transform(compresstest.Properties{Group: compress.BlockValues, BitsPerValue: 2.18, GaussError: 0.668}),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := compress.ByName(name)
			if err != nil {
				t.Fatal(err)
			}
			compresstest.Run(t, c, p)
		})
	}
}

// sparse gives what a codec promises that keeps a share with the given bits a value.
func sparse(share, bits, gauss, most float64) compresstest.Properties {
	entropy := -share*math.Log2(share) - (1-share)*math.Log2(1-share)
	return compresstest.Properties{
		Group: compress.BlockValues, BitsPerValue: most, GaussError: gauss, Entropy: entropy + share*bits,
		MaxError: func(x, absmax float64) float64 { return absmax },
	}
}

// transform widens what a codec promises of single values: the error of one frequency is in all values.
func transform(p compresstest.Properties) compresstest.Properties {
	p.Transform = true
	p.MaxError = func(x, absmax float64) float64 { return compress.TileSide * absmax }
	return p
}

func TestByName(t *testing.T) {
	for _, name := range compress.Names() {
		if c, err := compress.ByName(name); err != nil || c.Name() != name {
			t.Errorf("ByName(%q) = %v, %v", name, c, err)
		}
	}
	if _, err := compress.ByName("int9"); err == nil || !strings.Contains(err.Error(), "int8") {
		t.Errorf("an unknown name gives %v; it should say what is known", err)
	}
	for _, name := range []string{
		"ternary", "ternary-", "ternary-0", "ternary-0.09", "ternary-50.01", "ternary-20.0", "ternary-020", "ternary-+20", "ternary-.5",
		"ternary-20-", "topk2-1.567", "topk2-1.", "topk2-NaN", "topk2-99999999999999999999", "topk2--1", "int8-20", "Ternary-20", "rank", "rank-0", "rank-33", "rank-08", "rank-8.0", "dct-", "ternary-2é0",
	} {
		if c, err := compress.ByName(name); err == nil {
			t.Errorf("ByName(%q) = %v", name, c)
		}
	}
}

// golden is a short slab with every kind of group: ordinary, zero, too small for
// a scale, at the limit of float32, and a short last one.
func golden() []float32 {
	src := make([]float32, 4*256+5)
	for i := range 256 {
		src[i] = float32(i-100) / 64
	}
	src[512], src[600] = 0x1p-130, -0x1p-149
	src[768], src[769], src[770] = math.MaxFloat32, -math.MaxFloat32/2, 1
	src[1024], src[1028] = -3, 0.75
	return src
}

func TestGolden(t *testing.T) {
	for _, name := range append(compress.Names(), "ternary-35") {
		c, err := compress.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		src := golden()
		frame, err := c.Encode(nil, src)
		if errors.Is(err, compress.ErrNotFinite) && strings.Contains(err.Error(), "above 2^112") { // what a transform takes
			src[768], src[769] = 0x1p100, -0x1p100
			frame, err = c.Encode(nil, src)
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(file, []byte(wrap(hex.EncodeToString(frame))), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil || !bytes.Equal(frame, want) {
			t.Errorf("%s: the frame differs from %s (%v): the format is frozen, a change needs a new codec id", name, file, err)
		}
	}
}

// TestGoldenDecoded compares the bits that the golden frames decode to, on which all peers must agree.
func TestGoldenDecoded(t *testing.T) {
	var got strings.Builder
	for _, name := range append(compress.Names(), "ternary-35") {
		c, err := compress.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
		if err != nil {
			t.Fatal(err)
		}
		frame, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]float32, len(golden()))
		if err := c.Decode(dst, frame); err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		for _, x := range dst {
			h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
		}
		fmt.Fprintf(&got, "%s %x\n", name, h.Sum(nil))
	}
	file := filepath.Join("testdata", "decoded.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got.String() != string(want) {
		t.Errorf("decoded values are not those of %s (%v): replicas would part\n%s", file, err, got.String())
	}
}

func wrap(s string) string {
	var b strings.Builder
	for len(s) > 96 {
		b.WriteString(s[:96] + "\n")
		s = s[96:]
	}
	return b.String() + s + "\n"
}

// TestInt8Refuses names what the int8 decoder refuses beyond the header.
func TestInt8Refuses(t *testing.T) {
	c := compress.Int8{}
	src := make([]float32, 256)
	src[0], src[9] = 1, -0.5
	frame, err := c.Encode(nil, src)
	if err != nil {
		t.Fatal(err)
	}
	zero, err := c.Encode(nil, make([]float32, 256))
	if err != nil {
		t.Fatal(err)
	}
	scale := func(bits uint32) func([]byte) {
		return func(b []byte) { b[12], b[13], b[14], b[15] = byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24) }
	}
	for name, test := range map[string]struct {
		frame  []byte
		change func([]byte)
	}{
		"negative scale":            {frame, scale(math.Float32bits(-1))},
		"negative zero scale":       {zero, scale(0x80000000)},
		"infinite scale":            {frame, scale(0x7f800000)},
		"not a number":              {frame, scale(0x7fc00000)},
		"denormal scale":            {frame, scale(0x007fffff)},
		"scale too large":           {frame, scale(0x7c010204)},
		"code -128 in a word":       {frame, func(b []byte) { b[16+200] = 0x80 }},
		"codes under a zero scale":  {zero, func(b []byte) { b[16+255] = 1 }},
		"zero scale, codes present": {frame, scale(0)},
	} {
		b := append([]byte(nil), test.frame...)
		test.change(b)
		if err := c.Decode(make([]float32, 256), b); !errors.Is(err, compress.ErrFrame) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	b := append([]byte(nil), frame...)
	scale(0x7c010203)(b)
	dst := make([]float32, 256)
	if err := c.Decode(dst, b); err != nil || dst[0]-dst[0] != 0 {
		t.Errorf("the largest scale: %v, value %g", err, dst[0])
	}
	short, _ := c.Encode(nil, src[:3])
	short[len(short)-1] = 0x80
	if err := c.Decode(make([]float32, 3), short); !errors.Is(err, compress.ErrFrame) {
		t.Errorf("code -128 in a short group: error %v", err)
	}
}

// TestInt8DecodeDefinition decodes every code under hard scales and compares with
// the definition: one float32 product.
func TestInt8DecodeDefinition(t *testing.T) {
	src := make([]float32, 256)
	dst := make([]float32, 256)
	for _, bits := range []uint32{0x00800000, 0x3f800000, 0x3c23d70a, 0x33d6bf95, 0x7c010203, 0x00ffffff} {
		scale := math.Float32frombits(bits)
		frame, err := compress.Int8{}.Encode(nil, src[:255])
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range []byte{byte(bits), byte(bits >> 8), byte(bits >> 16), byte(bits >> 24)} {
			frame[12+i] = v
		}
		for i := range 255 {
			frame[16+i] = byte(int8(i - 127))
		}
		if err := (compress.Int8{}).Decode(dst[:255], frame); err != nil {
			t.Fatal(err)
		}
		for i := range 255 {
			want := float32(float64(i-127) * float64(scale)) // exact in float64, rounded once
			if math.Float32bits(dst[i]) != math.Float32bits(want) {
				t.Fatalf("code %d, scale %g: %g, want %g", i-127, scale, dst[i], want)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range append(compress.Names(), "ternary-35") {
		c, _ := compress.ByName(name)
		for _, n := range []int{1, 256, 300} {
			src := make([]float32, n)
			src[n-1] = 0.25
			frame, err := c.Encode(nil, src)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(name, n, frame)
		}
	}
	f.Fuzz(func(t *testing.T, name string, n int, frame []byte) {
		c, err := compress.ByName(name)
		if err != nil || n < 0 || n > 2*compress.BlockValues {
			return
		}
		dst := make([]float32, n)
		if c.Decode(dst, frame) != nil {
			return
		}
		for i, x := range dst {
			if x-x != 0 {
				t.Fatalf("value %d is %g", i, x)
			}
		}
		if len(frame) > c.EncodedSlabBytes(n) {
			t.Fatalf("a frame of %d bytes for %d values was accepted", len(frame), n)
		}
	})
}

func BenchmarkCodecs(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	src := make([]float32, 4*compress.BlockValues)
	for i := range src {
		src[i] = float32(rng.NormFloat64() * 1e-3)
	}
	for _, name := range compress.Names() {
		c, err := compress.ByName(name)
		if err != nil {
			b.Fatal(err)
		}
		frame, err := c.Encode(nil, src)
		if err != nil {
			b.Fatal(err)
		}
		perValue := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(src)), "ns/value")
		}
		b.Run(name+"/encode", func(b *testing.B) {
			buf := make([]byte, 0, len(frame))
			for b.Loop() {
				if _, err := c.Encode(buf, src); err != nil {
					b.Fatal(err)
				}
			}
			perValue(b)
		})
		b.Run(name+"/decode", func(b *testing.B) {
			dst := make([]float32, len(src))
			for b.Loop() {
				if err := c.Decode(dst, frame); err != nil {
					b.Fatal(err)
				}
			}
			perValue(b)
		})
	}
}
