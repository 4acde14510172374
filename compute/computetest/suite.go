package computetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/compute"
)

// seed of every case's inputs; a failure names the case, which fixes the rest.
const seed = 7

// guard is the number of values beside each buffer that must not change.
const guard = 24

// scenario is one use of one operation.
type scenario struct {
	name string
	run  func(r *rig)
}

func scenarios() []scenario {
	var all []scenario
	for _, group := range [][]scenario{
		memoryScenarios(), elementwiseScenarios(), matmulScenarios(), layerNormScenarios(),
		attentionScenarios(), embedScenarios(), lossScenarios(), adamWScenarios(),
		rmsNormScenarios(), swiGLUScenarios(), rotaryScenarios(),
	} {
		all = append(all, group...)
	}
	return all
}

// Run checks the device that newDevice returns, which Run closes.
func Run(t *testing.T, newDevice func() compute.Device) {
	t.Helper()
	run(t, newDevice, scenarios(), func(x float32) float32 { return x })
}

// RunBF16 checks what differs in a device of compute.BF16: its MatMul, against
// the product of the rounded operands within the tolerance of float32 sums.
func RunBF16(t *testing.T, newDevice func() compute.Device) {
	t.Helper()
	run(t, newDevice, append(matmulScenarios(), roundingScenario()), bf16)
}

// RunFP16 checks what differs in a device of compute.FP16: its MatMul, against the
// product of the rounded operands, however large or small their values are.
func RunFP16(t *testing.T, newDevice func() compute.Device) {
	t.Helper()
	run(t, newDevice, append(matmulScenarios(), rangeScenario()), fp16)
}

func run(t *testing.T, newDevice func() compute.Device, all []scenario, operand func(float32) float32) {
	t.Helper()
	first, second := newDevice(), newDevice()
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			want := play(t, first, s, operand)
			compareBits(t, "a second device", want, play(t, second, s, nil))
		})
	}
	closeTwice(t, first)
	closeTwice(t, second)
}

// Same checks that all devices, which it closes, give the same bits.
func Same(t *testing.T, devices ...compute.Device) {
	t.Helper()
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			want := play(t, devices[0], s, nil)
			for _, d := range devices[1:] {
				compareBits(t, d.Name(), want, play(t, d, s, nil))
			}
		})
	}
	for _, d := range devices {
		closeTwice(t, d)
	}
}

func closeTwice(t *testing.T, d compute.Device) {
	t.Helper()
	for range 2 {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// play runs a scenario and returns what it left. With operand, which says what
// a MatMul makes of a value before it multiplies, it compares it with the
// reference.
func play(t judge, d compute.Device, s scenario, operand func(float32) float32) [][]float32 {
	t.Helper()
	r := &rig{t: t, dev: d, rng: rand.New(rand.NewPCG(seed, uint64(len(s.name)))), operand: operand}
	s.run(r)
	r.finish()
	return r.outputs
}

func compareBits(t *testing.T, who string, want, got [][]float32) {
	t.Helper()
	for o := range want {
		for i := range want[o] {
			if math.Float32bits(want[o][i]) != math.Float32bits(got[o][i]) {
				t.Fatalf("%s: output %d, value %d is %v, first was %v", who, o, i, got[o][i], want[o][i])
			}
		}
	}
}

// rig hands out guarded buffers and judges what an operation left in them.
type rig struct {
	t       judge
	dev     compute.Device
	rng     *rand.Rand
	operand func(float32) float32 // nil collects without comparing
	held    []holding
	outputs [][]float32
}

// holding is an allocation with its guards and, for inputs, its values.
type holding struct {
	whole compute.Buffer
	input []float32
}

// tolerance bounds |got - want| by abs + rel·scale[i], scale being |want| when
// none is given.
type tolerance struct {
	abs, rel float64
	scale    []float64
}

func (r *rig) buffer(values []float32) compute.Buffer {
	r.t.Helper()
	whole, err := r.dev.Alloc(len(values) + 2*guard)
	if err != nil {
		r.t.Fatalf("alloc: %v", err)
	}
	padded := make([]float32, whole.Len())
	for i := range padded {
		padded[i] = math.Float32frombits(guardBits(i))
	}
	copy(padded[guard:], values)
	r.dev.Upload(whole, padded)
	r.held = append(r.held, holding{whole: whole})
	return whole.Slice(guard, guard+len(values))
}

// guardBits are those of a NaN, so that a product with zero shows who reads beside a buffer.
func guardBits(i int) uint32 { return 0x7fc00000 + uint32(i) }

// in returns an input buffer of the values; finish checks that they stay.
func (r *rig) in(values []float32) compute.Buffer {
	b := r.buffer(values)
	r.held[len(r.held)-1].input = values
	return b
}

// out returns a buffer of n NaNs.
func (r *rig) out(n int) compute.Buffer {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(math.NaN())
	}
	return r.buffer(values)
}

// ints returns token numbers on the device.
func (r *rig) ints(values []int32) compute.Ints {
	b, err := r.dev.AllocInts(len(values))
	if err != nil {
		r.t.Fatalf("alloc ints: %v", err)
	}
	r.dev.UploadInts(b, values)
	return b
}

// normal returns n values with the given standard deviation.
func (r *rig) normal(n int, std float64) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(r.rng.NormFloat64() * std)
	}
	return values
}

// tokens returns n numbers in [0, v).
func (r *rig) tokens(n, v int) []int32 {
	values := make([]int32, n)
	for i := range values {
		values[i] = r.rng.Int32N(int32(v))
	}
	return values
}

func (r *rig) read(b compute.Buffer) []float32 {
	r.t.Helper()
	got := make([]float32, b.Len())
	if err := r.dev.Download(got, b); err != nil {
		r.t.Fatalf("download: %v", err)
	}
	return got
}

// check compares a buffer with the reference and keeps its bits for later.
func (r *rig) check(what string, b compute.Buffer, want []float64, tol tolerance) {
	r.t.Helper()
	got := r.read(b)
	r.outputs = append(r.outputs, got)
	if r.operand == nil {
		return
	}
	if len(got) != len(want) {
		r.t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range want {
		scale := math.Abs(want[i])
		if tol.scale != nil {
			scale = tol.scale[i]
		}
		if allowed := tol.abs + tol.rel*scale; !(math.Abs(float64(got[i])-want[i]) <= allowed) {
			r.t.Fatalf("%s[%d] = %v, want %v within %.2g", what, i, got[i], want[i], allowed)
		}
	}
}

// finish checks guards and inputs and frees everything.
func (r *rig) finish() {
	r.t.Helper()
	if err := r.dev.Sync(); err != nil {
		r.t.Fatalf("sync: %v", err)
	}
	for _, h := range r.held {
		got := r.read(h.whole)
		for i := range guard {
			for _, at := range []int{i, len(got) - 1 - i} {
				if math.Float32bits(got[at]) != guardBits(at) {
					r.t.Fatalf("wrote beside a buffer: offset %d of %d", at-guard, len(got)-2*guard)
				}
			}
		}
		for i, v := range h.input {
			if math.Float32bits(got[guard+i]) != math.Float32bits(v) {
				r.t.Fatalf("changed an input: value %d from %v to %v", i, v, got[guard+i])
			}
		}
		r.dev.Free(h.whole)
	}
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func named(format string, args ...any) string { return fmt.Sprintf(format, args...) }
