package cpu

import (
	"runtime"
	"testing"

	"dunlin/compute"
	"dunlin/compute/computetest"
)

// fastPaths are the paths beside the portable one that this machine can run.
func fastPaths(t testing.TB) []string {
	paths := Paths()[:len(Paths())-1]
	if len(paths) == 0 {
		t.Skip("this build or processor has no assembly path")
	}
	return paths
}

// TestFastConforms runs the suite on every assembly path.
func TestFastConforms(t *testing.T) {
	for _, path := range fastPaths(t) {
		t.Run(path, func(t *testing.T) {
			computetest.Run(t, func() compute.Device { return newDevice(t, Options{Path: path, Threads: 1}) })
		})
	}
}

// TestFastThreads checks that the number of threads changes no bit.
func TestFastThreads(t *testing.T) {
	for _, path := range fastPaths(t) {
		t.Run(path, func(t *testing.T) {
			var devices []compute.Device
			for _, threads := range []int{1, 2, 5} {
				devices = append(devices, newDevice(t, Options{Path: path, Threads: threads}))
			}
			computetest.Same(t, devices...)
		})
	}
}

// TestPathIsWhatRuns proves by arithmetic which path computes. A product whose
// rounding error is added to minus its rounded value is zero unless the two are
// fused, as assembly does; and 1 + 2²⁴ - 2²⁴ is 1 only when the three terms,
// eight places apart, do not meet in one lane, as in vectors of 16 (or four of 4).
func TestPathIsWhatRuns(t *testing.T) {
	const third = float32(1) / 3
	rounded := float32(third * third)
	far := make([]float32, 24)
	far[0], far[8], far[16] = 1, 1<<24, -(1 << 24)
	ones := make([]float32, len(far))
	for i := range ones {
		ones[i] = 1
	}
	type signature struct {
		fused bool
		far   float32
	}
	want := map[string]signature{"portable": {false, 0}, "avx2": {true, 0}, "avx512": {true, 1}, "neon": {true, 1}}
	for _, path := range Paths() {
		if path == "portable" && runtime.GOARCH != "amd64" {
			continue // the compiler may fuse there
		}
		d := newDevice(t, Options{Path: path, Threads: 1})
		c := []float32{-rounded}
		d.MatMul(compute.MatMul{
			Form: compute.NN, M: 1, N: 1, K: 1, Accumulate: true,
			A: host(third), B: host(third), C: compute.Buffer{Host: c},
		})
		sum := []float32{0}
		d.MatMul(compute.MatMul{
			Form: compute.NT, M: 1, N: 1, K: len(far),
			A: compute.Buffer{Host: ones}, B: compute.Buffer{Host: far}, C: compute.Buffer{Host: sum},
		})
		if got := (signature{c[0] != 0, sum[0]}); got != want[path] {
			t.Errorf("path %s computes like %+v, want %+v", path, got, want[path])
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBF16IsWhatRuns proves by arithmetic whether the processor's instructions
// multiply: they flush a result below the smallest normal number, 2⁻¹²⁶, to
// zero; a float32 product of rounded operands does not.
func TestBF16IsWhatRuns(t *testing.T) {
	for _, path := range Paths() {
		d := newDevice(t, Options{Path: path, Threads: 1, Precision: compute.BF16})
		c := []float32{1}
		d.MatMul(compute.MatMul{Form: compute.NN, M: 1, N: 1, K: 1, A: host(0x1p-100), B: host(0x1p-30), C: compute.Buffer{Host: c}})
		if flushed := c[0] == 0; flushed == d.Emulates() {
			t.Errorf("%s gives %v for 2⁻¹³⁰, and says of itself that it emulates: %v", d.Name(), c[0], d.Emulates())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func host(values ...float32) compute.Buffer { return compute.Buffer{Host: values} }

// TestPeak checks that the measured peak is a plausible rate and that one
// product does not pass it by more than the noise of a short run.
func TestPeak(t *testing.T) {
	if rate := Probe(1, peakTime); rate < 0.001 || rate > 2000 {
		t.Errorf("one thread reaches %v GFLOP/s", rate)
	}
}
