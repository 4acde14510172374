package compute

import (
	"math"
	"testing"
)

// TestRoundBF16 checks every float32 that lies between two neighbours of bf16
// for a sample of them: the result is the nearer one, or the even one of two
// that are as near.
func TestRoundBF16(t *testing.T) {
	for high := uint32(0x0080); high < 0x7f7f; high += 97 { // normal numbers, and the last step to infinity below
		low, up := math.Float32frombits(high<<16), math.Float32frombits((high+1)<<16)
		for _, b := range []uint32{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff} {
			x := math.Float32frombits(high<<16 | b)
			want := low
			if down, above := x-low, up-x; above < down || above == down && high&1 == 1 {
				want = up
			}
			if got := RoundBF16(x); got != want {
				t.Fatalf("%x rounds to %x, want %x", x, got, want)
			}
			if got := RoundBF16(-x); got != -want {
				t.Fatalf("%x rounds to %x, want %x", -x, got, -want)
			}
		}
	}
	inf := float32(math.Inf(1))
	for x, want := range map[float32]float32{
		0: 0, inf: inf, -inf: -inf, math.MaxFloat32: inf, 0x1.fdp127: 0x1.fcp127, 0x1.feffffp127: 0x1.fep127, 0x1.ffp127: inf,
		0x1p-126: 0x1p-126, 0x1.fffffcp-127: 0, -0x1p-149: 0,
	} {
		if got := RoundBF16(x); got != want || math.Signbit(float64(got)) != math.Signbit(float64(x)) {
			t.Errorf("%x rounds to %x, want %x", x, got, want)
		}
	}
	for _, bits := range []uint32{0x7f800001, 0xff80ffff, 0x7fffffff} {
		if got := RoundBF16(math.Float32frombits(bits)); got == got {
			t.Errorf("the NaN %#x rounds to %v", bits, got)
		}
	}
}
