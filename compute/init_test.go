package compute

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"
)

// TestInitGolden pins the bits of the initialisation: they are part of the
// protocol (R9), so a change here is a new protocol version.
func TestInitGolden(t *testing.T) {
	x := make([]float32, 4096)
	Init(x, 42, "transformer.h.0.attn.c_attn.weight", InitScale(0.02))
	var bytes []byte
	for _, v := range x {
		bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(v))
	}
	sum := sha256.Sum256(bytes)
	const want = "ee76419da188ef52917a11b3e62035a56abfc97535cb27d3bc183bd535a63b74"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("hash of 4,096 values is %s, want %s; the first are %v", got, want, x[:4])
	}
	if got, want := math.Float32bits(InitScale(0.02)), uint32(0x350de3bd); got != want {
		t.Errorf("scale for 0.02 has bits %#x, want %#x", got, want)
	}
}

func TestInitDistribution(t *testing.T) {
	const n, std = 1 << 18, 0.25
	x := make([]float32, n)
	Init(x, 1, "a", InitScale(std))
	var sum, squares, fourth float64
	for _, v := range x {
		f := float64(v) / std
		sum += f
		squares += f * f
		fourth += f * f * f * f
	}
	// Irwin-Hall of order 4: kurtosis 3 - 6/(5·4) = 2.7. Bounds are 5 sigma.
	if mean := sum / n; math.Abs(mean) > 5/math.Sqrt(n) {
		t.Errorf("mean %v of the standard deviation", mean)
	}
	if variance := squares / n; math.Abs(variance-1) > 5*math.Sqrt(1.7/n) {
		t.Errorf("variance %v of the requested one", variance)
	}
	if kurtosis := fourth / n; math.Abs(kurtosis-2.7) > 0.1 {
		t.Errorf("kurtosis %v, want 2.7", kurtosis)
	}
}

func TestInitKeys(t *testing.T) {
	first := func(seed uint64, name string) float32 {
		x := make([]float32, 1)
		Init(x, seed, name, 1)
		return x[0]
	}
	if first(1, "a") == first(2, "a") || first(1, "a") == first(1, "b") {
		t.Error("another seed or name gives the same values")
	}
	if first(1, "a") != first(1, "a") {
		t.Error("the same key gives other values")
	}
}

func TestTensorValidate(t *testing.T) {
	if _, err := NewTensor("w", 2, 3); err != nil {
		t.Error(err)
	}
	for _, shape := range [][]int{{0}, {-1, 2}, {1 << 30, 1 << 30}} {
		if _, err := NewTensor("w", shape...); err == nil {
			t.Errorf("shape %v accepted", shape)
		}
	}
	if (Tensor{Name: "w", Shape: []int{2}, Data: make([]float32, 3)}).Validate() == nil {
		t.Error("shape [2] with 3 values accepted")
	}
}
