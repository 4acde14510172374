// What the kernels share. No source includes anything of a toolkit: NVRTC compiles them alone.
#pragma once

typedef long long i64;

#define KERNEL extern "C" __global__ void

#define INFINITY_F __int_as_float(0x7f800000)
#define EVERY_LANE 0xffffffffu

// ownIndex is the value that belongs to the thread: neighbours to neighbouring lanes.
__device__ inline i64 ownIndex() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

#define LOG2E 1.4426950408889634f

// exp2Fast is 2^x in one instruction, with at most 2 ulp of error.
__device__ inline float exp2Fast(float x) {
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// reciprocal is 1/x in one instruction, with at most 1 ulp of error; of infinity it is 0.
__device__ inline float reciprocal(float x) {
	float y;
	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// logistic is 1/(1 + exp(-x)).
__device__ inline float logistic(float x) { return reciprocal(1.0f + exp2Fast(-LOG2E * x)); }

// geluArgument is 2·√(2/π)·(x + 0.044715·x³), twice what gelu takes the hyperbolic tangent of.
__device__ inline float geluArgument(float x) { return 1.5957691216057308f * x * (1.0f + 0.044715f * x * x); }

// gelu: x/2·(1 + tanh(u)) is x·logistic(2u), which does not cancel for negative x.
__device__ inline float gelu(float x) { return x * logistic(geluArgument(x)); }

// exact is e^x for |x| ≤ 80 within 1 ulp: x = n·ln 2 + r, a polynomial in r, and n added to the exponent.
__device__ inline float exact(float x) {
	float n = rintf(x * LOG2E), r = fmaf(n, -0.693359375f, x);
	r = fmaf(n, 2.12194440e-4f, r);
	float y = 1.0f / 5040;
	y = fmaf(y, r, 1.0f / 720);
	y = fmaf(y, r, 1.0f / 120);
	y = fmaf(y, r, 1.0f / 24);
	y = fmaf(y, r, 1.0f / 6);
	y = fmaf(y, r, 0.5f);
	y = fmaf(y, r, 1.0f);
	y = fmaf(y, r, 1.0f);
	return __int_as_float(__float_as_int(y) + ((int)n << 23));
}

// geluSlope is gelu'(x), whose two terms multiply the errors of logistic by up to 5, so that it wants a better one. Beyond ±7
// the slope is 1 or 0 within 3e-14, and the exponential would leave its range.
__device__ inline float geluSlope(float x) {
	x = fminf(fmaxf(x, -7.0f), 7.0f);
	float s = 1.0f / (1.0f + exact(-geluArgument(x)));
	return s + x * s * (1.0f - s) * 1.5957691216057308f * (1.0f + 3.0f * 0.044715f * x * x);
}

// warpSum adds a value of every lane and returns the same sum to all: always in the same order, as a tree.
__device__ inline float warpSum(float x) {
#pragma unroll
	for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(EVERY_LANE, x, other);
	return x;
}

__device__ inline float warpMax(float x) {
#pragma unroll
	for (int other = 16; other > 0; other /= 2) x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, other));
	return x;
}

// put2 and put4 write neighbours at once. Written out, because NVRTC otherwise splits the store where another branch writes
// them one by one.
__device__ inline void put2(float *p, float a, float b) {
	asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(p)), "f"(a), "f"(b) : "memory");
}

__device__ inline void put4(float *p, float a, float b, float c, float d) {
	asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}
