// Compiled for sm_61, PTX 6.0.
//
// Operations whose value i depends on the operands' values i. They are bound by memory: a thread takes 4 values that lie 256
// apart, so that a warp reads 128 bytes side by side and has 4 reads of each operand under way. All are read before any is
// written: the result may be an operand.
#include "common.cuh"

const int PART = 4, THREADS = 256;

__device__ inline i64 firstValue() { return (i64)blockIdx.x * PART * THREADS + threadIdx.x; }

__device__ inline void take(float (&x)[PART], const float *p, i64 first, i64 n) {
#pragma unroll
	for (int e = 0; e < PART; e++) x[e] = first + e * THREADS < n ? p[first + e * THREADS] : 0;
}

__device__ inline void give(float *p, float (&x)[PART], i64 first, i64 n) {
#pragma unroll
	for (int e = 0; e < PART; e++)
		if (first + e * THREADS < n) p[first + e * THREADS] = x[e];
}

KERNEL add(float *dst, const float *a, const float *b, i64 n) {
	float x[PART], y[PART];
	i64 i = firstValue();
	take(x, a, i, n);
	take(y, b, i, n);
#pragma unroll
	for (int e = 0; e < PART; e++) x[e] += y[e];
	give(dst, x, i, n);
}

KERNEL scale(float *p, float s, i64 n) {
	float x[PART];
	i64 i = firstValue();
	take(x, p, i, n);
#pragma unroll
	for (int e = 0; e < PART; e++) x[e] *= s;
	give(p, x, i, n);
}

KERNEL combine(float *dst, float s, const float *a, float t, const float *b, i64 n) {
	float x[PART], y[PART];
	i64 i = firstValue();
	take(x, a, i, n);
	take(y, b, i, n);
#pragma unroll
	for (int e = 0; e < PART; e++) x[e] = fmaf(s, x[e], t * y[e]);
	give(dst, x, i, n);
}

KERNEL gelu_forward(float *dst, const float *p, i64 n) {
	float x[PART];
	i64 i = firstValue();
	take(x, p, i, n);
#pragma unroll
	for (int e = 0; e < PART; e++) x[e] = gelu(x[e]);
	give(dst, x, i, n);
}

KERNEL gelu_grad(float *dx, const float *dy, const float *p, i64 n) {
	float x[PART], y[PART];
	i64 i = firstValue();
	take(x, p, i, n);
	take(y, dy, i, n);
#pragma unroll
	for (int e = 0; e < PART; e++) x[e] = y[e] * geluSlope(x[e]);
	give(dx, x, i, n);
}

// swiglu: row r of gateUp [rows,2n] is n gates and then n values. Block y is the row, so that no lane divides.
KERNEL swiglu(float *y, const float *gateUp, int rows, int n) {
	for (i64 r = blockIdx.y; r < rows; r += gridDim.y) {
		const float *gate = gateUp + 2 * r * n, *up = gate + n;
		for (int j = blockIdx.x * blockDim.x + threadIdx.x; j < n; j += gridDim.x * blockDim.x) {
			float g = gate[j];
			y[r * n + j] = g * logistic(g) * up[j];
		}
	}
}

// swiglu_grad: silu'(g) = σ + g·σ·(1-σ). Each lane reads all it needs before it writes: dgateUp may be gateUp.
KERNEL swiglu_grad(float *dgateUp, const float *dy, const float *gateUp, int rows, int n) {
	for (i64 r = blockIdx.y; r < rows; r += gridDim.y) {
		const float *gate = gateUp + 2 * r * n, *up = gate + n;
		float *dgate = dgateUp + 2 * r * n, *dup = dgate + n;
		for (int j = blockIdx.x * blockDim.x + threadIdx.x; j < n; j += gridDim.x * blockDim.x) {
			float g = gate[j], d = dy[r * n + j], u = up[j];
			float s = logistic(g), silu = g * s;
			dgate[j] = d * u * (s + silu * (1.0f - s));
			dup[j] = d * silu;
		}
	}
}

// rotary turns the points (x[i], x[i + half]) of each head. Block y is a row of x [rows,stride], rows = B·T; a row's
// position is from + row % positions. sign is -1 for the gradient.
KERNEL rotary(float *x, const float *table, int rows, int positions, int from, int heads, int half, int stride, float sign) {
	for (i64 r = blockIdx.y; r < rows; r += gridDim.y) {
		const float *cosine = table + (from + r % positions) * 2 * half, *sine = cosine + half;
		float *row = x + r * stride;
		for (int j = blockIdx.x * blockDim.x + threadIdx.x; j < heads * half; j += gridDim.x * blockDim.x) {
			int i = j % half;
			float *low = row + (j / half) * 2 * half + i;
			float a = low[0], b = low[half], c = cosine[i], s = sine[i] * sign;
			low[0] = a * c - b * s;
			low[half] = b * c + a * s;
		}
	}
}

// rangeAt is the first of count ascending, disjoint ranges {from, to} that ends after value i, or count.
__device__ inline int rangeAt(i64 i, const i64 *ranges, int count) {
	int low = 0;
	for (int high = count; low < high;) {
		int middle = (low + high) / 2;
		if (ranges[2 * middle + 1] <= i) low = middle + 1; else high = middle;
	}
	return low;
}

// adamw steps all tensors of a flat buffer at once, of which these n values are a piece that begins at value from; the
// scalars are those of compute.AdamWScalars. ranges are the values that decay.
KERNEL adamw(float *params, const float *grads, float *ms, float *vs, const i64 *ranges, int count, float beta1, float oneMinusBeta1,
	float beta2, float oneMinusBeta2, float eps, float gradScale, float stepSize, float inverseRoot2, float keep, i64 from, i64 n) {
	float p[PART], g[PART], m[PART], v[PART];
	i64 i = firstValue();
	take(p, params, i, n);
	take(g, grads, i, n);
	take(m, ms, i, n);
	take(v, vs, i, n);
	int range = rangeAt(from + i, ranges, count); // the others are not far
#pragma unroll
	for (int e = 0; e < PART; e++) {
		i64 at = from + i + e * THREADS;
		while (range < count && ranges[2 * range + 1] <= at) range++;
		if (range < count && ranges[2 * range] <= at) p[e] *= keep;
		float scaled = g[e] * gradScale;
		m[e] = beta1 * m[e] + oneMinusBeta1 * scaled;
		v[e] = beta2 * v[e] + oneMinusBeta2 * scaled * scaled;
		p[e] -= stepSize * m[e] / (sqrtf(v[e]) * inverseRoot2 + eps);
	}
	give(params, p, i, n);
	give(ms, m, i, n);
	give(vs, v, i, n);
}

// sum_squares is the first stage of a sum: a lane adds 64 squares in float32, 256 lanes of a block their sums in float64,
// as a tree. Block b leaves the sum of values [b·16384, (b+1)·16384).
KERNEL sum_squares(double *partial, const float *x, i64 n) {
	__shared__ double sums[256];
	i64 first = (i64)blockIdx.x * 16384 + threadIdx.x;
	float sum = 0;
	for (int k = 0; k < 64; k++) {
		i64 i = first + k * 256;
		if (i < n) sum = fmaf(x[i], x[i], sum);
	}
	sums[threadIdx.x] = sum;
	__syncthreads();
	for (int half = 128; half > 0; half /= 2) {
		if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
		__syncthreads();
	}
	if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

// sum_partial is the second stage, one block of 256: lane t adds every 256th partial sum from t on, then the tree.
KERNEL sum_partial(double *total, const double *partial, int n) {
	__shared__ double sums[256];
	double sum = 0;
#pragma unroll 1
	for (int i = threadIdx.x; i < n; i += 256) sum += partial[i];
	sums[threadIdx.x] = sum;
	__syncthreads();
	for (int half = 128; half > 0; half /= 2) {
		if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
		__syncthreads();
	}
	if (threadIdx.x == 0) *total = sums[0];
}
