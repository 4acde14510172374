//go:build linux && (amd64 || arm64) && !nocuda

package driver

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"dunlin/cuda/loader"
	"dunlin/cuda/loader/loadertest"
	"dunlin/internal/invariants"
)

// fakeSystem is a driver over a stand-in of its own.
type fakeSystem struct {
	*system
	t   *testing.T
	own loader.Library // the stand-in itself
}

func newFake(t *testing.T, flags ...string) *fakeSystem {
	path := loadertest.Build(t, "testdata/fakecuda.c", flags...)
	own, err := loader.Open([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	return &fakeSystem{&system{paths: []string{path}}, t, own}
}

// trace returns the calls since the last trace.
func (f *fakeSystem) trace() string {
	p := f.own.Function("fake_trace").Call()
	return strings.TrimSpace(text((*[1 << 16]byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p)))[:]))
}

// fail makes the next call of that name return a code.
func (f *fakeSystem) fail(name string, code Code) {
	b := append([]byte(name), 0)
	f.own.Function("fake_fail").Call(uintptr(unsafe.Pointer(&b[0])), uintptr(code))
}

// expect compares the calls since the last trace.
func (f *fakeSystem) expect(want ...string) {
	f.t.Helper()
	if got := f.trace(); got != strings.Join(want, "\n") {
		f.t.Errorf("calls:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func (f *fakeSystem) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestSystemListsCards(t *testing.T) {
	f := newFake(t)
	cards, err := f.Devices()
	f.must(err)
	if len(cards) != 2 {
		t.Fatalf("%d cards, want 2", len(cards))
	}
	want := Info{
		Index: 1, Name: "Fake 11", PCI: "0000:11:00.0", Major: 8, Minor: 6, MemoryBytes: 12 << 30,
		Multiprocessors: 11016, ClockKHz: 11013, MemoryClockKHz: 11036, BusWidthBits: 11037, L2Bytes: 11038, WarpSize: 11010,
		ThreadsPerBlock: 11001, ThreadsPerProcessor: 11039, RegistersPerProcessor: 11082, SharedPerBlockBytes: 11097, SharedPerProcessorBytes: 11081,
	}
	if cards[1] != want {
		t.Errorf("got  %+v\nwant %+v", cards[1], want)
	}
	if v, err := f.Version(); v != 12040 || err != nil {
		t.Errorf("version %d, %v", v, err)
	}
	if cards[0].Capability() != 86 {
		t.Errorf("capability %d", cards[0].Capability())
	}
	cards, err = newFake(t, "-DSILENT").Devices()
	f.must(err)
	if want.ClockKHz, want.MemoryClockKHz = 0, 0; len(cards) != 2 || cards[1] != want {
		t.Errorf("without clocks: %+v", cards)
	}
}

// Every call arrives with its arguments in their places.
func TestContextCallsTheDriver(t *testing.T) {
	f := newFake(t)
	c, err := f.Open(1)
	f.must(err)
	f.trace()

	free, total, err := c.Memory()
	f.must(err)
	if free != 5<<30 || total != 12<<30 {
		t.Errorf("memory %d of %d", free, total)
	}
	m, err := c.LoadModule([]byte(".version 7.0"))
	f.must(err)
	k, err := c.Function(m, "axpy")
	f.must(err)
	s, err := c.NewStream()
	f.must(err)
	e, err := c.NewEvent()
	f.must(err)
	f.expect("cuMemGetInfo_v2(context 1001)", `cuModuleLoadDataEx(".version 7.0", 2)`, "cuModuleGetFunction(2001, axpy)",
		"cuStreamCreate(1)", "cuEventCreate(3)")

	x, err := c.Alloc(16)
	f.must(err)
	y, err := c.Alloc(16)
	f.must(err)
	pinned, err := c.AllocPinned(32)
	f.must(err)
	values := unsafe.Slice((*float32)(unsafe.Pointer(&pinned[0])), 8)
	copy(values, []float32{1, 2, 3, 4})
	f.must(c.CopyToDevice(x, pinned[:16], s))
	f.must(c.Set32(y, math.Float32bits(0.5), 4, s))
	f.must(c.Launch(k, [3]uint32{1, 2, 3}, [3]uint32{4, 5, 6}, 7, s, []uint64{uint64(y), uint64(x), uint64(math.Float32bits(2)), 4}))
	f.must(c.CopyOnDevice(x, y, 16, s))
	f.must(c.CopyFromDevice(pinned[16:], x, s))
	f.must(c.Record(e, s))
	f.must(c.Wait(s, e))
	for i, want := range []bool{false, true} {
		if done, err := c.Done(e); done != want || err != nil {
			t.Errorf("query %d: %v, %v", i, done, err)
		}
	}
	f.must(c.SyncEvent(e))
	f.must(c.SyncStream(s))
	for i, want := range []float32{2.5, 4.5, 6.5, 8.5} {
		if values[4+i] != want {
			t.Errorf("value %d: %v, want %v", i, values[4+i], want)
		}
	}
	f.expect("cuMemAlloc_v2(16)", "cuMemAlloc_v2(16)", "cuMemHostAlloc(32, 0)", "cuMemcpyHtoDAsync_v2(16, 4001)", "cuMemsetD32Async(1056964608, 4, 4001)",
		"cuLaunchKernel(3001, 1 2 3, 4 5 6, 7, 4001, a=2 n=4, no extra)", "cuMemcpyDtoDAsync_v2(16, 4001)", "cuMemcpyDtoHAsync_v2(16, 4001)",
		"cuEventRecord(5001, 4001)", "cuStreamWaitEvent(4001, 5001, 0)", "cuEventQuery(5001)", "cuEventQuery(5001)", "cuEventSynchronize(5001)", "cuStreamSynchronize(4001)")

	f.must(c.BeginCapture(s))
	g, err := c.EndCapture(s)
	f.must(err)
	f.must(c.LaunchGraph(g, s))
	f.must(c.FreeGraph(g))
	f.must(c.FreePinned(pinned))
	f.must(c.Free(x))
	f.must(c.FreeEvent(e))
	f.must(c.FreeStream(s))
	f.must(c.Close())
	f.must(c.Close())
	f.expect("cuStreamBeginCapture_v2(4001, 2)", "cuStreamEndCapture(4001)", "cuGraphInstantiateWithFlags(6001, 0)", "cuGraphDestroy(6001)", "cuGraphLaunch(7001, 4001)",
		"cuGraphExecDestroy(7001)", "cuMemFreeHost()", "cuMemFree_v2()", "cuEventDestroy_v2(5001)", "cuStreamDestroy_v2(4001)", "cuCtxSynchronize()", "cuCtxDestroy_v2(1001)")
	if _, err := c.Alloc(4); err == nil || !strings.Contains(err.Error(), "the card is closed") {
		t.Errorf("a closed card allocates: %v", err)
	}
}

func TestContextReportsFailures(t *testing.T) {
	f := newFake(t)
	c, err := f.Open(0)
	f.must(err)
	f.fail("cuMemAlloc_v2", OutOfMemory)
	if _, err = c.Alloc(1 << 20); !errors.Is(err, ErrOutOfMemory) || !strings.Contains(err.Error(), "1048576 bytes asked for, 5368709120 of 12884901888 free") {
		t.Errorf("out of memory: %v", err)
	}
	if _, err = c.LoadModule([]byte("nonsense")); !strings.Contains(err.Error(), `no .version in "nonsense"`) {
		t.Errorf("bad PTX: %v", err)
	}
	if _, err = c.Function(1, "gone"); !strings.Contains(err.Error(), "gone") {
		t.Errorf("missing kernel: %v", err)
	}
	f.fail("cuStreamSynchronize", 987)
	if err = c.SyncStream(1); !strings.Contains(err.Error(), "a code of tomorrow") || !strings.Contains(err.Error(), "error 987") {
		t.Errorf("unknown code: %v", err)
	}
	if _, err = f.Open(2); !errors.Is(err, ErrNoDevice) {
		t.Errorf("third of two cards: %v", err)
	}
	if err = c.Launch(1, [3]uint32{1, 1, 1}, [3]uint32{1, 1, 1}, 0, 1, make([]uint64, maxArgs+1)); err == nil {
		t.Error("too many parameters are launched")
	}

	f.trace()
	f.fail("cuStreamSynchronize", LaunchFailed)
	if err = c.SyncStream(1); !errors.Is(err, ErrDeviceLost) {
		t.Errorf("lost: %v", err)
	}
	f.trace()
	if _, err = c.Alloc(4); !errors.Is(err, ErrDeviceLost) {
		t.Errorf("after the loss: %v", err)
	}
	f.expect()
	if err = c.Close(); !errors.Is(err, ErrDeviceLost) {
		t.Errorf("close after the loss: %v", err)
	}
	f.expect("cuCtxDestroy_v2(1001)")
	if c, err = f.Open(0); err != nil {
		t.Fatalf("the card does not come back: %v", err)
	}
	f.must(c.Close())
}

func TestOldDrivers(t *testing.T) {
	f := newFake(t, "-DOLD")
	c, err := f.Open(0)
	f.must(err)
	if err = c.BeginCapture(1); !errors.Is(err, ErrUnsupported) {
		t.Errorf("graphs of a driver without them: %v", err)
	}
	f.must(c.Close())

	t.Setenv("FAKE_CUDA_VERSION", "10020")
	if _, err := newFake(t).Devices(); !errors.Is(err, ErrNoDriver) || !strings.Contains(err.Error(), "it speaks CUDA 10.2, 11.0 is needed") {
		t.Errorf("a driver of 2019: %v", err)
	}
}

func TestLibraryThatIsNoDriver(t *testing.T) {
	for _, paths := range [][]string{{filepath.Join(t.TempDir(), "gone.so")}, {"libc.so.6"}} {
		s := &system{paths: paths}
		if _, err := s.Devices(); !errors.Is(err, ErrNoDriver) {
			t.Errorf("%v: %v", paths, err)
		}
		if _, err := s.Open(0); !errors.Is(err, ErrNoDriver) {
			t.Errorf("%v: %v", paths, err)
		}
	}
	text := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&system{paths: []string{text}}).Version(); !errors.Is(err, ErrNoDriver) {
		t.Errorf("a text file: %v", err)
	}
}

// A steady step allocates nothing. Under the race detector pools forget what they hold.
func TestHotCallsAllocateNothing(t *testing.T) {
	if invariants.Enabled {
		t.Skip("built for the race detector")
	}
	f := newFake(t)
	c, err := f.Open(0)
	f.must(err)
	defer c.Close()
	p, err := c.Alloc(64)
	f.must(err)
	pinned, err := c.AllocPinned(64)
	f.must(err)
	args := []uint64{uint64(p), uint64(p), 0, 0}
	if n := testing.AllocsPerRun(100, func() {
		f.must(c.CopyToDevice(p, pinned, 1))
		f.must(c.Launch(1, [3]uint32{1, 1, 1}, [3]uint32{1, 1, 1}, 0, 1, args))
		f.must(c.Record(1, 1))
		_, _ = c.Done(1)
	}); n != 0 {
		t.Errorf("%v allocations in four calls", n)
	}
}

func BenchmarkLaunch(b *testing.B) {
	path := loadertest.Build(b, "testdata/fakecuda.c")
	s := &system{paths: []string{path}}
	c, err := s.Open(0)
	if err != nil {
		b.Fatal(err)
	}
	args := make([]uint64, 4)
	for b.Loop() {
		if err := c.Launch(1, [3]uint32{1, 1, 1}, [3]uint32{1, 1, 1}, 0, 1, args); err != nil {
			b.Fatal(err)
		}
	}
}
