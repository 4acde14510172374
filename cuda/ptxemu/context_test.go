package ptxemu

import (
	"errors"
	"fmt"
	"testing"

	"dunlin/cuda/driver"
)

// double is a kernel that doubles a word.
var double = kernelOf("", "ld.global.u32 %r1, [%in];\nadd.u32 %r1, %r1, %r1;\nst.global.u32 [%out], %r1;")

// TestLazyStreamsExposeMissingWaits copies on one stream what another computes.
func TestLazyStreamsExposeMissingWaits(t *testing.T) {
	for _, order := range []Order{Lazy, Eager, Shuffled} {
		for _, waits := range []bool{true, false} {
			b := newBench(t, Config{Order: order}, double)
			p := b.buffer([]uint32{21})
			if err := b.SyncStream(b.stream); err != nil {
				t.Fatal(err)
			}
			f, _ := b.Function(b.module, "k")
			other, _ := b.NewStream()
			e, _ := b.NewEvent()
			if err := b.Launch(f, [3]uint32{1, 1, 1}, [3]uint32{1, 1, 1}, 0, b.stream, []uint64{uint64(p), uint64(p)}); err != nil {
				t.Fatal(err)
			}
			if err := b.Record(e, b.stream); err != nil {
				t.Fatal(err)
			}
			if waits {
				if err := b.Wait(other, e); err != nil {
					t.Fatal(err)
				}
			}
			host, _ := b.AllocPinned(4)
			if err := b.CopyFromDevice(host, p, other); err != nil {
				t.Fatal(err)
			}
			if err := b.SyncStream(other); err != nil {
				t.Fatal(err)
			}
			switch got := host[0]; {
			case (waits || order == Eager) && got != 42:
				t.Errorf("order %d, waits %v: got %d, want 42", order, waits, got)
			case !waits && order == Lazy && got != 21:
				t.Errorf("a missing wait went unnoticed: got %d", got)
			}
		}
	}
}

func TestEventsAreReached(t *testing.T) {
	b := newBench(t, Config{}, double)
	e, _ := b.NewEvent()
	if done, err := b.Done(e); err != nil || !done {
		t.Errorf("an event without a mark: %v, %v", done, err)
	}
	p := b.buffer([]uint32{1})
	if err := b.Record(e, b.stream); err != nil {
		t.Fatal(err)
	}
	if done, _ := b.Done(e); done {
		t.Error("done before anything ran")
	}
	for tries := 0; ; tries++ {
		done, err := b.Done(e)
		if err != nil || tries > 10 {
			t.Fatalf("never done: %v", err)
		}
		if done {
			break
		}
	}
	if err := b.SyncEvent(e); err != nil {
		t.Fatal(err)
	}
	if got := b.words(p, 1)[0]; got != 1 {
		t.Errorf("got %d", got)
	}
}

func TestGraphs(t *testing.T) {
	b := newBench(t, Config{}, double)
	p := b.buffer([]uint32{3})
	f, _ := b.Function(b.module, "k")
	if err := b.BeginCapture(b.stream); err != nil {
		t.Fatal(err)
	}
	if err := b.Launch(f, [3]uint32{1, 1, 1}, [3]uint32{1, 1, 1}, 0, b.stream, []uint64{uint64(p), uint64(p)}); err != nil {
		t.Fatal(err)
	}
	if err := b.SyncStream(b.stream); err == nil {
		t.Error("a stream can be waited for while it is captured")
	}
	g, err := b.EndCapture(b.stream)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := b.LaunchGraph(g, b.stream); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.words(p, 1)[0]; got != 24 {
		t.Errorf("got %d, want 24", got)
	}
	if err := errors.Join(b.FreeGraph(g), b.FreeStream(b.stream)); err != nil {
		t.Error(err)
	}
}

func TestMemoryRunsOut(t *testing.T) {
	b := newBench(t, Config{MemoryBytes: 1 << 20}, double)
	p, err := b.Alloc(1 << 19)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Alloc(1<<19 + 1); !errors.Is(err, driver.ErrOutOfMemory) {
		t.Errorf("got %v", err)
	}
	if err := b.Free(p); err != nil {
		t.Fatal(err)
	}
	if free, total, _ := b.Memory(); free != 1<<20 || total != 1<<20 {
		t.Errorf("%d of %d bytes are free", free, total)
	}
}

func TestInjectedFaults(t *testing.T) {
	lost := &driver.Error{Code: 999, Call: "cuLaunchKernel"}
	full := &driver.Error{Code: driver.OutOfMemory, Call: "cuMemAlloc"}
	b := newBench(t, Config{Fault: func(call string, n int) error {
		switch {
		case call == "cuMemAlloc" && n == 2:
			return full
		case call == "cuLaunchKernel":
			return lost
		}
		return nil
	}}, double)
	if _, err := b.Alloc(4); !errors.Is(err, driver.ErrOutOfMemory) {
		t.Errorf("got %v", err)
	}
	p, err := b.Alloc(4)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.launch("k", 1, 1, 0, uint64(p), uint64(p)); !errors.Is(err, driver.ErrDeviceLost) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Alloc(4); !errors.Is(err, driver.ErrDeviceLost) {
		t.Errorf("a lost card works on: %v", err)
	}
}

// TestCallsAreChecked makes every mistake that a card's driver notices.
func TestCallsAreChecked(t *testing.T) {
	b := newBench(t, Config{}, double)
	p := b.buffer(make([]uint32, 4))
	f, _ := b.Function(b.module, "k")
	one := [3]uint32{1, 1, 1}
	pinned, _ := b.AllocPinned(16)
	mistakes := map[string]error{
		"unknown kernel":        second(b.Function(b.module, "none")),
		"no bytes":              second(b.Alloc(0)),
		"no such memory":        b.Free(12345),
		"middle of memory":      b.Free(p + 4),
		"copy beyond the end":   b.CopyToDevice(p+8, pinned, b.stream),
		"memory not pinned":     b.CopyToDevice(p, make([]byte, 16), b.stream),
		"overlapping copy":      b.CopyOnDevice(p, p+4, 8, b.stream),
		"odd address":           b.Set32(p+1, 0, 1, b.stream),
		"no such stream":        b.Set32(p, 0, 1, 999),
		"no threads":            b.Launch(f, one, [3]uint32{0, 1, 1}, 0, b.stream, []uint64{0, 0}),
		"too many threads":      b.Launch(f, one, [3]uint32{1024, 2, 1}, 0, b.stream, []uint64{0, 0}),
		"too few arguments":     b.Launch(f, one, one, 0, b.stream, []uint64{0}),
		"too much shared":       b.Launch(f, one, one, 49153, b.stream, []uint64{0, 0}),
		"foreign pinned memory": b.FreePinned(make([]byte, 8)),
		"no such event":         b.SyncEvent(999),
		"not captured":          second(b.EndCapture(b.stream)),
		"card 1":                second((&Driver{}).Open(1)),
	}
	for name, err := range mistakes {
		var of *driver.Error
		if !errors.As(err, &of) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, ptx := range []string{
		"", "kernel", header + ".visible .entry k() {", header + ".visible .entry k() { bra L; }", header + ".visible .entry k() { .reg .b32 %r<2>; add.s32 %r0, %r2, 1; }",
		header + ".visible .entry k() { .reg .f32 %f<2>; wmma.f32 %f0, %f1; }", ".version 8.0\n.target sm_90\n.address_size 64\n",
		header + ".visible .entry k() { .reg .b32 %r<99999999>; }",
	} {
		if _, err := b.LoadModule([]byte(ptx)); err == nil {
			t.Errorf("a module of %q is loaded", ptx)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := b.Alloc(4); err == nil {
		t.Error("a closed context gives memory")
	}
}

func second[T any](_ T, err error) error { return err }

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{Capability: 3}, {MemoryBytes: 1 << 60}, {Workers: -1}, {ApproximationError: 2}, {Order: 9}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// FuzzParse looks for texts that break the parser or the compiler; kernels that load are run for a while.
func FuzzParse(f *testing.F) {
	f.Add(double)
	f.Add(header)
	for _, r := range table() {
		f.Add(kernelOf(".reg .b16 %h<10>;", r.code))
	}
	f.Fuzz(func(t *testing.T, text string) {
		b := &bench{Context: open(t, Config{Workers: 1, Limit: 1 << 16, MemoryBytes: 1 << 22}), t: t}
		m, err := b.LoadModule([]byte(text))
		if err != nil {
			return
		}
		b.module = m
		b.stream, _ = b.NewStream()
		for name, f := range b.modules[m] {
			if k := b.functions[f]; len(k.entry.Params) > 4 || k.shared+k.local > 1<<12 {
				continue
			}
			p := b.buffer(make([]uint32, 64))
			args := make([]uint64, len(b.functions[f].entry.Params))
			for i := range args {
				args[i] = uint64(p)
			}
			if err := b.launch(name, 2, 33, 0, args...); err != nil && fmt.Sprint(err) == "" {
				t.Error("an error says nothing")
			}
		}
	})
}
