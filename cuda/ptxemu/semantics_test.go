package ptxemu

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// Numbers that appear in the tables.
const (
	nan32  = 0x7fffffff
	inf32  = 0x7f800000
	neg32  = 1 << 31
	tiny32 = 1 // the least denormal of float32
)

// table holds known results, by instruction.
func table() []row {
	one, half, two, three := f32(1), f32(0.5), f32(2), f32(3)
	big24 := f32(1 << 24)
	return []row{
		// Integers.
		{"add.s32 %r9, %r0, %r1;", in(0x7fffffff, 1), 0x80000000},
		{"add.sat.s32 %r9, %r0, %r1;", in(0x7fffffff, 1), 0x7fffffff},
		{"sub.sat.s32 %r9, %r0, %r1;", in(0x80000000, 1), 0x80000000},
		{"add.s16 %h9, %h0, %h1;", in(0xffff, 2), 1},
		{"add.u64 %d9, %d0, %d1;", in(1<<32-1, 1), 1 << 32},
		{"sub.u32 %r9, %r0, %r1;", in(0, 1), 0xffffffff},
		{"sub.s64 %d9, %d0, -1;", in(1), 2},
		{"mul.lo.u32 %r9, %r0, %r1;", in(0x10001, 0x10001), 0x20001},
		{"mul.hi.u32 %r9, %r0, %r1;", in(0xffffffff, 0xffffffff), 0xfffffffe},
		{"mul.hi.s32 %r9, %r0, %r1;", in(0xffffffff, 0xffffffff), 0},
		{"mul.hi.s32 %r9, %r0, %r1;", in(0x80000000, 2), 0xffffffff},
		{"mul.lo.s16 %h9, %h0, %h1;", in(0xffff, 3), 0xfffd},
		{"mul.hi.s16 %h9, %h0, %h1;", in(0x8000, 2), 0xffff},
		{"mul.hi.u16 %h9, %h0, %h1;", in(0x8000, 2), 1},
		{"mul.wide.s32 %d9, %r0, %r1;", in(0xffffffff, 4), ^uint64(3)},
		{"mul.wide.u32 %d9, %r0, %r1;", in(0xffffffff, 4), 0x3fffffffc},
		{"mul.wide.s16 %r9, %h0, %h1;", in(0xffff, 5), 0xfffffffb},
		{"mul.wide.u16 %r9, %h0, %h1;", in(0xffff, 0xffff), 0xfffe0001},
		{"mul.hi.u64 %d9, %d0, %d1;", in(1<<63, 4), 2},
		{"mul.hi.s64 %d9, %d0, %d1;", in(^uint64(0), 5), ^uint64(0)},
		{"mad.lo.s32 %r9, %r0, %r1, %r2;", in(3, 0xffffffff, 10), 7},
		{"mad.hi.u32 %r9, %r0, %r1, %r2;", in(1<<31, 4, 10), 12},
		{"mad.wide.u32 %d9, %r0, %r1, %d2;", in(1<<31, 4, 10), 1<<33 + 10},
		{"mad.wide.s32 %d9, %r0, %r1, %d2;", in(0xffffffff, 4, 10), 6},
		{"div.s32 %r9, %r0, %r1;", in(0xfffffff9, 2), 0xfffffffd},
		{"div.u32 %r9, %r0, %r1;", in(0xfffffff9, 2), 0x7ffffffc},
		{"div.s32 %r9, %r0, %r1;", in(0x80000000, 0xffffffff), 0x80000000},
		{"rem.s32 %r9, %r0, %r1;", in(0xfffffff9, 2), 0xffffffff},
		{"rem.u32 %r9, %r0, %r1;", in(17, 5), 2},
		{"rem.s64 %d9, %d0, %d1;", in(1<<63, ^uint64(0)), 0},
		{"div.s64 %d9, %d0, %d1;", in(^uint64(6), 2), ^uint64(2)},
		{"abs.s32 %r9, %r0;", in(0xfffffff6), 10},
		{"abs.s64 %d9, %d0;", in(^uint64(9)), 10},
		{"neg.s32 %r9, %r0;", in(10), 0xfffffff6},
		{"min.s32 %r9, %r0, %r1;", in(0xffffffff, 1), 0xffffffff},
		{"min.u32 %r9, %r0, %r1;", in(0xffffffff, 1), 1},
		{"max.s32 %r9, %r0, %r1;", in(0xffffffff, 1), 1},
		{"max.s64 %d9, %d0, %d1;", in(^uint64(0), 1), 1},
		{"max.u64 %d9, %d0, %d1;", in(^uint64(0), 1), ^uint64(0)},
		{"min.s16 %h9, %h0, %h1;", in(0x8000, 1), 0x8000},
		{"max.u32 %r9, %r0, %r1;", in(0xffffffff, 1), 0xffffffff},
		{"sub.s32 %r9, %r0, %r1;", in(0x80000000, 1), 0x7fffffff},
		{"mul.lo.s32 %r9, %r0, %r1;", in(0xffffffff, 7), 0xfffffff9},
		{"mul.lo.s64 %d9, %d0, %d1;", in(^uint64(0), 1<<40), -1 << 40 & (1<<64 - 1)},

		// Bits.
		{"and.b32 %r9, %r0, %r1;", in(0xff00ff00, 0x0ff00ff0), 0x0f000f00},
		{"and.b64 %d9, %d0, %d1;", in(3<<62|5, 1<<63|4), 1<<63 | 4},
		{"xor.b64 %d9, %d0, %d1;", in(3<<62|5, 1<<63|4), 1<<62 | 1},
		{"shl.b64 %d9, %d0, %r1;", in(3, 63), 1 << 63},
		{"shl.b64 %d9, %d0, %r1;", in(3, 64), 0},
		{"or.b32 %r9, %r0, %r1;", in(0xff00ff00, 0x0ff00ff0), 0xfff0fff0},
		{"not.b32 %r9, %r0;", in(0xff), 0xffffff00},
		{"or.b64 %d9, %d0, %d1;", in(1<<63, 1), 1<<63 | 1},
		{"xor.b32 %r9, %r0, %r1;", in(0xffff0000, 0xff00ff00), 0x00ffff00},
		{"not.b16 %h9, %h0;", in(0xff), 0xff00},
		{"cnot.b32 %r9, %r0;", in(0), 1},
		{"shl.b32 %r9, %r0, %r1;", in(1, 31), 1 << 31},
		{"shl.b32 %r9, %r0, %r1;", in(1, 32), 0},
		{"shr.u32 %r9, %r0, %r1;", in(1<<31, 40), 0},
		{"shr.s32 %r9, %r0, %r1;", in(1<<31, 40), 0xffffffff},
		{"shr.s64 %d9, %d0, %r1;", in(1<<63, 70), ^uint64(0)},
		{"shr.u64 %d9, %d0, %r1;", in(1<<63, 63), 1},
		{"shr.s16 %h9, %h0, %r1;", in(0x8000, 4), 0xf800},
		{"shf.l.wrap.b32 %r9, %r0, %r1, %r2;", in(0x80000001, 0x1, 33), 3},
		{"shf.r.wrap.b32 %r9, %r0, %r1, %r2;", in(0x80000001, 0x1, 1), 0xc0000000},
		{"shf.l.clamp.b32 %r9, %r0, %r1, %r2;", in(0x12345678, 1, 40), 0x12345678},
		{"prmt.b32 %r9, %r0, %r1, %r2;", in(0x33221100, 0x77665544, 0x7531), 0x77553311},
		{"prmt.b32 %r9, %r0, %r1, %r2;", in(0x00000080, 0, 0x4448), 0x000000ff},
		{"lop3.b32 %r9, %r0, %r1, %r2, 0x96;", in(0xf0f0, 0xcccc, 0xaaaa), 0xf0f0 ^ 0xcccc ^ 0xaaaa},
		{"lop3.b32 %r9, %r0, %r1, %r2, 0xe8;", in(0xf0, 0xcc, 0xaa), 0xe8},
		{"bfe.u32 %r9, %r0, 8, 8;", in(0x12f45678), 0x56},
		{"bfe.s32 %r9, %r0, 16, 8;", in(0x12f45678), 0xfffffff4},
		{"bfe.s32 %r9, %r0, 28, 8;", in(0x82345678), 0xfffffff8},
		{"bfe.s32 %r9, %r0, 40, 4;", in(0x80000000), 0xffffffff},
		{"bfe.u32 %r9, %r0, 0, 0;", in(0xffffffff), 0},
		{"bfe.u64 %d9, %d0, 60, 8;", in(0xa << 60), 0xa},
		{"bfi.b32 %r9, %r0, %r1, 8, 4;", in(0xf, 0xffff0000), 0xffff0f00},
		{"bfi.b64 %d9, %d0, %d1, 32, 32;", in(7, 5), 7<<32 | 5},
		{"popc.b32 %r9, %r0;", in(0xf000000f), 8},
		{"popc.b64 %r9, %d0;", in(^uint64(0)), 64},
		{"clz.b32 %r9, %r0;", in(1), 31},
		{"clz.b64 %r9, %d0;", in(0), 64},
		{"bfind.u32 %r9, %r0;", in(0), 0xffffffff},
		{"bfind.s32 %r9, %r0;", in(0xfffffff0), 3},
		{"brev.b32 %r9, %r0;", in(1), 1 << 31},
		{"mov.b64 %d9, {%r0, %r1};", in(1, 2), 2<<32 | 1},
		{"mov.u32 %r9, %r0;", in(1<<32 | 7), 7},
		{"mov.f32 %r9, %r0;", in(0x7f800001), 0x7f800001},
		{"mov.u64 %d9, %d0;", in(1<<32 | 7), 1<<32 | 7},
		{"mov.f64 %d9, %d0;", in(f64(-0.1)), f64(-0.1)},
		{"mov.f64 %d9, 0d3FF8000000000000;", nil, f64(1.5)},
		{"cvta.to.global.u64 %d9, %d0;", in(1<<40 | 8), 1<<40 | 8},
		{"cvt.u32.u64 %r9, %d0;", in(1<<32 | 7), 7},
		{"add.s64 %d9, %d0, %d1;", in(1<<63, 1<<63|1), 1},
		// The word that a row writes its result to is 0 before.
		{"atom.global.max.u32 %r9, [%out], %r0;", in(7), 0},
		{"{atom.global.max.u32 %r8, [%out], %r0; atom.global.max.u32 %r8, [%out], %r1; ld.global.u32 %r9, [%out];}", in(0x80000000, 9), 0x80000000},
		{"{ .reg .b16 %r0; mov.b32 {%r0, %h9}, %r1; }", in(0, 0x00030004), 3},

		// Comparisons.
		{"setp.lt.s32 %p9, %r0, %r1;", in(0xffffffff, 0), 1},
		{"setp.lt.u32 %p9, %r0, %r1;", in(0xffffffff, 0), 0},
		{"setp.lo.s32 %p9, %r0, %r1;", in(0xffffffff, 0), 0},
		{"setp.ge.s64 %p9, %d0, %d1;", in(^uint64(0), 0), 0},
		{"setp.eq.s64 %p9, %d0, %d1;", in(1<<32, 0), 0},
		{"setp.ne.s64 %p9, %d0, %d1;", in(1<<32, 0), 1},
		{"setp.gt.s64 %p9, %d0, %d1;", in(^uint64(0), 0), 0},
		{"setp.lt.s64 %p9, %d0, %d1;", in(^uint64(0), 1<<40), 1},
		{"setp.le.s64 %p9, %d0, %d1;", in(1<<63, 1<<63), 1},
		{"setp.eq.s32 %p9, %r0, %r1;", in(5, 1<<32|5), 1},
		{"setp.eq.b32 %p9, %r0, %r1;", in(neg32, 0), 0},
		{"setp.ne.s32 %p9, %r0, %r1;", in(neg32, 0), 1},
		{"setp.ne.u32 %p9, %r0, %r1;", in(neg32, neg32), 0},
		{"setp.gt.s32 %p9, %r0, %r1;", in(0xffffffff, 0), 0},
		{"setp.gt.u32 %p9, %r0, %r1;", in(0xffffffff, 0), 1},
		{"setp.ge.s32 %p9, %r0, %r1;", in(0x80000000, 0x7fffffff), 0},
		{"setp.ge.u32 %p9, %r0, %r1;", in(0x80000000, 0x7fffffff), 1},
		{"setp.le.s32 %p9, %r0, %r1;", in(0xfffffffe, 0xffffffff), 1},
		{"setp.lt.f32 %p9, %r0, %r1;", in(nan32, inf32), 0},
		{"setp.lt.f32 %p9, %r0, %r1;", in(neg32|tiny32, 0), 1},
		{"setp.eq.f32 %p9, %r0, %r1;", in(0, neg32), 1},
		{"setp.eq.f32 %p9, %r0, %r1;", in(nan32, nan32), 0},
		{"setp.ne.f32 %p9, %r0, %r1;", in(nan32, one), 0},
		{"setp.neu.f32 %p9, %r0, %r1;", in(nan32, one), 1},
		{"setp.gtu.f32 %p9, %r0, %r1;", in(nan32, one), 1},
		{"setp.nan.f32 %p9, %r0, %r1;", in(nan32, one), 1},
		{"setp.num.f32 %p9, %r0, %r1;", in(two, one), 1},
		{"setp.gt.f32 %p9, %r0, %r1;", in(tiny32, 0), 1},
		{"setp.gt.ftz.f32 %p9, %r0, %r1;", in(tiny32, 0), 0},
		{"setp.lt.and.s32 %p9, %r0, %r1, %p2;", in(1, 2, 0), 0},
		{"setp.lt.or.s32 %p9, %r0, %r1, !%p2;", in(3, 2, 0), 1},
		{"setp.lt.xor.s32 %p9|%p8, %r0, %r1, %p2;", in(1, 2, 1), 0},
		{"setp.lt.s32 %p8|%p9, %r0, %r1;", in(1, 2), 0},
		{"selp.b32 %r9, %r0, %r1, %p2;", in(5, 6, 1), 5},
		{"selp.f64 %d9, %d0, %d1, %p2;", in(5, 6, 0), 6},
		{"selp.f32 %r9, %r0, %r1, %p2;", in(nan32, one, 1), nan32},
		{"selp.u32 %r9, %r0, %r1, %p2;", in(5, 6, 0), 6},
		{"bar.red.or.pred %p9, 0, %p0;", in(1), 1},
		{"bar.red.or.pred %p9, 0, !%p0;", in(1), 0},
		{"and.pred %p9, %p0, %p1;", in(1, 0), 0},
		{"or.pred %p9, %p0, %p1;", in(1, 0), 1},
		{"or.pred %p9, %p0, %p1;", in(0, 0), 0},
		{"xor.pred %p9, %p0, %p1;", in(1, 0), 1},
		{"not.pred %p9, %p0;", in(0), 1},
		{"mov.pred %p9, -1;", nil, 1},

		// float32: rounding, denormals, infinities.
		{"add.f32 %r9, %r0, %r1;", in(big24, one), big24},
		{"add.rz.f32 %r9, %r0, %r1;", in(big24, three), 0x4b800001},
		{"add.rn.f32 %r9, %r0, %r1;", in(big24, three), 0x4b800002},
		{"add.rp.f32 %r9, %r0, %r1;", in(big24, one), 0x4b800001},
		{"add.rm.f32 %r9, %r0, %r1;", in(big24|neg32, one|neg32), 0xcb800001},
		{"add.rm.f32 %r9, %r0, %r1;", in(one, one|neg32), neg32},
		{"add.rn.f32 %r9, %r0, %r1;", in(one, one|neg32), 0},
		{"add.f32 %r9, %r0, %r1;", in(neg32, neg32), neg32},
		{"add.f32 %r9, %r0, %r1;", in(inf32, inf32|neg32), nan32},
		{"add.f32 %r9, %r0, %r1;", in(tiny32, tiny32), 2},
		{"add.ftz.f32 %r9, %r0, %r1;", in(tiny32, tiny32), 0},
		{"add.sat.f32 %r9, %r0, %r1;", in(one, one), one},
		{"add.sat.f32 %r9, %r0, %r1;", in(nan32, one), 0},
		{"add.rz.f32 %r9, %r0, %r1;", in(0x7f7fffff, 0x7f7fffff), 0x7f7fffff},
		{"add.rn.f32 %r9, %r0, %r1;", in(0x7f7fffff, 0x7f7fffff), inf32},
		{"sub.f32 %r9, %r0, %r1;", in(one, half), half},
		{"mul.f32 %r9, %r0, %r1;", in(0x00800000, half), 0x00400000},
		{"mul.ftz.f32 %r9, %r0, %r1;", in(0x00800000, half), 0},
		{"mul.rz.f32 %r9, %r0, %r1;", in(0x3f800001, 0x3f800001), 0x3f800002},
		{"mul.rp.f32 %r9, %r0, %r1;", in(0x3f800001, 0x3f800001), 0x3f800003},
		{"mul.f32 %r9, %r0, %r1;", in(0, inf32), nan32},
		{"fma.rn.f32 %r9, %r0, %r1, %r2;", in(0x3f800001, 0x3f800001, 0xbf800002), 0x28800000},
		{"fma.rn.f32 %r9, %r0, %r1, %r2;", in(0x3f800001, 0x3f800001, 0x80000000), 0x3f800002},
		{"fma.rn.f32 %r9, %r0, %r1, %r2;", in(tiny32, half, 0), 0},
		{"fma.rn.f32 %r9, %r0, %r1, %r2;", in(3, half, 0), 2},
		{"fma.rp.f32 %r9, %r0, %r1, %r2;", in(tiny32, half, 0), 1},
		// The sum lies just above a tie that float64 cannot tell from the tie.
		{"fma.rn.f32 %r9, %r0, %r1, %r2;", in(f32(0x1p-40), f32(0x1p-40), 0x3f800000), 0x3f800000},
		{"fma.rn.f32 %r9, %r0, %r1, %r2;", in(0x3f800001, f32(1+0x1p-1), f32(0x1p-70)), 0x3fc00002},
		{"fma.rn.f32 %r9, %r0, %r1, %r2;", in(0x3f800001, f32(1+0x1p-1), f32(-0x1p-70)), 0x3fc00001},
		{"neg.f32 %r9, %r0;", in(0), neg32},
		{"abs.f32 %r9, %r0;", in(neg32 | one), one},
		{"min.f32 %r9, %r0, %r1;", in(nan32, one), one},
		{"max.f32 %r9, %r0, %r1;", in(one, nan32), one},
		{"max.NaN.f32 %r9, %r0, %r1;", in(one, nan32), nan32},
		{"min.f32 %r9, %r0, %r1;", in(0, neg32), neg32},
		{"max.f32 %r9, %r0, %r1;", in(neg32, 0), 0},
		{"copysign.f32 %r9, %r0, %r1;", in(neg32, one), neg32 | one},
		{"div.rn.f32 %r9, %r0, %r1;", in(one, three), 0x3eaaaaab},
		{"div.rz.f32 %r9, %r0, %r1;", in(one, three), 0x3eaaaaaa},
		{"div.rn.f32 %r9, %r0, %r1;", in(3, two), 2},
		{"div.rn.f32 %r9, %r0, %r1;", in(one, 0), inf32},
		{"div.rn.f32 %r9, %r0, %r1;", in(0, 0), nan32},
		{"rcp.rn.f32 %r9, %r0;", in(three), 0x3eaaaaab},
		{"rcp.rm.f32 %r9, %r0;", in(three), 0x3eaaaaaa},
		{"sqrt.rn.f32 %r9, %r0;", in(two), 0x3fb504f3},
		{"sqrt.rp.f32 %r9, %r0;", in(two), 0x3fb504f4},
		{"sqrt.rn.f32 %r9, %r0;", in(neg32), neg32},
		{"sqrt.rn.f32 %r9, %r0;", in(one | neg32), nan32},
		{"rcp.approx.f32 %r9, %r0;", in(inf32), 0},
		{"rcp.approx.ftz.f32 %r9, %r0;", in(tiny32), inf32},
		{"ex2.approx.f32 %r9, %r0;", in(f32(-149)), tiny32},
		{"ex2.approx.ftz.f32 %r9, %r0;", in(f32(-149)), 0},
		{"ex2.approx.f32 %r9, %r0;", in(inf32 | neg32), 0},
		{"lg2.approx.f32 %r9, %r0;", in(f32(8)), three},
		{"lg2.approx.f32 %r9, %r0;", in(0), inf32 | neg32},
		{"rsqrt.approx.f32 %r9, %r0;", in(f32(4)), half},
		{"rsqrt.approx.f32 %r9, %r0;", in(0), inf32},
		{"tanh.approx.f32 %r9, %r0;", in(inf32), one},
		{"sin.approx.f32 %r9, %r0;", in(0), 0},
		{"div.approx.f32 %r9, %r0, %r1;", in(one, f32(0x1p127)), 0},
		{"div.full.f32 %r9, %r0, %r1;", in(one, f32(0x1p126)), f32(0x1p-126)},

		// float64.
		{"add.f64 %d9, %d0, %d1;", in(f64(1<<53), f64(1)), f64(1 << 53)},
		{"fma.rn.f64 %d9, %d0, %d1, %d2;", in(f64(1+0x1p-52), f64(1+0x1p-52), f64(-1-0x1p-51)), f64(0x1p-104)},
		{"sqrt.rn.f64 %d9, %d0;", in(f64(2)), f64(math.Sqrt2)},
		{"max.f64 %d9, %d0, %d1;", in(math.Float64bits(math.NaN()), f64(1)), f64(1)},

		// fp16 and bf16.
		{"add.f16 %h9, %h0, %h1;", in(0x6800, 0x3c00), 0x6800},
		{"fma.rn.f16 %h9, %h0, %h1, %h2;", in(0x3c01, 0x3c01, 0xbc02), 0x0010},
		{"fma.rn.f16x2 %r9, %r0, %r1, %r2;", in(0x3c004000, 0x40004000, 0x3c000000), 0x42004400},
		{"mul.bf16x2 %r9, %r0, %r1;", in(0x3f804000, 0x40004000), 0x40004080},
		{"add.f16x2 %r9, %r0, %r1;", in(0x7bff3c00, 0x7bff3c00), 0x7c004000},
		{"min.f16 %h9, %h0, %h1;", in(0x7e00, 0x3c00), 0x3c00},
		{"neg.f16 %h9, %h0;", in(0x3c00), 0xbc00},

		// Conversions.
		{"cvt.rn.f32.s32 %r9, %r0;", in(0x7fffffff), f32(1 << 31)},
		{"cvt.rz.f32.s32 %r9, %r0;", in(0x7fffffff), 0x4effffff},
		{"cvt.rn.f32.u32 %r9, %r0;", in(0xffffffff), f32(1 << 32)},
		{"cvt.rn.f32.u64 %r9, %d0;", in(1<<60 + 1<<36 + 1), 0x5d800001},
		{"cvt.rp.f32.s64 %r9, %d0;", in(1<<60 + 1), 0x5d800001},
		{"cvt.rzi.s32.f32 %r9, %r0;", in(f32(-1.5)), 0xffffffff},
		{"cvt.rni.s32.f32 %r9, %r0;", in(f32(2.5)), 2},
		{"cvt.rmi.s32.f32 %r9, %r0;", in(f32(-1.5)), 0xfffffffe},
		{"cvt.rpi.s32.f32 %r9, %r0;", in(f32(1.25)), 2},
		{"cvt.rzi.s32.f32 %r9, %r0;", in(f32(1e20)), 0x7fffffff},
		{"cvt.rzi.s32.f32 %r9, %r0;", in(nan32), 0},
		{"cvt.rzi.u32.f32 %r9, %r0;", in(f32(-5)), 0},
		{"cvt.rzi.u64.f32 %d9, %r0;", in(f32(0x1p40)), 1 << 40},
		{"cvt.rni.f32.f32 %r9, %r0;", in(f32(3.5)), f32(4)},
		{"cvt.rmi.f32.f32 %r9, %r0;", in(f32(-0.5)), f32(-1)},
		{"cvt.sat.f32.f32 %r9, %r0;", in(f32(7)), one},
		{"cvt.sat.f32.f32 %r9, %r0;", in(nan32), 0},
		{"cvt.ftz.f32.f32 %r9, %r0;", in(neg32 | 5), neg32},
		{"cvt.rn.f32.f64 %r9, %d0;", in(f64(1 + 0x1p-24)), one},
		{"cvt.rp.f32.f64 %r9, %d0;", in(f64(1 + 0x1p-24)), 0x3f800001},
		{"cvt.f64.f32 %d9, %r0;", in(tiny32), f64(0x1p-149)},
		{"cvt.rn.f16.f32 %h9, %r0;", in(f32(65520)), 0x7c00},
		{"cvt.rz.f16.f32 %h9, %r0;", in(f32(65520)), 0x7bff},
		{"cvt.rn.f16.f32 %h9, %r0;", in(f32(0x1p-24)), 1},
		{"cvt.rn.f16.f32 %h9, %r0;", in(f32(0x1p-25)), 0},
		{"cvt.rn.f16.f32 %h9, %r0;", in(f32(0x1.8p-25)), 1},
		{"cvt.rn.f16.f32 %h9, %r0;", in(f32(1 + 0x1p-11)), 0x3c00},
		{"cvt.rn.f16.f32 %h9, %r0;", in(f32(1 + 0x3p-11)), 0x3c02},
		{"cvt.f32.f16 %r9, %h0;", in(0x8001), f32(-0x1p-24)},
		{"cvt.f32.f16 %r9, %h0;", in(0xfc00), inf32 | neg32},
		{"cvt.f32.f16 %r9, %h0;", in(0x3555), f32(0.333251953125)},
		{"cvt.rn.bf16.f32 %h9, %r0;", in(0x3f808000), 0x3f80},
		{"cvt.rn.bf16.f32 %h9, %r0;", in(0x3f818000), 0x3f82},
		{"cvt.rn.relu.bf16.f32 %h9, %r0;", in(0xbf800000), 0},
		{"cvt.rn.bf16x2.f32 %r9, %r0, %r1;", in(one, two), 0x3f804000},
		{"cvt.rn.f16x2.f32 %r9, %r0, %r1;", in(one, two), 0x3c004000},
		{"cvt.rz.bf16x2.f32 %r9, %r0, %r1;", in(0x3f80ffff, 0x7f7fffff), 0x3f807f7f},
		{"cvt.rna.tf32.f32 %r9, %r0;", in(0x3f801000), 0x3f802000},
		{"cvt.s32.s8 %r9, %r0;", in(0x80), 0xffffff80},
		{"cvt.u32.u8 %r9, %r0;", in(0x180), 0x80},
		{"cvt.s64.s32 %d9, %r0;", in(0x80000000), 0xffffffff80000000},
		{"cvt.u64.u32 %d9, %r0;", in(0x80000000), 0x80000000},
		{"cvt.u16.u32 %h9, %r0;", in(0x12345), 0x2345},
		{"cvt.sat.u8.s32 %r9, %r0;", in(0xffffffff), 0},
		{"cvt.sat.s8.s32 %r9, %r0;", in(300), 127},
		{"cvt.rn.f32.s16 %r9, %h0;", in(0xffff), f32(-1)},
		{"cvt.rn.f16.s32 %h9, %r0;", in(3), 0x4200},
	}
}

func TestKnownResults(t *testing.T) {
	rows := table()
	for i, got := range evaluate(t, Config{}, rows) {
		if r := rows[i]; got != r.want {
			t.Errorf("%s of %#x = %#x, want %#x", r.code, r.in, got, r.want)
		}
	}
}

// TestRounding compares arithmetic of random float32 with math/big, which knows nothing of float64.
func TestRounding(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 0))
	value := func() float32 { // of all sizes, with few bits now and then so that ties appear
		v := math.Float32frombits(random.Uint32()&0x807fffff | uint32(random.IntN(60)+97)<<23)
		if random.IntN(2) == 0 {
			v = math.Float32frombits(math.Float32bits(v) &^ (1<<random.IntN(23) - 1))
		}
		return v
	}
	modes := map[string]big.RoundingMode{"rn": big.ToNearestEven, "rz": big.ToZero, "rm": big.ToNegativeInf, "rp": big.ToPositiveInf}
	var rows []row
	for name, mode := range modes {
		round := func(x *big.Float) uint64 {
			r, _ := new(big.Float).SetPrec(24).SetMode(mode).Set(x).Float32()
			return uint64(math.Float32bits(r))
		}
		exact := func(v float32) *big.Float { return new(big.Float).SetPrec(2000).SetFloat64(float64(v)) }
		for range 150 {
			a, b, c := value(), value(), value()
			args := in(uint64(math.Float32bits(a)), uint64(math.Float32bits(b)), uint64(math.Float32bits(c)))
			sum := new(big.Float).Add(exact(a), exact(b))
			product := new(big.Float).Mul(exact(a), exact(b))
			fused := new(big.Float).Add(product, exact(c))
			if sum.Sign() == 0 || fused.Sign() == 0 {
				continue
			}
			root := new(big.Float).Sqrt(new(big.Float).Abs(exact(a)))
			rows = append(rows,
				row{"add." + name + ".f32 %r9, %r0, %r1;", args, round(sum)},
				row{"mul." + name + ".f32 %r9, %r0, %r1;", args, round(product)},
				row{"fma." + name + ".f32 %r9, %r0, %r1, %r2;", args, round(fused)},
				row{"div." + name + ".f32 %r9, %r0, %r1;", args, round(new(big.Float).Quo(exact(a), exact(b)))},
				row{"{abs.f32 %r0, %r0; sqrt." + name + ".f32 %r9, %r0;}", args, round(root)})
		}
	}
	for i, got := range evaluate(t, Config{}, rows) {
		if r := rows[i]; got != r.want {
			t.Errorf("seed %d: %s of %#x = %#x, want %#x", seed, r.code, r.in, got, r.want)
		}
	}
}
