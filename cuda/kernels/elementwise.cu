// Compiled for sm_61, PTX 6.0.
//
// Operations whose value i depends on the operands' values i. They are bound by memory: a thread takes one
// value, so that a warp reads 128 bytes side by side.
#include "common.cuh"

KERNEL add(float *dst, const float *a, const float *b, i64 n) {
	i64 i = ownIndex();
	if (i < n) dst[i] = a[i] + b[i];
}

KERNEL scale(float *x, float s, i64 n) {
	i64 i = ownIndex();
	if (i < n) x[i] *= s;
}

KERNEL combine(float *dst, float s, const float *a, float t, const float *b, i64 n) {
	i64 i = ownIndex();
	if (i < n) dst[i] = fmaf(s, a[i], t * b[i]);
}

KERNEL gelu_forward(float *y, const float *x, i64 n) {
	i64 i = ownIndex();
	if (i < n) y[i] = gelu(x[i]);
}

KERNEL gelu_grad(float *dx, const float *dy, const float *x, i64 n) {
	i64 i = ownIndex();
	if (i < n) dx[i] = dy[i] * geluSlope(x[i]);
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

// decays says whether value i lies in one of count ascending, disjoint ranges {from, to}.
__device__ inline bool decays(i64 i, const i64 *ranges, int count) {
	int low = 0; // ranges below this one end at or before i
	for (int high = count; low < high;) {
		int middle = (low + high) / 2;
		if (ranges[2 * middle + 1] <= i) low = middle + 1; else high = middle;
	}
	return low < count && ranges[2 * low] <= i;
}

// adamw steps all tensors of a flat buffer at once, of which these n values are a piece that begins at value from; the
// scalars are those of compute.AdamWScalars.
KERNEL adamw(float *params, const float *grads, float *m, float *v, const i64 *ranges, int count, float beta1, float oneMinusBeta1,
	float beta2, float oneMinusBeta2, float eps, float gradScale, float stepSize, float inverseRoot2, float keep, i64 from, i64 n) {
	i64 i = ownIndex();
	if (i >= n) return;
	float g = grads[i] * gradScale;
	float first = beta1 * m[i] + oneMinusBeta1 * g;
	float second = beta2 * v[i] + oneMinusBeta2 * g * g;
	m[i] = first;
	v[i] = second;
	float p = params[i];
	if (decays(from + i, ranges, count)) p *= keep;
	params[i] = p - stepSize * first / (sqrtf(second) * inverseRoot2 + eps);
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
	for (int i = threadIdx.x; i < n; i += 256) sum += partial[i];
	sums[threadIdx.x] = sum;
	__syncthreads();
	for (int half = 128; half > 0; half /= 2) {
		if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
		__syncthreads();
	}
	if (threadIdx.x == 0) *total = sums[0];
}
