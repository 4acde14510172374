package compress

import (
	"errors"
	"math"
	"testing"
)

// TestNibbleDecodeDefinition decodes every code under hard scales and compares with the
// definition, in float64: exact there, rounded once.
func TestNibbleDecodeDefinition(t *testing.T) {
	for _, c := range []struct {
		codec Codec
		group int
		limit uint16
		value func(code int) float64
	}{
		{Int4{}, int4Group, maxInt4Scale, func(code int) float64 { return float64(code - code>>3*16) }},
		{E3M0{}, e3m0Group, maxScale16, func(code int) float64 {
			if code == 0 {
				return 0
			}
			return math.Copysign(math.Ldexp(1, code&7-7), float64(7-code))
		}},
	} {
		for _, n := range []int{c.group, 15, 16, c.group + 15, 1} {
			for _, scale := range []uint16{minScale16, minScale16 + 1, 0x3c23, 0x3f80, c.limit} {
				dst, src := make([]float32, n), make([]float32, n)
				for i := range src {
					src[i] = 1
				}
				frame, err := c.codec.Encode(nil, src)
				if err != nil {
					t.Fatal(err)
				}
				codes := make([]int, n)
				last := n % c.group
				if last == 0 {
					last = c.group
				}
				for i := range codes {
					if codes[i] = i % 16; codes[i] == 8 {
						codes[i] = 0
					}
				}
				b := frame[len(frame)-2-(last+1)/2:]
				b[0], b[1] = byte(scale), byte(scale>>8)
				for i := range last {
					at := 2 + i%((last+1)/2)
					if i == at-2 {
						b[at] = 0
					}
					b[at] |= byte(codes[i] << (4 * (i / ((last + 1) / 2))))
				}
				if err := c.codec.Decode(dst, frame); err != nil {
					t.Fatalf("%s, %d values, scale %#04x: %v", c.codec.Name(), n, scale, err)
				}
				for i, x := range dst[n-last:] {
					want := float32(c.value(codes[i]) * float64(scaleValue(scale)))
					if math.Float32bits(x) != math.Float32bits(want) {
						t.Fatalf("%s, %d values, scale %#04x: code %d gives %g, want %g", c.codec.Name(), n, scale, codes[i], x, want)
					}
				}
				for at := range (last + 1) / 2 {
					for _, bad := range []byte{0x08, 0x80, 0x88} {
						old := b[2+at]
						b[2+at] = bad
						if err := c.codec.Decode(dst, frame); !errors.Is(err, ErrFrame) {
							t.Errorf("%s, %d values: code %#02x at %d: error %v", c.codec.Name(), n, bad, at, err)
						}
						b[2+at] = old
					}
				}
				for _, bad := range []uint16{0, 1, minScale16 - 1, c.limit + 1, 0x7f80, 0x7fc0, 0x8000, 0xbf80} {
					b[0], b[1] = byte(bad), byte(bad>>8)
					if err := c.codec.Decode(dst, frame); n > 1 && !errors.Is(err, ErrFrame) {
						t.Errorf("%s: scale %#04x: error %v", c.codec.Name(), bad, err)
					}
				}
			}
		}
	}
	if x := 7 * scaleValue(maxInt4Scale+1); x-x == 0 {
		t.Errorf("a larger scale of int4 would do: 7 times it is %g", x)
	}
}

// TestE3M0Nearest sees that every value takes the nearest level.
func TestE3M0Nearest(t *testing.T) {
	table := e3m0Levels()
	src, dst := make([]float32, e3m0Group), make([]float32, e3m0Group)
	for round := range 400 {
		src[0] = 1
		for i := 1; i < len(src); i++ {
			src[i] = float32(round*len(src)+i) / float32(400*len(src)) * float32(1-i%2*2)
		}
		frame, err := E3M0{}.Encode(nil, src)
		if err != nil {
			t.Fatal(err)
		}
		if err := (E3M0{}).Decode(dst, frame); err != nil {
			t.Fatal(err)
		}
		for i, x := range src {
			best := math.Inf(1)
			for _, level := range table {
				best = min(best, math.Abs(float64(level)-float64(x)))
			}
			if got := math.Abs(float64(dst[i]) - float64(x)); got > best+1e-7 {
				t.Fatalf("%g became %g, which is %g away; a level is %g away", x, dst[i], got, best)
			}
		}
	}
}
