package cuda

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dunlin/compute"
	"dunlin/compute/computetest"
	"dunlin/cuda/driver"
	"dunlin/cuda/ptxemu"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/training"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a Device of an emulated card.
func open(t *testing.T, c ptxemu.Config, o Options) *Device {
	t.Helper()
	d, _ := openContext(t, c, o)
	return d
}

// openContext returns the card too, which counts what it does.
func openContext(t *testing.T, c ptxemu.Config, o Options) (*Device, *ptxemu.Context) {
	t.Helper()
	emulator, err := ptxemu.New(c)
	if err != nil {
		t.Fatal(err)
	}
	context, err := emulator.OpenContext(0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(context, o)
	if err != nil {
		t.Fatal(err)
	}
	return d, context
}

// bothTiles returns what opens a card for a suite, which wants two: first one that
// multiplies with large tiles always, then one that never does. Both add in one
// order, so that the suite's comparison of bits holds.
func bothTiles(t *testing.T, c ptxemu.Config, o Options) func() compute.Device {
	c.ApproximationError, c.Uninitialised = 1, true
	processors := 1
	return func() compute.Device {
		d := open(t, c, o)
		d.info.Multiprocessors = processors
		processors = 1 << 20
		return d
	}
}

// TestConforms runs the suite on the kernels of every card, with approximate
// instructions as far off as they may be.
func TestConforms(t *testing.T) {
	t.Parallel()
	computetest.Run(t, bothTiles(t, ptxemu.Config{Capability: 61, Seed: 1}, Options{}))
}

// TestMixedConforms runs the suite of products on tensor cores.
func TestMixedConforms(t *testing.T) {
	t.Parallel()
	t.Run("fp16", func(t *testing.T) {
		t.Parallel()
		computetest.RunFP16(t, bothTiles(t, ptxemu.Config{Capability: 75, Accumulation: ptxemu.Truncating}, Options{Precision: compute.FP16}))
	})
	t.Run("bf16", func(t *testing.T) {
		t.Parallel()
		computetest.RunBF16(t, bothTiles(t, ptxemu.Config{Capability: 80, Accumulation: ptxemu.Reversed, Order: ptxemu.Shuffled}, Options{Precision: compute.BF16}))
	})
}

// TestMixedAddsAnyWay runs the suite's deepest products, and what is particular to a precision, on cards of both
// generations that add up in each way.
func TestMixedAddsAnyWay(t *testing.T) {
	t.Parallel()
	deep := regexp.MustCompile(`^(matmul/../(65x129x257|71x101x18)|matmul/(rounding|range)|symmetric product/33x65)$`)
	for _, c := range []struct {
		capability int
		precision  compute.Precision
	}{{75, compute.FP16}, {80, compute.FP16}, {80, compute.BF16}} {
		for _, adds := range []ptxemu.Accumulation{ptxemu.Nearest, ptxemu.Truncating, ptxemu.Reversed} {
			d := open(t, ptxemu.Config{Capability: c.capability, Accumulation: adds, Uninitialised: true}, Options{Precision: c.precision})
			ran := 0
			for _, k := range computetest.Cases(c.precision) {
				if !deep.MatchString(k.Name) {
					continue
				}
				ran++
				if err := k.Check(d); err != nil {
					t.Fatalf("sm_%d %s, accumulation %d: %s: %v", c.capability, c.precision, adds, k.Name, err)
				}
			}
			if err := d.Close(); err != nil || ran < 8 {
				t.Errorf("%d cases, %v", ran, err)
			}
		}
	}
}

// TestLargeCasesPass runs the cases that a doctor asks of a real card, at a size that emulated ones can do.
func TestLargeCasesPass(t *testing.T) {
	t.Parallel()
	sizes := compute.Sizes{Rows: 160, Width: 64, Vocab: 300, Positions: 80, Head: 32}
	for capability, precision := range map[int]compute.Precision{61: compute.FP32, 75: compute.FP16, 80: compute.BF16} {
		d := open(t, ptxemu.Config{Capability: capability, ApproximationError: 1, Seed: 4, Uninitialised: true}, Options{Precision: precision})
		for _, c := range computetest.Large(precision, sizes) {
			if err := c.Check(d); err != nil {
				t.Fatalf("sm_%d %s: %s: %v", capability, precision, c.Name, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// buffer returns n values of the device.
func buffer(t *testing.T, d *Device, n int) compute.Buffer {
	t.Helper()
	b, err := d.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// products multiplies in every form, with tiles of either size.
func products(t *testing.T, d *Device, edge int) {
	t.Helper()
	x, y, z, bias := buffer(t, d, edge*edge), buffer(t, d, edge*edge), buffer(t, d, edge*edge), buffer(t, d, edge)
	for _, form := range []compute.Form{compute.NN, compute.NT, compute.TN} {
		d.MatMul(compute.MatMul{
			Form: form, M: edge, N: edge, K: 64, A: x, B: y, C: z, Accumulate: true,
			Epilogue: compute.Epilogue{Bias: bias, GELU: true, Residual: x},
		})
	}
}

// attentions runs the kernels for every size of heads, forward and backward.
func attentions(t *testing.T, d *Device) {
	t.Helper()
	for _, size := range []int{32, 64, 96, 128} {
		const positions, count, keys = 72, 4, 2
		width, stride := count*size, (count+2*keys)*size
		qkv, dqkv, out, dout := buffer(t, d, positions*stride), buffer(t, d, positions*stride), buffer(t, d, positions*width), buffer(t, d, positions*width)
		lse := buffer(t, d, count*positions)
		d.Attention(compute.Attention{Out: out, LSE: lse, QKV: qkv, B: 1, T: positions, H: count, KV: keys, C: width})
		d.AttentionGrad(compute.AttentionGrad{DQKV: dqkv, DOut: dout, QKV: qkv, Out: out, LSE: lse, B: 1, T: positions, H: count, KV: keys, C: width})
	}
}

// TestAccessIsWide counts how products and attention reach memory: at least 95 %
// of the requests to global memory touch no more sectors than their bytes need,
// and shared memory takes at most 1.05 times the passes over its banks that it
// would without a conflict.
func TestAccessIsWide(t *testing.T) {
	for capability, precisions := range map[int][]compute.Precision{61: {compute.FP32}, 75: {compute.FP16}, 80: {compute.FP16, compute.BF16}} {
		for _, precision := range precisions {
			d, context := openContext(t, ptxemu.Config{Capability: capability}, Options{Precision: precision})
			products(t, d, 64)
			products(t, d, 256)
			if precision == compute.FP32 { // the others run the same kernels
				attentions(t, d)
			}
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
			coalesced, conflicts := 1.0, 1.0 // of the worst kernel
			for _, k := range context.Counters() {
				coalesced, conflicts = min(coalesced, k.CoalescedShare()), max(conflicts, k.ConflictFactor())
				if share := k.CoalescedShare(); share < 0.95 {
					t.Errorf("sm_%d %s: %.1f %% of the requests to global memory are coalesced", capability, k.Kernel, 100*share)
				}
				if factor := k.ConflictFactor(); factor > 1.05 {
					t.Errorf("sm_%d %s: %.2f times the passes over shared memory that are needed", capability, k.Kernel, factor)
				}
			}
			t.Logf("sm_%d %s: at least %.1f %% coalesced, at most %.2f of the passes over shared memory that are needed", capability, precision, 100*coalesced, conflicts)
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// idle is a card that takes all work and does none.
type idle struct{ frail }

func (*idle) SyncEvent(driver.Event) error                                          { return nil }
func (*idle) Record(driver.Event, driver.Stream) error                              { return nil }
func (*idle) CopyToDevice(driver.Pointer, []byte, driver.Stream) error              { return nil }
func (*idle) CopyFromDevice([]byte, driver.Pointer, driver.Stream) error            { return nil }
func (*idle) CopyOnDevice(driver.Pointer, driver.Pointer, int, driver.Stream) error { return nil }
func (*idle) BeginCapture(driver.Stream) error                                      { return nil }
func (i *idle) EndCapture(driver.Stream) (driver.Graph, error)                      { return driver.Graph(i.handle()), nil }
func (*idle) LaunchGraph(driver.Graph, driver.Stream) error                         { return nil }
func (*idle) FreeGraph(driver.Graph) error                                          { return nil }
func (*idle) Launch(driver.Function, [3]uint32, [3]uint32, int, driver.Stream, []uint64) error {
	return nil
}

// TestOperationsDoNotAllocate runs every operation twice: the second time the
// card is asked for no memory, and Go for none either.
func TestOperationsDoNotAllocate(t *testing.T) {
	for _, precision := range []compute.Precision{compute.FP32, compute.FP16, compute.BF16} {
		d, err := New(&idle{}, Options{Precision: precision})
		if err != nil {
			t.Fatal(err)
		}
		const rows, c = 64, 64
		x, y, qkv, dqkv := buffer(t, d, rows*c), buffer(t, d, rows*c), buffer(t, d, rows*3*c), buffer(t, d, rows*3*c)
		lse, w, bias := buffer(t, d, 4*rows), buffer(t, d, c*c), buffer(t, d, c)
		tokens, err := d.AllocInts(rows)
		if err != nil {
			t.Fatal(err)
		}
		host, hostTokens, decay := make([]float32, rows), make([]int32, rows), []compute.Range{{From: 1, To: 9}, {From: 20, To: 30}}
		step := func() {
			d.UploadInts(tokens, hostTokens)
			d.Embed(compute.Embed{Out: x, Tokens: tokens, WTE: w, WPE: x, B: 1, T: rows, C: c})
			d.MatMul(compute.MatMul{Form: compute.NN, M: rows, N: c, K: c, A: x, B: w, C: y, Epilogue: compute.Epilogue{Bias: bias, GELU: true}})
			d.MatMul(compute.MatMul{Form: compute.TN, M: c, N: c, K: rows, A: x, B: y, C: w, Accumulate: true})
			d.MatMul(compute.MatMul{Form: compute.NT, M: rows, N: c, K: c, A: y, B: w, C: x})
			d.BiasGrad(compute.BiasGrad{DBias: bias, DY: y, Rows: rows, N: c})
			d.LayerNorm(compute.LayerNorm{Y: y, X: x, Gain: bias, Bias: bias, Mean: lse, RStd: lse, Rows: rows, N: c, Eps: 1e-5})
			d.LayerNormGrad(compute.LayerNormGrad{DX: y, DY: y, X: x, DGain: bias, DBias: bias, Gain: bias, Mean: lse, RStd: lse, Rows: rows, N: c})
			d.RMSNorm(compute.RMSNorm{Y: y, X: x, Gain: bias, RStd: lse, Rows: rows, N: c, Eps: 1e-5})
			d.RMSNormGrad(compute.RMSNormGrad{DX: y, DY: y, X: x, DGain: bias, Gain: bias, RStd: lse, Rows: rows, N: c})
			d.SwiGLU(compute.SwiGLU{Y: y, GateUp: qkv, Rows: rows, N: c})
			d.SwiGLUGrad(compute.SwiGLUGrad{DGateUp: dqkv, DY: y, GateUp: qkv, Rows: rows, N: c})
			d.Rotary(compute.Rotary{X: qkv, Table: x, B: 1, T: rows, H: 8, S: c / 4, Stride: 3 * c})
			d.Attention(compute.Attention{Out: y, LSE: lse, QKV: qkv, B: 1, T: rows, H: 4, C: c})
			d.AttentionGrad(compute.AttentionGrad{DQKV: dqkv, DOut: x, QKV: qkv, Out: y, LSE: lse, B: 1, T: rows, H: 4, C: c})
			d.CrossEntropy(compute.CrossEntropy{Logits: y, Losses: lse, Targets: tokens, Rows: rows, V: c, Grad: true, Scale: 1})
			d.EmbedGrad(compute.EmbedGrad{DWTE: w, DWPE: x, DOut: y, Tokens: tokens, B: 1, T: rows, C: c})
			d.GELU(x, y)
			d.GELUGrad(x, y, y, y)
			d.Zero(x)
			d.Copy(x, y)
			d.Add(x, x, y)
			d.Scale(x, 2)
			d.Combine(x, 1, x, 2, y)
			_ = d.SumSquares(y)
			d.AdamW(compute.AdamW{Params: x, Grads: y, M: x, V: x, Decay: decay, Step: 1, GradScale: 1})
			if err := d.Download(host, x); err != nil {
				t.Error(err)
			}
		}
		if n := testing.AllocsPerRun(20, step); n != 0 {
			t.Errorf("%s: a round of operations allocates %v times", precision, n)
		}
		launched := d.Launches()
		taken := d.memory.context.(*idle).next
		step()
		if d.memory.context.(*idle).next != taken || d.Launches() == launched {
			t.Errorf("%s: a step takes memory of the card, or launches nothing", precision)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLongWorkIsCut checks that no launch exceeds what a slow card does in 100 ms,
// and that the pieces of a product cover it.
func TestLongWorkIsCut(t *testing.T) {
	d, err := New(&idle{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	huge := compute.Buffer{Addr: 1 << 40, N: 1 << 34}
	count := func(what string, want uint64, run func()) {
		before := d.Launches()
		run()
		if got := d.Launches() - before; got != want {
			t.Errorf("%s: %d launches, want %d", what, got, want)
		}
	}
	count("product", 3, func() { d.MatMul(compute.MatMul{M: 5000, N: 8192, K: 1024, A: huge, B: huge, C: huge}) })
	count("sum", 8, func() { n := compute.Buffer{Addr: huge.Addr, N: 1 << 30}; d.Add(n, n, n) })
	count("attention", 4*19, func() {
		d.Attention(compute.Attention{Out: huge, QKV: huge, B: 4, T: 8192, H: 16, C: 1024})
	})
	count("attention's gradient", 2*2*5, func() {
		d.AttentionGrad(compute.AttentionGrad{DQKV: huge, DOut: huge, QKV: huge, Out: huge, LSE: huge, B: 2, T: 4096, H: 32, C: 1024})
	})
}

// TestPiecesMakeTheWhole runs products and attentions whose launches are as short as they can be.
func TestPiecesMakeTheWhole(t *testing.T) {
	t.Parallel()
	cut := regexp.MustCompile(`^(matmul/../(130x50x19|65x129x257)|(grouped )?attention/(2x65|2x35|1x130|2x130))`)
	for _, precision := range []compute.Precision{compute.FP32, compute.BF16} {
		d, card := openContext(t, ptxemu.Config{Capability: 80, Uninitialised: true}, Options{Precision: precision})
		ran, launches := 0, [2]uint64{}
		for i := range launches {
			if i == 1 {
				d.longest = 1
			}
			for _, k := range computetest.Cases(precision) {
				if !cut.MatchString(k.Name) {
					continue
				}
				ran++
				if err := k.Check(d); err != nil {
					t.Fatalf("%s: %s: %v", precision, k.Name, err)
				}
			}
			for _, c := range card.Counters() {
				if regexp.MustCompile(`^(matmul|attention|query_grad|key_grad)`).MatchString(c.Kernel) {
					launches[i] += c.Launches
				}
			}
			card.ResetCounters()
		}
		if err := d.Close(); err != nil || ran < 12 || launches[1] < 2*launches[0] {
			t.Errorf("%s: %d cases, %v launches, %v", precision, ran, launches, err)
		}
	}
}

// TestMistakesPanic checks that a shape that does not fit its buffers stops before
// anything is launched.
func TestMistakesPanic(t *testing.T) {
	d, err := New(&idle{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b := func(n int) compute.Buffer { return compute.Buffer{Addr: 256, N: n} }
	for name, call := range map[string]func(){
		"matmul":        func() { d.MatMul(compute.MatMul{M: 2, N: 2, K: 2, A: b(4), B: b(4), C: b(3)}) },
		"no rows":       func() { d.MatMul(compute.MatMul{M: 0, N: 2, K: 2, A: b(4), B: b(4), C: b(4)}) },
		"add":           func() { d.Add(b(3), b(3), b(2)) },
		"heads":         func() { d.Attention(compute.Attention{B: 1, T: 1, H: 3, C: 4}) },
		"large heads":   func() { d.Attention(compute.Attention{Out: b(200), QKV: b(600), B: 1, T: 1, H: 1, C: 200}) },
		"from":          func() { d.Attention(compute.Attention{B: 1, T: 1, H: 1, C: 4, From: 1}) },
		"odd heads":     func() { d.Rotary(compute.Rotary{X: b(9), Table: b(9), B: 1, T: 1, H: 3, S: 3, Stride: 9}) },
		"adamw step":    func() { d.AdamW(compute.AdamW{Params: b(1), Grads: b(1), M: b(1), V: b(1)}) },
		"freed twice":   func() { d.Free(b(1)) },
		"host's memory": func() { d.Zero(compute.Buffer{Host: make([]float32, 4)}) },
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

// TestCardsAreRefused checks what a card must be able to do.
func TestCardsAreRefused(t *testing.T) {
	for _, c := range []struct {
		capability int
		precision  compute.Precision
		says       string
	}{{52, compute.FP32, "6.1 or newer"}, {70, compute.FP16, "[fp32]"}, {75, compute.BF16, "[fp32 fp16]"}, {86, "fp8", "[fp32 fp16 bf16]"}} {
		emulator, err := ptxemu.New(ptxemu.Config{Capability: c.capability})
		if err != nil {
			t.Fatal(err)
		}
		context, err := emulator.Open(0)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := New(context, Options{Precision: c.precision}); err == nil || d != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("sm_%d with %s: %v, want it to say %q", c.capability, c.precision, err, c.says)
		}
	}
	var heard []string
	d := open(t, ptxemu.Config{Capability: 86}, Options{Progress: func(name string, done, all int) {
		heard = append(heard, name)
		if done+1 > all {
			t.Errorf("module %d of %d", done, all)
		}
	}})
	defer d.Close()
	if len(heard) < 2 || !slices.Contains(heard, "matmul") {
		t.Errorf("progress told of %v", heard)
	}
}

// TestLargeHeadsAreRefused checks that a model with larger heads than the kernels
// have is an error before anything is allocated, and while a training is planned.
func TestLargeHeadsAreRefused(t *testing.T) {
	card := &idle{}
	d, err := New(card, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	taken := card.next
	wide := model.Config{Layers: 1, Heads: 1, Width: 192, Context: 16, Vocab: 256}
	_, made := model.New(wide, d, 1)
	constant := optimizer.Schedule{Peak: 1e-3, Shape: optimizer.Constant}
	_, planned := training.TrainerConfig{
		Model: wide, Batch: 1, LR: constant, WeightDecay: constant, AdamW: optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8},
	}.Plan(d, training.Demand{Micros: 1})
	for what, err := range map[string]error{"made": made, "planned": planned} {
		if err == nil || !strings.Contains(err.Error(), "heads of 192 values") || card.next != taken {
			t.Errorf("heads of 192 values, %s: %v", what, err)
		}
	}
}

// TestClosedDeviceSaysSo uses a device that is closed.
func TestClosedDeviceSaysSo(t *testing.T) {
	d, err := New(&idle{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := buffer(t, d, 4)
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	d.Zero(b)
	d.Scale(b, 2)
	d.Free(b)
	for range 2 {
		_, failed := d.Alloc(1)
		for what, err := range map[string]error{"sync": d.Sync(), "alloc": failed, "download": d.Download(make([]float32, 4), b)} {
			if err == nil || !strings.Contains(err.Error(), "closed") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}
