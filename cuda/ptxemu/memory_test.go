package ptxemu

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// guilty is a kernel with one fault.
type guilty struct {
	name     string
	declares string // beside registers: shared memory
	code     string // reads %in and %out, pointers to 64 words each, and %t, the thread
	threads  int
	blocks   int
	kind     Kind
	line     string // part of the instruction that is at fault
	thread   int
}

// kernelOf wraps code that reads %in, %out, %t and some scratch registers into a kernel k.
func kernelOf(declares, code string) string {
	return header + `
.visible .entry k(.param .u64 in, .param .u64 out)
{
	.reg .b64 %in, %out, %d<10>;
	.reg .b32 %t, %b, %r<10>;
	.reg .f32 %f<10>;
	.reg .pred %p<10>;
	` + declares + `
	ld.param.u64 %in, [in];
	ld.param.u64 %out, [out];
	mov.u32 %t, %tid.x;
	mov.u32 %b, %ctaid.x;
	mul.wide.u32 %d0, %t, 4;
	mul.lo.u32 %r0, %t, 4;
	` + code + `
	ret;
}
`
}

func TestSanitizersFind(t *testing.T) {
	const shared = ".shared .align 16 .b8 s[256];"
	cases := []guilty{
		{name: "load behind the end", code: "add.s64 %d1, %in, %d0;\nld.global.u32 %r1, [%d1+128];", threads: 64, kind: Outside, line: "ld.global.u32 %r1", thread: 32},
		{name: "load before the beginning", code: "ld.global.u32 %r1, [%in-4];", kind: Outside, line: "ld.global.u32"},
		{name: "store to null", code: "mov.u64 %d1, 0;\nst.global.u32 [%d1], %r0;", kind: Outside, line: "st.global"},
		{name: "vector across the end", code: "add.s64 %d1, %in, 248;\nld.global.v2.u32 {%r1, %r2}, [%d1];\nld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%d1+8];", kind: Outside, line: "v4"},
		{name: "behind shared memory", declares: shared, code: "mov.u32 %r1, s;\nst.shared.u32 [%r1+256], %r0;", kind: Outside, line: "st.shared"},
		{name: "misaligned", code: "add.s64 %d1, %in, %d0;\nld.global.v2.u32 {%r1, %r2}, [%d1];", threads: 32, kind: Misaligned, line: "ld.global.v2", thread: 1},
		{name: "uninitialised shared memory", declares: shared, code: "mov.u32 %r1, s;\nld.shared.u32 %r2, [%r1];", kind: Uninitialised, line: "ld.shared"},
		{
			name: "read without barrier", declares: shared, threads: 64, kind: Race, line: ".shared",
			code: "mov.u32 %r1, s;\nadd.u32 %r2, %r1, %r0;\nst.shared.u32 [%r2], %t;\nbar.sync 0;\nst.shared.u32 [%r2], %t;\nxor.b32 %r3, %r0, 128;\nadd.u32 %r3, %r3, %r1;\nld.shared.u32 %r4, [%r3];",
		},
		{
			name: "write while another warp reads", declares: shared, threads: 64, kind: Race, line: ".shared",
			code: "mov.u32 %r1, s;\nadd.u32 %r2, %r1, %r0;\nst.shared.u32 [%r2], %t;\nbar.sync 0;\nld.shared.u32 %r4, [%r2];\nxor.b32 %r3, %r0, 128;\nadd.u32 %r3, %r3, %r1;\nst.shared.u32 [%r3], %t;",
		},
		{
			name: "neighbours of a warp without its barrier", declares: shared, threads: 32, kind: Race, line: "ld.shared",
			code: "mov.u32 %r1, s;\nadd.u32 %r2, %r1, %r0;\nst.shared.u32 [%r2], %t;\nxor.b32 %r3, %r0, 4;\nadd.u32 %r3, %r3, %r1;\nld.shared.u32 %r4, [%r3];",
		},
		{name: "two lanes write one word", declares: shared, threads: 32, code: "mov.u32 %r1, s;\nst.shared.u32 [%r1], %t;", kind: Race, line: "st.shared", thread: 1},
		{name: "blocks write one word", blocks: 2, code: "st.global.u32 [%out], %b;", kind: Race, line: "st.global"},
		{name: "a block reads what another writes", blocks: 2, code: "mul.wide.u32 %d1, %b, 4;\nadd.s64 %d1, %d1, %out;\nst.global.u32 [%d1], %b;\nld.global.u32 %r1, [%out+4];", kind: Race},
		{name: "warps of a block use one word of global memory", threads: 64, code: "setp.eq.u32 %p0, %t, 0;\nsetp.eq.u32 %p1, %t, 40;\n@%p0 ld.global.u32 %r1, [%out];\n@%p1 st.global.u32 [%out], %t;", kind: Race, line: ".global.u32"},
		{name: "readers and a writer without barrier", threads: 64, code: "ld.global.u32 %r1, [%out];\nadd.s64 %d1, %out, %d0;\nsetp.eq.u32 %p1, %t, 0;\n@%p1 st.global.u32 [%out], %t;", kind: Race, line: ".global.u32"},
		{name: "atomic beside plain", blocks: 2, code: "atom.global.add.u32 %r1, [%out], 1;\nld.global.u32 %r2, [%out];", kind: Race},
		{
			name: "copy not waited for", declares: shared, kind: Unwaited, line: "ld.shared",
			code: "mov.u32 %r1, s;\ncp.async.ca.shared.global [%r1], [%in], 16;\ncp.async.commit_group;\nld.shared.u32 %r2, [%r1];",
		},
		{
			name: "copy of a later group not waited for", declares: shared, kind: Unwaited, line: "ld.shared.u32 %r3",
			code: "mov.u32 %r1, s;\ncp.async.ca.shared.global [%r1], [%in], 16;\ncp.async.commit_group;\ncp.async.ca.shared.global [%r1+16], [%in], 16;\ncp.async.commit_group;\ncp.async.wait_group 1;\nld.shared.u32 %r2, [%r1];\nld.shared.u32 %r3, [%r1+16];",
		},
		{name: "copy from outside", declares: shared, code: "mov.u32 %r1, s;\ncp.async.cg.shared.global [%r1], [%in+256], 16;", kind: Outside, line: "cp.async"},
		{name: "barrier in half a warp", threads: 32, code: "setp.lt.u32 %p0, %t, 16;\n@!%p0 bra L;\nbar.sync 0;\nL:", kind: Divergence, line: "bar.sync"},
		{name: "guarded barrier", threads: 64, code: "setp.lt.u32 %p0, %t, 48;\n@%p0 bar.sync 0;", kind: Divergence, line: "bar.sync", thread: 32},
		{name: "a warp leaves before a barrier", threads: 64, code: "setp.lt.u32 %p0, %t, 32;\n@%p0 ret;\nbar.sync 0;", kind: Divergence, line: "bar.sync", thread: 0},
		{name: "warps at two barriers", threads: 64, code: "setp.lt.u32 %p0, %t, 32;\n@%p0 bra L;\nbar.sync 0;\nret;\nL:\nbar.sync 0;", kind: Divergence, line: "bar.sync"},
		{name: "shuffle of half a warp", threads: 32, code: "setp.lt.u32 %p0, %t, 16;\n@%p0 shfl.sync.bfly.b32 %r1, %t, 1, 31, -1;", kind: Divergence, line: "shfl"},
		{name: "shuffle from a lane that does not take part", threads: 32, code: "setp.lt.u32 %p0, %t, 16;\n@%p0 shfl.sync.bfly.b32 %r1, %t, 16, 31, 0xffff;", kind: Divergence, line: "shfl"},
		{name: "endless loop", code: "L:\nbra L;", kind: Endless, line: "bra"},
		{name: "trap", code: "trap;", kind: Trap, line: "trap"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ptx := kernelOf(c.declares, c.code)
			b := newBench(t, Config{Limit: 1 << 20, Workers: 1}, ptx) // two would race for real
			in, out := b.buffer(make([]uint32, 64)), b.buffer(make([]uint32, 64))
			err := b.launch("k", max(c.blocks, 1), max(c.threads, 1), 0, uint64(in), uint64(out))
			f := finding(t, err)
			if f.Kind != c.kind || f.Kernel != "k" || !strings.Contains(f.Instruction, c.line) || c.thread != 0 && f.Thread != c.thread {
				t.Errorf("got %v, want %v at %q by thread %d", f, c.kind, c.line, c.thread)
			}
			if line := strings.Split(ptx, "\n")[f.Line-1]; !strings.Contains(line, strings.Fields(f.Instruction)[0]) {
				t.Errorf("line %d is %q, but the instruction is %q", f.Line, line, f.Instruction)
			}
			if _, again := b.Alloc(4); again == nil {
				t.Error("the context lives on")
			}
		})
	}
}

// TestRacesBetweenWorkers lets two workers run a block each, one after the other.
func TestRacesBetweenWorkers(t *testing.T) {
	for name, c := range map[string]struct {
		code  string
		races bool
	}{
		"both write":      {"st.global.u32 [%out], %b;", true},
		"one reads":       {"setp.eq.u32 %p0, %b, 0;\n@%p0 ld.global.u32 %r1, [%out];\n@!%p0 st.global.u32 [%out], %b;", true},
		"both read":       {"ld.global.u32 %r1, [%out];", false},
		"both add":        {"red.global.add.u32 [%out], 1;", false},
		"words beside":    {"mul.wide.u32 %d1, %b, 4;\nadd.s64 %d1, %d1, %out;\nst.global.u32 [%d1], %b;", false},
		"a block by turn": {"setp.eq.u32 %p0, %b, 0;\n@%p0 st.global.u32 [%out], %b;\n@%p0 ld.global.u32 %r1, [%out];", false},
	} {
		b := newBench(t, Config{Workers: 2}, kernelOf("", c.code))
		out := b.buffer(make([]uint32, 64))
		b.words(out, 1) // the buffer is there
		f, err := b.Function(b.module, "k")
		if err != nil {
			t.Fatal(err)
		}
		params := binary.LittleEndian.AppendUint64(make([]byte, 8), uint64(out))
		l := &launch{kernel: b.functions[f], grid: [3]uint32{2, 1, 1}, block: [3]uint32{1, 1, 1}, params: params, memory: &b.memory, limit: 1 << 20, blocks: 2, base: 1}
		for i, w := range b.workers {
			w.prepare(l)
			w.current.run(uint32(i))
			if w.finding != nil {
				t.Fatalf("%s: %v", name, w.finding)
			}
		}
		if f := compare(b.workers[0], b.workers[1]); (f != nil) != c.races {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func TestSanitizersLetPass(t *testing.T) {
	const shared = ".shared .align 16 .b8 s[256];"
	cases := []guilty{
		{name: "exchange with barrier", declares: shared, threads: 64, code: "mov.u32 %r1, s;\nadd.u32 %r2, %r1, %r0;\nst.shared.u32 [%r2], %t;\nbar.sync 0;\nxor.b32 %r3, %r0, 128;\nadd.u32 %r3, %r3, %r1;\nld.shared.u32 %r4, [%r3];\nbar.sync 0;\nst.shared.u32 [%r3], %r4;"},
		{name: "exchange in a warp", declares: shared, threads: 32, code: "mov.u32 %r1, s;\nadd.u32 %r2, %r1, %r0;\nst.shared.u32 [%r2], %t;\nbar.warp.sync -1;\nxor.b32 %r3, %r0, 4;\nadd.u32 %r3, %r3, %r1;\nld.shared.u32 %r4, [%r3];\nbar.warp.sync -1;\nst.shared.u32 [%r2], %r4;"},
		{name: "blocks write their own words", blocks: 64, code: "mul.wide.u32 %d1, %b, 4;\nadd.s64 %d1, %d1, %out;\nst.global.u32 [%d1], %b;\nld.global.u32 %r2, [%d1];"},
		{name: "warps of a block with a barrier", threads: 64, code: "ld.global.u32 %r1, [%out];\nbar.sync 0;\nsetp.eq.u32 %p1, %t, 40;\n@%p1 st.global.u32 [%out], %t;\nbar.sync 0;\nld.global.u32 %r1, [%out];"},
		{name: "atomics of all blocks", blocks: 64, threads: 32, code: "red.global.add.u32 [%out], 1;"},
		{name: "atomics in shared memory", declares: shared, threads: 64, code: "mov.u32 %r1, s;\nsetp.ne.u32 %p0, %t, 0;\n@%p0 bra L;\nst.shared.u32 [%r1], 0;\nL:\nbar.sync 0;\natom.shared.add.u32 %r2, [%r1], 1;\nbar.sync 0;\nld.shared.u32 %r3, [%r1];\n@!%p0 st.global.u32 [%out], %r3;"},
		{name: "copy with wait and barrier", declares: shared, threads: 32, code: "mov.u32 %r1, s;\nmul.lo.u32 %r3, %t, 8;\nadd.u32 %r3, %r1, %r3;\nmul.wide.u32 %d1, %t, 8;\nadd.s64 %d1, %d1, %in;\ncp.async.ca.shared.global [%r3], [%d1], 8, 4;\ncp.async.wait_all;\nbar.sync 0;\nld.shared.u32 %r2, [%r1+4];"},
		{name: "half a warp by its mask", threads: 32, code: "setp.lt.u32 %p0, %t, 16;\n@%p0 shfl.sync.bfly.b32 %r1, %t, 1, 31, 0xffff;"},
		{name: "part of a warp", threads: 20, code: "vote.sync.ballot.b32 %r1, %p1, -1;\nbar.sync 0;"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Config{}, kernelOf(c.declares, c.code))
			in, out := b.buffer(make([]uint32, 64)), b.buffer(make([]uint32, 64))
			if err := b.launch("k", max(c.blocks, 1), max(c.threads, 1), 0, uint64(in), uint64(out)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUseAfterFree(t *testing.T) {
	b := newBench(t, Config{}, kernelOf("", "ld.global.u32 %r1, [%in];"))
	in := b.buffer(make([]uint32, 64))
	if err := b.Free(in); err != nil {
		t.Fatal(err)
	}
	if err := b.Free(in); err == nil {
		t.Error("memory can be freed twice")
	}
	if f := finding(t, b.launch("k", 1, 1, 0, uint64(in), 0)); f.Kind != Freed {
		t.Errorf("got %v", f)
	}
}

func TestUninitialisedGlobalMemory(t *testing.T) {
	for _, track := range []bool{false, true} {
		b := newBench(t, Config{Uninitialised: track}, kernelOf("", "ld.global.u32 %r1, [%in];\nst.global.u32 [%out], %r1;"))
		in, err := b.Alloc(4)
		if err != nil {
			t.Fatal(err)
		}
		out := b.buffer([]uint32{0})
		err = b.launch("k", 1, 1, 0, uint64(in), uint64(out))
		if !track {
			if err != nil || b.words(out, 1)[0] != 0xffffffff {
				t.Errorf("fresh memory: %v", err)
			}
		} else if f := finding(t, err); f.Kind != Uninitialised {
			t.Errorf("got %v", f)
		}
	}
}

// TestConstantsAndLocals runs what NVRTC makes of tables, arrays of threads and dynamic shared memory.
func TestConstantsAndLocals(t *testing.T) {
	ptx := `.version 7.8
.target sm_61
.address_size 64
.const .align 4 .b8 table[12] = {1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0};
.global .align 4 .u32 count = 5;
.extern .shared .align 16 .b8 dynamic[];
.visible .entry k(.param .align 4 .b8 pair[8], .param .u64 out)
{
	.local .align 8 .b8 depot[16];
	.reg .b64 %SP, %SPL, %d<9>;
	.reg .b32 %r<9>;
	mov.u64 %SPL, depot;
	cvta.local.u64 %SP, %SPL;
	ld.param.u32 %r0, [pair+4];
	ld.param.u64 %d0, [out];
	mul.wide.u32 %d1, %r0, 4;
	mov.u64 %d2, table;
	add.s64 %d2, %d2, %d1;
	ld.const.u32 %r1, [%d2];
	st.local.u32 [%SPL+4], %r1;
	ld.u32 %r2, [%SP+4];
	atom.global.add.u32 %r3, [count], %r2;
	st.shared.u32 [dynamic+8], %r3;
	mov.u64 %d3, dynamic;
	cvta.shared.u64 %d4, %d3;
	ld.u32 %r4, [%d4+8];
	ld.global.u32 %r5, [count];
	mad.lo.u32 %r6, %r5, 100, %r4;
	st.global.u32 [%d0], %r6;
	ret;
}
`
	b := newBench(t, Config{Workers: 1}, ptx)
	out := b.buffer([]uint32{0})
	if err := b.launch("k", 1, 1, 16, 2<<32, uint64(out)); err != nil {
		t.Fatal(err)
	}
	if got := b.words(out, 1)[0]; got != 805 {
		t.Errorf("got %d, want 805", got)
	}
	if err := b.launch("k", 1, 1, 1<<20, 0, uint64(out)); err == nil {
		t.Error("a launch gets a MiB of shared memory")
	}
}

func TestDivergenceMeets(t *testing.T) {
	// Each lane loops as often as its number says, with a branch inside; then all meet.
	b := newBench(t, Config{}, kernelOf("", `
	mov.u32 %r1, 0;
	mov.u32 %r2, 0;
LOOP:
	setp.ge.u32 %p0, %r1, %t;
	@%p0 bra DONE;
	and.b32 %r3, %r1, 1;
	setp.eq.u32 %p1, %r3, 0;
	@%p1 bra EVEN;
	add.u32 %r2, %r2, 10;
	bra.uni NEXT;
EVEN:
	add.u32 %r2, %r2, 1;
NEXT:
	add.u32 %r1, %r1, 1;
	bra.uni LOOP;
DONE:
	shfl.sync.idx.b32 %r4, %r2, 31, 31, -1;
	mad.lo.u32 %r2, %r4, 1000, %r2;
	add.s64 %d1, %out, %d0;
	st.global.u32 [%d1], %r2;`))
	out := b.buffer(make([]uint32, 32))
	if err := b.launch("k", 1, 32, 0, uint64(out), uint64(out)); err != nil {
		t.Fatal(err)
	}
	for lane, got := range b.words(out, 32) {
		if want := uint32(1000*(16+150) + (lane+1)/2 + lane/2*10); got != want {
			t.Errorf("lane %d: got %d, want %d", lane, got, want)
		}
	}
	if c := b.Counters()[0]; c.Launches != 1 || c.Requests != 1 || c.Coalesced != 1 || c.Sectors != 4 || c.StoreBytes != 128 {
		t.Errorf("counters %+v", c)
	}
}

func TestCountersOfMemory(t *testing.T) {
	cases := []struct {
		stride                     int // words between lanes
		sectors, ideal, wavefronts uint64
	}{
		{1, 4, 4, 1}, {2, 8, 4, 2}, {8, 32, 4, 8}, {32, 32, 4, 32}, {33, 32, 4, 1},
	}
	for _, c := range cases {
		b := newBench(t, Config{}, kernelOf(".shared .align 16 .b8 s[8192];", fmt.Sprintf(`
	mul.lo.u32 %%r1, %%t, %d;
	mul.wide.u32 %%d1, %%r1, 4;
	add.s64 %%d1, %%d1, %%in;
	ld.global.u32 %%r2, [%%d1];
	mul.lo.u32 %%r1, %%r1, 4;
	st.shared.u32 [%%r1], %%r2;`, c.stride)))
		in := b.buffer(make([]uint32, 33*32))
		if err := b.launch("k", 1, 32, 0, uint64(in), 0); err != nil {
			t.Fatal(err)
		}
		if k := b.Counters()[0]; k.Sectors != c.sectors || k.IdealSectors != c.ideal || k.Wavefronts != c.wavefronts || k.IdealWavefronts != 1 {
			t.Errorf("stride %d: %+v", c.stride, k)
		}
	}
}
