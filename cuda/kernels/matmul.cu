// Compiled for sm_61, PTX 6.0.
//
// C = A·B in float32, in the three forms of compute.Form, with the epilogue of compute.MatMul.
//
// A block of 256 threads makes a tile of EDGE × EDGE of C, EDGE 64 or 128, from panels 16 deep of A and B in shared memory.
// Each thread keeps a tile of its own in registers, 4 × 4 (EDGE 64) or four of those (EDGE 128), so that a step in depth
// costs 2 or 4 shared loads of 16 bytes for 16 or 64 fused multiply-adds. Large products take the large tile, which is
// bound by arithmetic; small ones take the small tile so that all multiprocessors have work.
//
// Two panels lie in shared memory: while one is multiplied the next is on its way into registers and then into the other
// one, so that a panel costs one barrier.
//
// Both panels are stored [depth][EDGE], whichever way they lie in memory. A warp reads an operand that is contiguous along
// the depth as 8 rows × 64 bytes, whole sectors, and stores it transposed: 4 lanes of a row then hold depths 4q+e, q = 0..3.
// Value r of depth k lies at r xor 8·(k/4): the 32 lanes of such a store, 8 rows × 4 q, meet 32 banks, and 4 neighbours
// stay neighbours for loads of 16 bytes.
#include "common.cuh"
#include "epilogue.cuh"

enum { NN, NT, TN };

const int DEPTH = 16;

// Panel moves one operand's panels from memory through registers to shared memory. ALONG: rows of the operand run along
// the depth, so that it is stored transposed.
template <int EDGE, bool ALONG>
struct Panel {
	static const int PARTS = EDGE / 64;
	float4 part[PARTS];

	// load reads the panel at (first, k) of an operand of extent × depth values.
	__device__ inline void load(const float *source, i64 ld, int first, int extent, int k, int depth, bool wide) {
#pragma unroll
		for (int p = 0; p < PARTS; p++) {
			int i = threadIdx.x + p * 256;
			if (ALONG) {
				int r = first + i / 4, c = k + i % 4 * 4;
				part[p] = fetch4(source + r * ld + c, r < extent ? depth - c : 0, wide);
			} else {
				int r = k + i / (EDGE / 4), c = first + i % (EDGE / 4) * 4;
				part[p] = fetch4(source + r * ld + c, r < depth ? extent - c : 0, wide);
			}
		}
	}

	__device__ inline void store(float *shared) {
#pragma unroll
		for (int p = 0; p < PARTS; p++) {
			int i = threadIdx.x + p * 256;
			float4 x = part[p];
			if (ALONG) {
				int r = i / 4, q = i % 4;
				float *at = shared + q * 4 * EDGE + (r ^ q * 8);
				at[0] = x.x;
				at[EDGE] = x.y;
				at[2 * EDGE] = x.z;
				at[3 * EDGE] = x.w;
			} else {
				int k = i / (EDGE / 4), c = i % (EDGE / 4) * 4;
				*(float4 *)(shared + k * EDGE + (c ^ k / 4 * 8)) = x;
			}
		}
	}
};

// lda and ldb are the values of a row of A and B in memory; a row of C has n.
template <int FORM, int EDGE>
__device__ inline void matmul(const float *a, const float *b, float *c, int m, int n, int k, int lda, int ldb,
	const float *bias, float *pre, const float *residual, int flags) {
	const int HALVES = EDGE / 64; // a thread's rows are 4 in each half of the tile, its columns too
	__shared__ __align__(16) float left[2][DEPTH * EDGE], right[2][DEPTH * EDGE];
	// A warp is 4 × 8 threads, eight warps are 4 × 2: what a warp reads of one depth is 16 rows and 32 columns.
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	int row = (warp / 2 * 4 + lane / 8) * 4, column = (warp % 2 * 8 + lane % 8) * 4;
	int firstRow = blockIdx.y * EDGE, firstColumn = blockIdx.x * EDGE;

	Panel<EDGE, FORM != TN> nextLeft;
	Panel<EDGE, FORM == NT> nextRight;
	float sum[4 * HALVES][4 * HALVES];
#pragma unroll
	for (int i = 0; i < 4 * HALVES; i++)
#pragma unroll
		for (int j = 0; j < 4 * HALVES; j++) sum[i][j] = 0;

	nextLeft.load(a, lda, firstRow, m, 0, k, flags & WIDE_A);
	nextRight.load(b, ldb, firstColumn, n, 0, k, flags & WIDE_B);
	nextLeft.store(left[0]);
	nextRight.store(right[0]);
	__syncthreads();
	int now = 0;
	for (int at = 0; at < k; at += DEPTH, now ^= 1) {
		bool more = at + DEPTH < k;
		if (more) {
			nextLeft.load(a, lda, firstRow, m, at + DEPTH, k, flags & WIDE_A);
			nextRight.load(b, ldb, firstColumn, n, at + DEPTH, k, flags & WIDE_B);
		}
#pragma unroll
		for (int d = 0; d < DEPTH; d++) {
			float4 x[HALVES], y[HALVES];
#pragma unroll
			for (int h = 0; h < HALVES; h++) {
				x[h] = *(const float4 *)(left[now] + d * EDGE + h * 64 + (row ^ d / 4 * 8));
				y[h] = *(const float4 *)(right[now] + d * EDGE + h * 64 + (column ^ d / 4 * 8));
			}
#pragma unroll
			for (int h = 0; h < HALVES; h++)
#pragma unroll
				for (int g = 0; g < HALVES; g++) {
					float u[4] = {x[h].x, x[h].y, x[h].z, x[h].w}, v[4] = {y[g].x, y[g].y, y[g].z, y[g].w};
#pragma unroll
					for (int i = 0; i < 4; i++)
#pragma unroll
						for (int j = 0; j < 4; j++) sum[h * 4 + i][g * 4 + j] = fmaf(u[i], v[j], sum[h * 4 + i][g * 4 + j]);
				}
		}
		if (more) {
			nextLeft.store(left[now ^ 1]);
			nextRight.store(right[now ^ 1]);
			__syncthreads();
		}
	}
#pragma unroll
	for (int i = 0; i < 4 * HALVES; i++) {
		int r = firstRow + i / 4 * 64 + row + i % 4;
		if (r >= m) continue;
#pragma unroll
		for (int g = 0; g < HALVES; g++) {
			int j = firstColumn + g * 64 + column;
			finish<4>(sum[i] + g * 4, (i64)r * n + j, j, n - j, c, bias, pre, residual, flags);
		}
	}
}

#define MATMUL(name, form, edge) \
	extern "C" __global__ void __launch_bounds__(256) name(const float *a, const float *b, float *c, int m, int n, int k, int lda, int ldb, \
		const float *bias, float *pre, const float *residual, int flags) { \
		matmul<form, edge>(a, b, c, m, n, k, lda, ldb, bias, pre, residual, flags); \
	}

MATMUL(matmul_nn_64, NN, 64)
MATMUL(matmul_nt_64, NT, 64)
MATMUL(matmul_tn_64, TN, 64)
MATMUL(matmul_nn_128, NN, 128)
MATMUL(matmul_nt_128, NT, 128)
MATMUL(matmul_tn_128, TN, 128)
