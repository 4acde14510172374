package checkpoint

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"dunlin/compute"
)

// half is the value of a 16-bit number by its definition: sign, exponent, fraction.
func half(bits uint16, exponent, fraction int) float64 {
	e := int(bits>>fraction) & (1<<exponent - 1)
	f := float64(bits & (1<<fraction - 1))
	bias := 1<<(exponent-1) - 1
	v := math.Ldexp(f, 1-bias-fraction)
	if e == 1<<exponent-1 {
		if f != 0 {
			return math.NaN()
		}
		v = math.Inf(1)
	} else if e > 0 {
		v = math.Ldexp(f+math.Ldexp(1, fraction), e-bias-fraction)
	}
	return math.Copysign(v, map[bool]float64{false: 1, true: -1}[bits>>15 == 1])
}

// TestEvery16BitNumberIsWidenedExactly also writes it again to the same bits.
func TestEvery16BitNumberIsWidenedExactly(t *testing.T) {
	for number, form := range map[Number][2]int{Float16: {5, 10}, BFloat16: {8, 7}} {
		for bits := range 1 << 16 {
			src := binary.LittleEndian.AppendUint16(nil, uint16(bits))
			var got [1]float32
			number.get(got[:], src)
			want := half(uint16(bits), form[0], form[1])
			if math.IsNaN(want) != math.IsNaN(float64(got[0])) || !math.IsNaN(want) && math.Float64bits(float64(got[0])) != math.Float64bits(want) {
				t.Fatalf("%s %04x is read as %v, is %v", number, bits, got[0], want)
			}
			back, err := number.put(nil, got[:])
			if err != nil || !math.IsNaN(want) && !bytes.Equal(back, src) {
				t.Fatalf("%s %04x is written as %x, %v", number, bits, back, err)
			}
			if number.get(got[:], back); math.IsNaN(want) != math.IsNaN(float64(got[0])) {
				t.Fatalf("%s %04x, no number, is written as %x", number, bits, back)
			}
		}
	}
}

// TestRoundingIsToNearestEven compares with a search among the neighbours.
func TestRoundingIsToNearestEven(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for number, form := range map[Number][2]int{Float16: {5, 10}, BFloat16: {8, 7}} {
		for range 50_000 {
			v := math.Float32frombits(rng.Uint32())
			if rng.IntN(2) == 0 { // half way between two neighbours, or at one
				low := uint16(rng.Uint32()) &^ 0x8000
				v = float32((half(low, form[0], form[1]) + half(low+1, form[0], form[1])) / 2)
			}
			if math.IsNaN(float64(v)) || math.Abs(float64(v)) > half(1<<15-1<<form[1]-1, form[0], form[1]) {
				continue
			}
			b, err := number.put(nil, []float32{v})
			if err != nil {
				t.Fatal(err)
			}
			bits := binary.LittleEndian.Uint16(b)
			apart := math.Abs(half(bits, form[0], form[1]) - float64(v))
			for _, n := range []uint16{bits - 1, bits + 1} {
				other := math.Abs(half(n, form[0], form[1]) - float64(v))
				if other < apart || other == apart && bits&1 == 1 {
					t.Fatalf("%s: %v is written as %04x, %04x is nearer or even", number, v, bits, n)
				}
			}
		}
	}
}

func TestTooLargeForTheNumber(t *testing.T) {
	for number, v := range map[Number]float32{Float16: 65520, BFloat16: math.MaxFloat32} {
		err := WriteAs(new(bytes.Buffer), number, []compute.Tensor{tensor("w", []int{2}, 1, -v)}, nil)
		if err == nil || !strings.Contains(err.Error(), `"w"`) || !strings.Contains(err.Error(), "beyond "+number.Word()) {
			t.Errorf("%s: %v", number, err)
		}
		inf := float32(math.Inf(-1))
		if err := WriteAs(new(bytes.Buffer), number, []compute.Tensor{tensor("w", []int{1}, inf)}, nil); err != nil {
			t.Errorf("%s: infinity itself: %v", number, err)
		}
	}
}

func TestNumberWords(t *testing.T) {
	for _, n := range []Number{Float32, Float16, BFloat16} {
		if got, err := ParseNumber(n.Word()); err != nil || got != n {
			t.Errorf("%s: %v, %v", n, got, err)
		}
	}
	if _, err := ParseNumber("fp8"); err == nil || !strings.Contains(err.Error(), "bf16") {
		t.Errorf("fp8: %v", err)
	}
}

// TestFilesOfFewerBits reads what WriteAs writes, and passes over what is not
// wanted, whatever its type.
func TestFilesOfFewerBits(t *testing.T) {
	long := make([]float32, chunkValues+3)
	for i := range long {
		long[i] = float32(i % 128)
	}
	in := []compute.Tensor{tensor("a", []int{2, 2}, 1, -2, 0.5, 3), tensor("long", []int{len(long)}, long...)}
	for _, number := range []Number{Float16, BFloat16} {
		var b bytes.Buffer
		if err := WriteAs(&b, number, in, nil); err != nil {
			t.Fatal(err)
		}
		out, _, err := Read(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil || len(out) != 2 || !sameTensor(out[0], in[0]) || !sameTensor(out[1], in[1]) {
			t.Errorf("%s: %v", number, err)
		}
	}
	mixed := file(`{"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]},"w":{"dtype":"BF16","shape":[1],"data_offsets":[3,5]}}`, 5)
	got, _, err := ReadSome(bytes.NewReader(mixed), int64(len(mixed)), func(name string) bool { return name == "w" })
	if err != nil || len(got) != 1 || got[0].Name != "w" {
		t.Errorf("%v, %v", got, err)
	}
}

func sameTensor(a, b compute.Tensor) bool {
	d, err := Compare([]compute.Tensor{a}, []compute.Tensor{b})
	return err == nil && d[0].Changed == 0
}
