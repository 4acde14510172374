package ptxemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"dunlin/cuda/driver"
)

// header begins a module for the newest card that the emulator knows kernels for.
const header = ".version 7.8\n.target sm_80\n.address_size 64\n"

// open returns a context of an emulated card.
func open(t testing.TB, config Config) *Context {
	t.Helper()
	d, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.OpenContext(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// bench is a context with one stream and what tests do with it.
type bench struct {
	*Context
	t      testing.TB
	stream driver.Stream
	module driver.Module
}

func newBench(t testing.TB, config Config, ptx string) *bench {
	t.Helper()
	b := &bench{Context: open(t, config), t: t}
	var err error
	if b.stream, err = b.NewStream(); err != nil {
		t.Fatal(err)
	}
	if b.module, err = b.LoadModule([]byte(ptx)); err != nil {
		t.Fatal(err)
	}
	return b
}

// buffer returns memory of the card that holds words.
func (b *bench) buffer(words []uint32) driver.Pointer {
	b.t.Helper()
	p, err := b.Alloc(max(4*len(words), 1))
	if err != nil {
		b.t.Fatal(err)
	}
	host, err := b.AllocPinned(max(4*len(words), 1))
	if err != nil {
		b.t.Fatal(err)
	}
	for i, w := range words {
		binary.LittleEndian.PutUint32(host[4*i:], w)
	}
	if err := b.CopyToDevice(p, host[:4*len(words)], b.stream); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// words returns what lies at p.
func (b *bench) words(p driver.Pointer, n int) []uint32 {
	b.t.Helper()
	host, err := b.AllocPinned(4 * n)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.CopyFromDevice(host, p, b.stream); err != nil {
		b.t.Fatal(err)
	}
	if err := b.SyncStream(b.stream); err != nil {
		b.t.Fatal(err)
	}
	words := make([]uint32, n)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(host[4*i:])
	}
	return words
}

// launch queues a kernel and returns what went wrong until it was done.
func (b *bench) launch(name string, blocks, threads, shared int, args ...uint64) error {
	b.t.Helper()
	f, err := b.Function(b.module, name)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.Launch(f, [3]uint32{uint32(blocks), 1, 1}, [3]uint32{uint32(threads), 1, 1}, shared, b.stream, args); err != nil {
		return err
	}
	return b.SyncStream(b.stream)
}

// evaluate runs instructions, each with up to four 64-bit inputs, in one thread each, and returns the results. An
// instruction reads %d0 to %d3, their low halves %r0 to %r3, the low halves of these %h0 to %h3 and their lowest bits
// %p0 to %p3; it writes one of %d9, %r9, %h9 and %p9, and may write %p8.
func evaluate(t testing.TB, config Config, rows []row) []uint64 {
	t.Helper()
	var text strings.Builder
	text.WriteString(header)
	for i, r := range rows {
		fmt.Fprintf(&text, ".visible .entry k%d(.param .u64 out, .param .u64 a0, .param .u64 a1, .param .u64 a2, .param .u64 a3)\n{\n", i)
		text.WriteString(".reg .b64 %d<10>; .reg .b32 %r<10>; .reg .b16 %h<10>; .reg .pred %p<10>; .reg .b64 %out;\n")
		text.WriteString("ld.param.u64 %out, [out]; mov.b64 %d9, 0; mov.b32 %r9, 0; mov.b16 %h9, 0; setp.ne.u32 %p9, 0, 0; setp.ne.u32 %p8, 0, 0;\n")
		for k := range 4 {
			fmt.Fprintf(&text, "ld.param.u64 %%d%d, [a%d]; cvt.u32.u64 %%r%d, %%d%d; cvt.u16.u64 %%h%d, %%d%d; setp.ne.u32 %%p%d, %%r%d, 0;\n", k, k, k, k, k, k, k, k)
		}
		text.WriteString(r.code + "\n")
		for _, widen := range []struct{ register, code string }{
			{"%r9", "cvt.u64.u32 %d9, %r9;"}, {"%h9", "cvt.u64.u16 %d9, %h9;"}, {"%p9", "@%p9 mov.b64 %d9, 1;"},
		} {
			if strings.Contains(r.code, widen.register) {
				text.WriteString(widen.code + "\n")
			}
		}
		text.WriteString("st.global.u64 [%out], %d9;\nret;\n}\n")
	}
	b := newBench(t, config, text.String())
	out := b.buffer(make([]uint32, 2*len(rows)))
	for i, r := range rows {
		args := []uint64{uint64(out) + 8*uint64(i), 0, 0, 0, 0}
		copy(args[1:], r.in)
		f, err := b.Function(b.module, fmt.Sprintf("k%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Launch(f, [3]uint32{1, 1, 1}, [3]uint32{1, 1, 1}, 0, b.stream, args); err != nil {
			t.Fatal(err)
		}
	}
	results := make([]uint64, len(rows))
	words := b.words(out, 2*len(rows))
	for i := range results {
		results[i] = uint64(words[2*i]) | uint64(words[2*i+1])<<32
	}
	return results
}

// row is an instruction with inputs and the result that NVIDIA's manual, or IEEE 754 where that refers to it, demands.
type row struct {
	code string
	in   []uint64
	want uint64
}

// in packs inputs.
func in(v ...uint64) []uint64 { return v }

// f32 and f64 are bits of numbers.
func f32(v float64) uint64 { return uint64(math.Float32bits(float32(v))) }
func f64(v float64) uint64 { return math.Float64bits(v) }

// finding returns the finding in an error.
func finding(t testing.TB, err error) *Finding {
	t.Helper()
	var f *Finding
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a finding", err)
	}
	return f
}
