package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"dunlin/compute"
)

// Device is the processor as a compute.Device. Make one with New, use it from
// one goroutine at a time, and Close it.
type Device struct {
	kernels *kernels
	threads int
	bf16    bool
	pool    *pool
	scratch []scratch  // one a worker
	rounded [2]scratch // operands of a MatMul that is emulated
	sums    []float64  // partial sums of SumSquares, one a part
	tasks   tasks
	fast    fast
}

// tasks are the arguments of the operation that runs, kept here so that
// handing them to the pool allocates nothing.
type tasks struct {
	elementwise   elementwise
	biasGrad      biasGrad
	layerNorm     layerNorm
	layerNormGrad layerNormGrad
	rmsNorm       rmsNorm
	rmsNormGrad   rmsNormGrad
	swiGLU        swiGLU
	rotary        rotary
	attention     attention
	attentionGrad attentionGrad
	embed         embed
	embedGrad     embedGrad
	crossEntropy  crossEntropy
	adamW         adamW
	matmul        portableMatMul
}

// Options choose how a Device computes.
type Options struct {
	// Threads is the number of goroutines that compute, the caller's
	// included: 0 (all processors Go may use) to 1024.
	Threads int
	// Path is "" or "auto" for the best path, or a name of Paths.
	Path string
	// Precision is "" or compute.FP32, or compute.BF16, which every path has:
	// one whose processor multiplies no bf16 rounds the operands itself.
	Precision compute.Precision
}

// Validate reports an option outside of its range.
func (o Options) Validate() error {
	if o.Threads < 0 || o.Threads > 1024 {
		return fmt.Errorf("cpu threads %d: allowed are 0 (all) to 1024", o.Threads)
	}
	if o.Path != "" && o.Path != "auto" && !slices.Contains(Paths(), o.Path) {
		return fmt.Errorf("cpu path %q: this machine has auto, %s", o.Path, strings.Join(Paths(), ", "))
	}
	if o.Precision != "" && !slices.Contains(compute.Precisions(), string(o.Precision)) {
		return fmt.Errorf("cpu precision %q: allowed are %s", o.Precision, strings.Join(compute.Precisions(), ", "))
	}
	return nil
}

// New starts a device's goroutines.
func New(o Options) (*Device, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	d := &Device{threads: o.Threads, bf16: o.Precision == compute.BF16, scratch: make([]scratch, o.Threads)}
	for _, k := range available() {
		if o.Path == "" || o.Path == "auto" || o.Path == k.name {
			d.kernels = k
			break
		}
	}
	d.pool = newPool(d, o.Threads)
	return d, nil
}

// Name says the path, the precision unless it is fp32, and the threads: "cpu
// avx512 bf16, 2 threads".
func (d *Device) Name() string {
	path := d.kernels.name
	if d.bf16 {
		path += " bf16"
	}
	if d.threads == 1 {
		return "cpu " + path + ", 1 thread"
	}
	return fmt.Sprintf("cpu %s, %d threads", path, d.threads)
}

// Precision returns how matrices are multiplied.
func (d *Device) Precision() compute.Precision {
	if d.bf16 {
		return compute.BF16
	}
	return compute.FP32
}

// Emulates says whether the precision is not the processor's own, so that it
// costs time instead of saving it.
func (d *Device) Emulates() bool { return d.bf16 && d.kernels.matmulBF16 == nil }

// Path returns the name of the path that runs.
func (d *Device) Path() string { return d.kernels.name }

// Threads returns the number of goroutines that compute.
func (d *Device) Threads() int { return d.threads }

// run executes the parts of t on the pool. For kernels that split themselves.
func (d *Device) run(t task, parts int) { d.pool.run(t, parts) }

// Scratch returns about the bytes that a device takes for itself when it trains:
// a packed panel of one factor of a product, at most 512 × 2,016 values, and each
// thread's packed keys, values and scores of one attention head. In bf16 a thread
// also rounds 128 rows of the other factor; emulated, both factors are copied
// whole, of which the largest are activations or logits, and weights that are a
// quarter as wide as the widest activations, as in GPT-2.
func (d *Device) Scratch(s compute.Sizes) int64 {
	panel := min(512, max(s.Rows, s.Width)) * min(2016, max(s.Width, s.Vocab))
	thread := 3*s.Head*(s.Positions+16) + 128*(s.Positions+s.Head+48)
	factors := 0
	switch {
	case d.Emulates():
		factors = max(s.Rows*s.Width, min(s.Rows*s.Vocab, 1<<24)) + max(s.Rows, s.Width, s.Vocab)*s.Width/4
	case d.bf16:
		thread = max(thread, 128*(512+16))
	}
	return 4 * int64(panel+d.threads*thread+factors)
}

// Alloc returns n zeroed values of ordinary memory.
func (d *Device) Alloc(n int) (compute.Buffer, error) {
	if n < 0 || n > compute.MaxElements {
		return compute.Buffer{}, fmt.Errorf("allocate %d values: allowed are 0 to %d", n, compute.MaxElements)
	}
	values := make([]float32, n)
	largePages(values)
	return compute.Buffer{Host: values}, nil
}

// AllocInts returns n zeroed token numbers of ordinary memory.
func (d *Device) AllocInts(n int) (compute.Ints, error) {
	if n < 0 || n > compute.MaxElements {
		return compute.Ints{}, fmt.Errorf("allocate %d token numbers: allowed are 0 to %d", n, compute.MaxElements)
	}
	return compute.Ints{Host: make([]int32, n)}, nil
}

// Free does nothing: the garbage collector frees.
func (d *Device) Free(compute.Buffer) {}

// FreeInts does nothing: the garbage collector frees.
func (d *Device) FreeInts(compute.Ints) {}

// Upload copies src to the start of dst.
func (d *Device) Upload(dst compute.Buffer, src []float32) { copy(need("upload", dst, len(src)), src) }

// UploadInts copies src to the start of dst.
func (d *Device) UploadInts(dst compute.Ints, src []int32) {
	copy(needInts("upload", dst, len(src)), src)
}

// Download copies len(dst) values from the start of src; it never fails here.
func (d *Device) Download(dst []float32, src compute.Buffer) error {
	copy(dst, need("download", src, len(dst)))
	return nil
}

// Sync returns at once: every operation is done when its call returns.
func (d *Device) Sync() error { return nil }

// Close ends the goroutines and waits for them.
func (d *Device) Close() error {
	d.pool.close()
	return nil
}

// need returns the first n values of b and panics when there are fewer: a
// mistake in the calling program.
func need(operation string, b compute.Buffer, n int) []float32 {
	if n < 0 || len(b.Host) < n {
		panic(fmt.Sprintf("compute/cpu: %s needs a host buffer of %d values, has %d", operation, n, len(b.Host)))
	}
	return b.Host[:n]
}

func needInts(operation string, b compute.Ints, n int) []int32 {
	if n < 0 || len(b.Host) < n {
		panic(fmt.Sprintf("compute/cpu: %s needs a host buffer of %d token numbers, has %d", operation, n, len(b.Host)))
	}
	return b.Host[:n]
}
