// What a product does before it stores its result: the epilogue of compute.MatMul, on W = 2 or 4 neighbours of a row.
#pragma once
#include "common.cuh"

// Flags: what the epilogue does, and which operands may be read by 16 bytes (base and rows aligned to that).
enum { ACCUMULATE = 1, GELU = 2, WIDE_A = 4, WIDE_B = 8, WIDE_C = 16 };

// fetch4 reads 4 neighbours of which count exist; the others are 0.
__device__ inline float4 fetch4(const float *p, int count, bool wide) {
	float4 x = {0, 0, 0, 0};
	if (wide) { // groups are whole or beyond the row
		if (count > 0) x = *(const float4 *)p;
		return x;
	}
	if (count > 0) x.x = p[0];
	if (count > 1) x.y = p[1];
	if (count > 2) x.z = p[2];
	if (count > 3) x.w = p[3];
	return x;
}

// addTo adds W neighbours of which count exist.
template <int W>
__device__ inline void addTo(float *x, const float *p, int count, bool wide) {
	if (wide) {
		if (count <= 0) return;
		if (W == 4) {
			float4 y = *(const float4 *)p;
			x[0] += y.x, x[1] += y.y, x[W - 2] += y.z, x[W - 1] += y.w;
		} else {
			float2 y = *(const float2 *)p;
			x[0] += y.x, x[1] += y.y;
		}
		return;
	}
#pragma unroll
	for (int e = 0; e < W; e++)
		if (e < count) x[e] += p[e];
}

template <int W>
__device__ inline void store(float *p, const float *x, int count, bool wide) {
	if (wide && count >= W) {
		if (W == 4) put4(p, x[0], x[1], x[W - 2], x[W - 1]);
		if (W == 2) put2(p, x[0], x[1]);
		return;
	}
#pragma unroll
	for (int e = 0; e < W; e++)
		if (e < count) p[e] = x[e];
}

// finish is the epilogue of W neighbours, of which count exist, at place at of C and in a column.
template <int W>
__device__ inline void finish(float *x, i64 at, int column, int count, float *c, const float *bias, float *pre, const float *residual, int flags) {
	bool wide = flags & WIDE_C;
	if (flags & ACCUMULATE) addTo<W>(x, c + at, count, wide);
	if (bias) addTo<W>(x, bias + column, count, wide);
	if (pre) store<W>(pre + at, x, count, wide);
	if (flags & GELU) {
#pragma unroll
		for (int e = 0; e < W; e++) x[e] = gelu(x[e]);
	}
	if (residual) addTo<W>(x, residual + at, count, wide);
	store<W>(c + at, x, count, wide);
}
