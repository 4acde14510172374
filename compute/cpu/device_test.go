package cpu

import (
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dunlin/compute"
	"dunlin/compute/computetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newDevice(t *testing.T, o Options) *Device {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPortableConforms runs the suite on the reference path.
func TestPortableConforms(t *testing.T) {
	computetest.Run(t, func() compute.Device { return newDevice(t, Options{Path: "portable", Threads: 1}) })
}

// TestPortableThreads checks that the number of threads changes no bit.
func TestPortableThreads(t *testing.T) {
	var devices []compute.Device
	for _, threads := range []int{1, 2, 5} {
		devices = append(devices, newDevice(t, Options{Path: "portable", Threads: threads}))
	}
	computetest.Same(t, devices...)
}

// TestBF16Conforms runs the suite for bf16 on every path, whether it has the
// instructions or rounds operands itself.
func TestBF16Conforms(t *testing.T) {
	for _, path := range Paths() {
		t.Run(path, func(t *testing.T) {
			computetest.RunBF16(t, func() compute.Device { return newDevice(t, Options{Path: path, Threads: 1, Precision: compute.BF16}) })
		})
	}
}

// TestBF16Threads checks that the number of threads changes no bit.
func TestBF16Threads(t *testing.T) {
	var devices []compute.Device
	for _, threads := range []int{1, 2, 5} {
		devices = append(devices, newDevice(t, Options{Threads: threads, Precision: compute.BF16}))
	}
	computetest.Same(t, devices...)
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Threads: -1}, {Threads: 1025}, {Path: "mmx"}, {Precision: "fp8"}} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v) succeeded", o)
		} else if !strings.Contains(err.Error(), "portable") && !strings.Contains(err.Error(), "1024") && !strings.Contains(err.Error(), "bf16") {
			t.Errorf("New(%+v): %v does not say what is allowed", o, err)
		}
	}
	for _, path := range append(Paths(), "", "auto") {
		d := newDevice(t, Options{Path: path})
		if want := Paths()[0]; path == "" || path == "auto" {
			if d.Path() != want {
				t.Errorf("path %q runs %s, want the best, %s", path, d.Path(), want)
			}
		} else if d.Path() != path {
			t.Errorf("path %q runs %s", path, d.Path())
		}
		if d.Threads() < 1 || !strings.Contains(d.Name(), d.Path()) {
			t.Errorf("device %q has %d threads", d.Name(), d.Threads())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMistakesPanic checks that a shape that does not fit its buffers stops
// before anything is read or written.
func TestMistakesPanic(t *testing.T) {
	d := newDevice(t, Options{Threads: 2})
	defer d.Close()
	b := func(n int) compute.Buffer { return compute.Buffer{Host: make([]float32, n)} }
	for name, call := range map[string]func(){
		"matmul":  func() { d.MatMul(compute.MatMul{M: 2, N: 2, K: 2, A: b(4), B: b(4), C: b(3)}) },
		"no rows": func() { d.MatMul(compute.MatMul{M: 0, N: 2, K: 2, A: b(4), B: b(4), C: b(4)}) },
		"bias": func() {
			d.MatMul(compute.MatMul{M: 1, N: 2, K: 1, A: b(1), B: b(2), C: b(2), Epilogue: compute.Epilogue{Bias: b(1)}})
		},
		"add":        func() { d.Add(b(3), b(3), b(2)) },
		"heads":      func() { d.Attention(compute.Attention{B: 1, T: 1, H: 3, C: 4}) },
		"from":       func() { d.Attention(compute.Attention{B: 1, T: 1, H: 1, C: 4, From: 1}) },
		"key heads":  func() { d.Attention(compute.Attention{Out: b(4), QKV: b(12), B: 1, T: 1, H: 4, KV: 3, C: 4}) },
		"odd heads":  func() { d.Rotary(compute.Rotary{X: b(9), Table: b(9), B: 1, T: 1, H: 3, S: 3, Stride: 9}) },
		"gates":      func() { d.SwiGLU(compute.SwiGLU{Y: b(4), GateUp: b(7), Rows: 1, N: 4}) },
		"adamw step": func() { d.AdamW(compute.AdamW{Params: b(1), Grads: b(1), M: b(1), V: b(1)}) },
		"device memory elsewhere": func() {
			d.Upload(compute.Buffer{Addr: 64, N: 4}, []float32{1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			call()
		})
	}
}

// TestOperationsDoNotAllocate covers the pool too: two threads.
func TestOperationsDoNotAllocate(t *testing.T) {
	for _, o := range []Options{{Threads: 2}, {Threads: 2, Precision: compute.BF16}, {Threads: 2, Path: "portable", Precision: compute.BF16}} {
		d := newDevice(t, o)
		defer d.Close()
		t.Run(d.Name(), func(t *testing.T) { operationsDoNotAllocate(t, d) })
	}
}

func operationsDoNotAllocate(t *testing.T, d *Device) {
	t.Helper()
	b := func(n int) compute.Buffer { return compute.Buffer{Host: make([]float32, n)} }
	const rows, c = 64, 64
	x, y, qkv, dqkv, lse, w, bias := b(rows*c), b(rows*c), b(rows*3*c), b(rows*3*c), b(4*rows), b(c*c), b(c)
	step := func() {
		d.MatMul(compute.MatMul{Form: compute.NN, M: rows, N: c, K: c, A: x, B: w, C: y, Epilogue: compute.Epilogue{Bias: bias, GELU: true}})
		d.MatMul(compute.MatMul{Form: compute.TN, M: c, N: c, K: rows, A: x, B: y, C: w, Accumulate: true})
		d.MatMul(compute.MatMul{Form: compute.NT, M: rows, N: c, K: c, A: y, B: w, C: x})
		d.BiasGrad(compute.BiasGrad{DBias: bias, DY: y, Rows: rows, N: c})
		d.LayerNorm(compute.LayerNorm{Y: y, X: x, Gain: bias, Bias: bias, Mean: lse, RStd: lse, Rows: rows, N: c, Eps: 1e-5})
		d.Attention(compute.Attention{Out: y, LSE: lse, QKV: qkv, B: 1, T: rows, H: 4, C: c})
		d.AttentionGrad(compute.AttentionGrad{DQKV: dqkv, DOut: x, QKV: qkv, Out: y, LSE: lse, B: 1, T: rows, H: 4, C: c})
		d.RMSNorm(compute.RMSNorm{Y: y, X: x, Gain: bias, RStd: lse, Rows: rows, N: c, Eps: 1e-5})
		d.RMSNormGrad(compute.RMSNormGrad{DX: y, DY: y, X: x, DGain: bias, Gain: bias, RStd: lse, Rows: rows, N: c})
		d.SwiGLU(compute.SwiGLU{Y: y, GateUp: qkv, Rows: rows, N: c})
		d.SwiGLUGrad(compute.SwiGLUGrad{DGateUp: dqkv, DY: y, GateUp: qkv, Rows: rows, N: c})
		d.Rotary(compute.Rotary{X: qkv, Table: x, B: 1, T: rows, H: 8, S: c / 4, Stride: 3 * c})
		d.Attention(compute.Attention{Out: y, LSE: lse, QKV: qkv, B: 1, T: rows, H: 4, KV: 2, C: c})
		d.AttentionGrad(compute.AttentionGrad{DQKV: dqkv, DOut: x, QKV: qkv, Out: y, LSE: lse, B: 1, T: rows, H: 4, KV: 2, C: c})
		d.Zero(x)
		_ = d.SumSquares(y)
		d.AdamW(compute.AdamW{Params: x, Grads: y, M: x, V: x, Step: 1, GradScale: 1})
	}
	if n := testing.AllocsPerRun(20, step); n != 0 {
		t.Errorf("a round of operations allocates %v times", n)
	}
}

// TestPoolManyTasks hands the pool thousands of tiny tasks, so that workers
// park, wake and race for parts; every part must run exactly once.
func TestPoolManyTasks(t *testing.T) {
	d := newDevice(t, Options{Threads: 4})
	defer d.Close()
	var want float64
	x := compute.Buffer{Host: make([]float32, 3*sumChunk+5)}
	for i := range x.Host {
		x.Host[i] = float32(i % 7)
		want += float64(x.Host[i]) * float64(x.Host[i])
	}
	for i := range 2000 {
		if got := d.SumSquares(x); math.Abs(got-want) > 1e-6*want {
			t.Fatalf("task %d: sum %v, want %v", i, got, want)
		}
	}
}

// TestScratchCoversRoundedFactors multiplies what a model with an MLP of four
// times its width does and compares the copies with what the device foretells.
func TestScratchCoversRoundedFactors(t *testing.T) {
	const rows, width, vocabulary = 64, 32, 512
	d := newDevice(t, Options{Path: "portable", Threads: 1, Precision: compute.BF16})
	defer d.Close()
	b := func(n int) compute.Buffer { return compute.Buffer{Host: make([]float32, n)} }
	for _, s := range [][3]int{{rows, 4 * width, width}, {rows, vocabulary, width}, {vocabulary, width, rows}, {rows, width, vocabulary}} {
		d.MatMul(compute.MatMul{Form: compute.NN, M: s[0], N: s[1], K: s[2], A: b(s[0] * s[2]), B: b(s[2] * s[1]), C: b(s[0] * s[1])})
	}
	taken := int64(4 * (cap(d.rounded[0].floats) + cap(d.rounded[1].floats)))
	sizes := compute.Sizes{Rows: rows, Width: 4 * width, Vocab: vocabulary, Positions: rows, Head: width}
	exact := newDevice(t, Options{Path: "portable", Threads: 1})
	defer exact.Close()
	if foretold := d.Scratch(sizes) - exact.Scratch(sizes); taken == 0 || foretold < taken || foretold > 2*taken {
		t.Errorf("foretold %d bytes for rounded factors, they took %d", foretold, taken)
	}
}
