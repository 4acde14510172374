// Compiled for sm_61, PTX 6.0.
//
// Normalisation of rows, and sums over columns. One warp takes a row, its lanes neighbouring values; a block is 4 warps.
#include "common.cuh"

// Two passes find mean and variance: the difference of large sums would cancel. y may be x.
KERNEL layer_norm(float *y, const float *x, const float *gain, const float *bias, float *means, float *rstds, int rows, int n, float eps) {
	int lane = threadIdx.x % 32;
	for (i64 r = blockIdx.x * 4 + threadIdx.x / 32; r < rows; r += gridDim.x * 4) {
		const float *row = x + r * n;
		float sum = 0, squares = 0;
		for (int j = lane; j < n; j += 32) sum += row[j];
		float mean = warpSum(sum) / n;
		for (int j = lane; j < n; j += 32) {
			float d = row[j] - mean;
			squares = fmaf(d, d, squares);
		}
		float rstd = 1.0f / sqrtf(warpSum(squares) / n + eps);
		for (int j = lane; j < n; j += 32) y[r * n + j] = (row[j] - mean) * rstd * gain[j] + bias[j];
		if (lane == 0) {
			means[r] = mean;
			rstds[r] = rstd;
		}
	}
}

// dx = (g - mean(g) - x̂·mean(g·x̂))·rstd with g = dy·gain and x̂ the normalised x. dx may be dy.
KERNEL layer_norm_grad(float *dx, const float *dy, const float *x, const float *gain, const float *means, const float *rstds, int rows, int n, int accumulate) {
	int lane = threadIdx.x % 32;
	for (i64 r = blockIdx.x * 4 + threadIdx.x / 32; r < rows; r += gridDim.x * 4) {
		const float *row = x + r * n, *slope = dy + r * n;
		float mean = means[r], rstd = rstds[r], sum = 0, product = 0;
		for (int j = lane; j < n; j += 32) {
			float g = slope[j] * gain[j];
			sum += g;
			product = fmaf(g, (row[j] - mean) * rstd, product);
		}
		sum = warpSum(sum) / n;
		product = warpSum(product) / n;
		for (int j = lane; j < n; j += 32) {
			float d = (slope[j] * gain[j] - sum - (row[j] - mean) * rstd * product) * rstd;
			dx[r * n + j] = accumulate ? dx[r * n + j] + d : d;
		}
	}
}

KERNEL rms_norm(float *y, const float *x, const float *gain, float *rstds, int rows, int n, float eps) {
	int lane = threadIdx.x % 32;
	for (i64 r = blockIdx.x * 4 + threadIdx.x / 32; r < rows; r += gridDim.x * 4) {
		const float *row = x + r * n;
		float squares = 0;
		for (int j = lane; j < n; j += 32) squares = fmaf(row[j], row[j], squares);
		float rstd = 1.0f / sqrtf(warpSum(squares) / n + eps);
		for (int j = lane; j < n; j += 32) y[r * n + j] = row[j] * rstd * gain[j];
		if (lane == 0) rstds[r] = rstd;
	}
}

KERNEL rms_norm_grad(float *dx, const float *dy, const float *x, const float *gain, const float *rstds, int rows, int n, int accumulate) {
	int lane = threadIdx.x % 32;
	for (i64 r = blockIdx.x * 4 + threadIdx.x / 32; r < rows; r += gridDim.x * 4) {
		const float *row = x + r * n, *slope = dy + r * n;
		float rstd = rstds[r], product = 0;
		for (int j = lane; j < n; j += 32) product = fmaf(slope[j] * gain[j], row[j] * rstd, product);
		product = warpSum(product) / n;
		for (int j = lane; j < n; j += 32) {
			float d = (slope[j] * gain[j] - row[j] * rstd * product) * rstd;
			dx[r * n + j] = accumulate ? dx[r * n + j] + d : d;
		}
	}
}

// Sums over rows, in two stages without atomics. Stage one: a block of 32 × 8 threads takes 32 columns and one chunk of
// rows; thread (c, k) adds rows k, k+8, … of its column and a fixed tree adds the eight. What is added:
//   COLUMN_BIAS   dy
//   COLUMN_LAYER  dy·x̂ for the gain and dy for the bias, x̂ = (x - mean)·rstd
//   COLUMN_RMS    dy·x·rstd
// Chunk i leaves its sums in partial[i,n], and those of the bias after all chunks of the gain.
enum { COLUMN_BIAS, COLUMN_LAYER, COLUMN_RMS };

template <int KIND>
__device__ inline void columnSums(float *partial, const float *dy, const float *x, const float *means, const float *rstds, int rows, int n, int chunk) {
	__shared__ float first[8][32], second[8][32];
	int c = blockIdx.x * 32 + threadIdx.x, k = threadIdx.y;
	int from = blockIdx.y * chunk, to = min(rows, from + chunk);
	float a = 0, b = 0;
	if (c < n) {
		for (int r = from + k; r < to; r += 8) {
			i64 i = (i64)r * n + c;
			float d = dy[i];
			if (KIND == COLUMN_BIAS) a += d;
			if (KIND == COLUMN_LAYER) {
				a = fmaf(d, (x[i] - means[r]) * rstds[r], a);
				b += d;
			}
			if (KIND == COLUMN_RMS) a = fmaf(d, x[i] * rstds[r], a);
		}
	}
	first[k][threadIdx.x] = a;
	if (KIND == COLUMN_LAYER) second[k][threadIdx.x] = b;
	__syncthreads();
	for (int half = 4; half > 0; half /= 2) {
		if (k < half) {
			first[k][threadIdx.x] += first[k + half][threadIdx.x];
			if (KIND == COLUMN_LAYER) second[k][threadIdx.x] += second[k + half][threadIdx.x];
		}
		__syncthreads();
	}
	if (k == 0 && c < n) {
		partial[(i64)blockIdx.y * n + c] = first[0][threadIdx.x];
		if (KIND == COLUMN_LAYER) partial[(i64)(gridDim.y + blockIdx.y) * n + c] = second[0][threadIdx.x];
	}
}

KERNEL bias_columns(float *partial, const float *dy, int rows, int n, int chunk) {
	columnSums<COLUMN_BIAS>(partial, dy, 0, 0, 0, rows, n, chunk);
}

KERNEL layer_norm_columns(float *partial, const float *dy, const float *x, const float *means, const float *rstds, int rows, int n, int chunk) {
	columnSums<COLUMN_LAYER>(partial, dy, x, means, rstds, rows, n, chunk);
}

KERNEL rms_norm_columns(float *partial, const float *dy, const float *x, const float *rstds, int rows, int n, int chunk) {
	columnSums<COLUMN_RMS>(partial, dy, x, 0, rstds, rows, n, chunk);
}

// Stage two: one thread a column adds the chunks in order, and then the sum to dst.
KERNEL add_chunks(float *dst, const float *partial, int chunks, int n) {
	int c = blockIdx.x * blockDim.x + threadIdx.x;
	if (c >= n) return;
	float sum = 0;
	for (int i = 0; i < chunks; i++) sum += partial[(i64)i * n + c];
	dst[c] += sum;
}
