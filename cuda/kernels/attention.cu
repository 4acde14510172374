// Compiled for sm_61, PTX 6.0.
//
// Causal attention with grouped queries in one pass over the keys, and its gradient, after FlashAttention (Dao et al. 2022):
// no matrix of scores is ever in global memory.
//
// A block keeps R rows (queries; or keys, for their gradient) in shared memory and passes over the other side C rows at a
// time. Its 16 × R/4 threads each hold 4 rows × C/16 columns of the scores and 4 rows × D/16 columns of the result; the 16
// threads of a row are half a warp, so that a row's maximum and sum are shuffles. D is the head's size rounded up to 32,
// 64 or 128; what lies beyond is zero.
//
// Every tile in shared memory is row major. Group g of 4 values of row r lies at place g xor (r/S mod 8), S being the
// neighbouring rows that one thread reads: lanes that read different rows at one depth meet different banks, and a row
// is still written and read whole without conflict.
#include "common.cuh"

// place returns the address of group g of row r in a tile of W values a row.
template <int W, int S>
__device__ inline float *place(float *tile, int r, int g) { return tile + r * W + ((g ^ r / S % 8) * 4); }

// loadTile fills a tile of ROWS × D from rows of size values, of which count exist. wide: size is a multiple of 4 and rows
// are aligned for loads of 16 bytes, all of which are then under way at once.
template <int ROWS, int D, int S, int THREADS>
__device__ inline void loadTile(float *tile, const float *source, i64 ld, int count, int size, bool wide) {
	if (wide) {
#pragma unroll
		for (int i = 0; i < ROWS * D / 4 / THREADS; i++) {
			int at = i * THREADS + threadIdx.x, r = at / (D / 4), g = at % (D / 4);
			float4 x = {0, 0, 0, 0};
			if (r < count && g * 4 < size) x = *(const float4 *)(source + r * ld + g * 4);
			*(float4 *)place<D, S>(tile, r, g) = x;
		}
		return;
	}
#pragma unroll 1
	for (int at = threadIdx.x; at < ROWS * D; at += THREADS) {
		int r = at / D, c = at % D;
		place<D, S>(tile, r, c / 4)[c % 4] = r < count && c < size ? source[r * ld + c] : 0;
	}
}

// load4 reads 16 bytes of shared memory. Written out, because NVRTC otherwise splits some of these loads, not always the same.
__device__ inline float4 load4(const float *p) {
	float4 x;
	asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w) : "l"(__cvta_generic_to_shared(p)));
	return x;
}

// pick reads the thread's COLUMNS of a row in shared memory.
template <int COLUMNS>
__device__ inline void pick(float (&x)[COLUMNS], const float *row, int tx) {
	if (COLUMNS == 4) {
		float4 y = load4(row + tx * 4);
		x[0] = y.x, x[1] = y.y, x[COLUMNS - 2] = y.z, x[COLUMNS - 1] = y.w;
	} else {
		float2 y = *(const float2 *)(row + tx * 2);
		x[0] = y.x, x[1] = y.y;
	}
}

__device__ inline float dot(float4 x, float4 y, float sum) {
	return fmaf(x.x, y.x, fmaf(x.y, y.y, fmaf(x.z, y.z, fmaf(x.w, y.w, sum))));
}

// dots sets s to the products of the thread's 4 rows with its COLUMNS rows of the other side.
template <int D, int COLUMNS>
__device__ inline void dots(float (&s)[4][COLUMNS], float *rows, float *columns, int ty, int tx) {
#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int j = 0; j < COLUMNS; j++) s[i][j] = 0;
#pragma unroll 4
	for (int g = 0; g < D / 4; g++) {
		float4 x[4], y[COLUMNS];
		const float *own = place<D, 4>(rows, ty * 4, g), *other = place<D, COLUMNS>(columns, tx * COLUMNS, g);
#pragma unroll
		for (int i = 0; i < 4; i++) x[i] = load4(own + i * D);
#pragma unroll
		for (int j = 0; j < COLUMNS; j++) y[j] = load4(other + j * D);
#pragma unroll
		for (int i = 0; i < 4; i++)
#pragma unroll
			for (int j = 0; j < COLUMNS; j++) s[i][j] = dot(x[i], y[j], s[i][j]);
	}
}

// keep stores the thread's scores: only its half of the warp reads them.
template <int C, int COLUMNS>
__device__ inline void keep(float *scores, float (&s)[4][COLUMNS], int ty, int tx) {
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (COLUMNS == 4) *(float4 *)place<C, 4>(scores, ty * 4 + i, tx) = make_float4(s[i][0], s[i][1], s[i][2], s[i][COLUMNS - 1]);
		if (COLUMNS == 2) *(float2 *)(place<C, 4>(scores, ty * 4 + i, tx / 2) + tx % 2 * 2) = make_float2(s[i][0], s[i][1]);
	}
}

// fold adds scores × columns to the thread's 4 rows of the result: values d = tx·WIDTH + e for D = 32 and 64, and groups tx
// and tx + 16 for D = 128.
template <int D, int C, int COLUMNS>
__device__ inline void fold(float (&sum)[4][D / 16], float *scores, float *columns, int ty, int tx) {
#pragma unroll 2
	for (int g = 0; g < C / 4; g++) {
		float p[4][4];
		const float *own = place<C, 4>(scores, ty * 4, g);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			float4 x = load4(own + i * C);
			p[i][0] = x.x, p[i][1] = x.y, p[i][2] = x.z, p[i][3] = x.w;
		}
#pragma unroll
		for (int e = 0; e < 4; e++) {
			float v[D / 16];
			if (D == 32) {
				float2 x = *(const float2 *)(place<D, COLUMNS>(columns, g * 4 + e, tx / 2) + tx % 2 * 2);
				v[0] = x.x, v[1] = x.y;
			} else {
#pragma unroll
				for (int h = 0; h < D / 64; h++) {
					float4 x = load4(place<D, COLUMNS>(columns, g * 4 + e, tx + h * 16));
					v[h * 4] = x.x, v[h * 4 + 1] = x.y, v[h * 4 + 2] = x.z, v[h * 4 + 3] = x.w;
				}
			}
#pragma unroll
			for (int i = 0; i < 4; i++)
#pragma unroll
				for (int d = 0; d < D / 16; d++) sum[i][d] = fmaf(p[i][e], v[d], sum[i][d]);
		}
	}
}

// writeRow stores a thread's part of a row of size values, multiplied by factor.
template <int D>
__device__ inline void writeRow(float *row, float (&sum)[D / 16], float factor, int tx, int size, bool wide) {
	const int WIDTH = D == 32 ? 2 : 4;
#pragma unroll
	for (int h = 0; h < D / 16 / WIDTH; h++) {
		int d = (tx + h * 16) * WIDTH;
		float *x = sum + h * WIDTH;
		if (wide) { // groups are whole or beyond the row
			if (d >= size) continue;
			if (WIDTH == 2) put2(row + d, x[0] * factor, x[1] * factor);
			if (WIDTH == 4) put4(row + d, x[0] * factor, x[1] * factor, x[WIDTH - 2] * factor, x[WIDTH - 1] * factor);
			continue;
		}
#pragma unroll
		for (int e = 0; e < WIDTH; e++)
			if (d + e < size) row[d + e] = x[e] * factor;
	}
}

// rowSum and rowMax combine a value of the 16 threads of a row.
__device__ inline float rowSum(float x) {
#pragma unroll
	for (int other = 8; other > 0; other /= 2) x += __shfl_xor_sync(EVERY_LANE, x, other);
	return x;
}

__device__ inline float rowMax(float x) {
#pragma unroll
	for (int other = 8; other > 0; other /= 2) x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, other));
	return x;
}

// Heads is where a block's head lies: a row of qkv [B·T,stride] holds queries, keys and values.
struct Heads {
	int head, key;     // of queries, and of the keys that it shares
	i64 query, keys, values; // of the head's first row in qkv
	__device__ inline Heads(int batch, int head, int key, int positions, int heads, int keyHeads, int size, int stride) : head(head), key(key) {
		i64 row = (i64)batch * positions * stride;
		query = row + head * size;
		keys = row + (heads + key) * size;
		values = row + (heads + keyHeads + key) * size;
	}
};

// The forward pass of R queries of a head: of tile last, which has the most keys, in block 0, and of those before it in the
// blocks that follow. m and l are a row's greatest score so far and
// its sum of exponentials, by which sums of earlier tiles are scaled when a greater score appears.
template <int D, int R, int C>
__device__ inline void attention(float *out, float *lse, const float *qkv, int positions, int from, int heads, int keyHeads, int size, float scale, int last, int wide) {
	const int THREADS = R * 4, COLUMNS = C / 16;
	__shared__ __align__(16) float query[R * D], other[C * D], scores[R * C];
	int tx = threadIdx.x % 16, ty = threadIdx.x / 16, stride = (heads + 2 * keyHeads) * size, width = heads * size;
	Heads at(blockIdx.z, blockIdx.y, blockIdx.y / (heads / keyHeads), positions, heads, keyHeads, size, stride);
	int queries = positions - from, first = (last - blockIdx.x) * R, count = min(R, queries - first);
	loadTile<R, D, 4, THREADS>(query, qkv + at.query + (i64)(from + first) * stride, stride, count, size, wide);

	float sum[4][D / 16], m[4], l[4];
#pragma unroll
	for (int i = 0; i < 4; i++) {
		m[i] = -INFINITY_F;
		l[i] = 0;
#pragma unroll
		for (int d = 0; d < D / 16; d++) sum[i][d] = 0;
	}
	int end = from + first + count; // keys that any row sees
	for (int key = 0; key < end; key += C) {
		__syncthreads(); // the former values are used
		loadTile<C, D, COLUMNS, THREADS>(other, qkv + at.keys + (i64)key * stride, stride, positions - key, size, wide);
		__syncthreads();
		float s[4][COLUMNS];
		dots<D, COLUMNS>(s, query, other, ty, tx);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			int seen = from + first + ty * 4 + i; // the last that the row sees; rows beyond count see all, and are not stored
			float highest = m[i], part = 0;
#pragma unroll
			for (int j = 0; j < COLUMNS; j++) {
				int k = key + tx * COLUMNS + j;
				s[i][j] = k <= seen && k < positions ? s[i][j] * scale : -INFINITY_F;
				highest = fmaxf(highest, s[i][j]);
			}
			highest = rowMax(highest);
#pragma unroll
			for (int j = 0; j < COLUMNS; j++) {
				s[i][j] = exp2Fast((s[i][j] - highest) * LOG2E);
				part += s[i][j];
			}
			float fade = exp2Fast((m[i] - highest) * LOG2E);
			l[i] = l[i] * fade + rowSum(part);
			m[i] = highest;
#pragma unroll
			for (int d = 0; d < D / 16; d++) sum[i][d] *= fade;
		}
		keep<C, COLUMNS>(scores, s, ty, tx);
		__syncthreads(); // the keys are used
		loadTile<C, D, COLUMNS, THREADS>(other, qkv + at.values + (i64)key * stride, stride, positions - key, size, wide);
		__syncthreads();
		fold<D, C, COLUMNS>(sum, scores, other, ty, tx);
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		int r = ty * 4 + i;
		if (r >= count) continue;
		writeRow<D>(out + ((i64)blockIdx.z * queries + first + r) * width + at.head * size, sum[i], 1.0f / l[i], tx, size, wide);
		if (lse && tx == 0) lse[((i64)blockIdx.z * heads + at.head) * queries + first + r] = m[i] + logf(l[i]);
	}
}

// The gradient of R queries, in the order of tiles of the forward pass: dQ = dS·K with dS = P∘(dP - δ)·scale, dP = dO·Vᵀ and
// δ = rowsum(dO∘O), which is left in delta for the gradient of keys and values.
template <int D, int R, int C>
__device__ inline void queryGrad(float *dqkv, float *delta, const float *dout, const float *qkv, const float *out, const float *lse,
	int positions, int heads, int keyHeads, int size, float scale, int last, int wide) {
	const int THREADS = R * 4, COLUMNS = C / 16;
	__shared__ __align__(16) float query[R * D], slope[R * D], other[C * D], scores[R * C];
	int tx = threadIdx.x % 16, ty = threadIdx.x / 16, stride = (heads + 2 * keyHeads) * size, width = heads * size;
	Heads at(blockIdx.z, blockIdx.y, blockIdx.y / (heads / keyHeads), positions, heads, keyHeads, size, stride);
	int first = (last - blockIdx.x) * R, count = min(R, positions - first);
	i64 outRow = ((i64)blockIdx.z * positions + first) * width + at.head * size, sums = ((i64)blockIdx.z * heads + at.head) * positions + first;
	// The tile of dO∘O takes the place of keys until their first tile.
	loadTile<R, D, 4, THREADS>(query, qkv + at.query + (i64)first * stride, stride, count, size, wide);
	loadTile<R, D, 4, THREADS>(slope, dout + outRow, width, count, size, wide);
	loadTile<R, D, 4, THREADS>(other, out + outRow, width, count, size, wide);
	__syncthreads();

	float sum[4][D / 16], d[4], logSum[4];
#pragma unroll
	for (int i = 0; i < 4; i++) {
		int r = ty * 4 + i;
		d[i] = 0;
#pragma unroll
		for (int g = 0; g < D / 4; g += 16)
			if (g + tx < D / 4) d[i] = dot(load4(place<D, 4>(slope, r, g + tx)), load4(place<D, 4>(other, r, g + tx)), d[i]);
		d[i] = rowSum(d[i]);
		if (tx == 0 && r < count) delta[sums + r] = d[i];
		logSum[i] = r < count ? lse[sums + r] : 0;
#pragma unroll
		for (int e = 0; e < D / 16; e++) sum[i][e] = 0;
	}
	for (int key = 0; key < first + count; key += C) {
		__syncthreads();
		loadTile<C, D, COLUMNS, THREADS>(other, qkv + at.values + (i64)key * stride, stride, positions - key, size, wide);
		__syncthreads();
		float s[4][COLUMNS], dp[4][COLUMNS];
		dots<D, COLUMNS>(dp, slope, other, ty, tx);
		__syncthreads();
		loadTile<C, D, COLUMNS, THREADS>(other, qkv + at.keys + (i64)key * stride, stride, positions - key, size, wide);
		__syncthreads();
		dots<D, COLUMNS>(s, query, other, ty, tx);
#pragma unroll
		for (int i = 0; i < 4; i++)
#pragma unroll
			for (int j = 0; j < COLUMNS; j++) {
				int k = key + tx * COLUMNS + j;
				float p = exp2Fast((s[i][j] * scale - logSum[i]) * LOG2E);
				s[i][j] = k <= first + ty * 4 + i && k < positions ? p * (dp[i][j] - d[i]) * scale : 0;
			}
		__syncwarp(); // the former scores are used
		keep<C, COLUMNS>(scores, s, ty, tx);
		__syncwarp();
		fold<D, C, COLUMNS>(sum, scores, other, ty, tx);
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (ty * 4 + i < count) writeRow<D>(dqkv + at.query + (i64)(first + ty * 4 + i) * stride, sum[i], 1, tx, size, wide);
}

// The gradient of R keys and values, of tile number tile in block 0, from all queries that see them, head by head of those
// that share them: dV = Pᵀ·dO and dK = dSᵀ·Q. Rows are keys here and columns queries. Queries pass through one tile twice,
// which saves a third of the shared memory at the price of reading them from the L2 cache again.
template <int D, int R, int C>
__device__ inline void keyGrad(float *dqkv, const float *delta, const float *dout, const float *qkv, const float *lse,
	int positions, int heads, int keyHeads, int size, float scale, int tile, int wide) {
	const int THREADS = R * 4, COLUMNS = C / 16;
	__shared__ __align__(16) float keys[R * D], values[R * D], other[C * D], scores[R * C], logSums[C], deltas[C];
	int tx = threadIdx.x % 16, ty = threadIdx.x / 16, stride = (heads + 2 * keyHeads) * size, width = heads * size, group = heads / keyHeads;
	int first = (tile + blockIdx.x) * R, count = min(R, positions - first);
	Heads shared(blockIdx.z, 0, blockIdx.y, positions, heads, keyHeads, size, stride);
	loadTile<R, D, 4, THREADS>(keys, qkv + shared.keys + (i64)first * stride, stride, count, size, wide);
	loadTile<R, D, 4, THREADS>(values, qkv + shared.values + (i64)first * stride, stride, count, size, wide);

	float dk[4][D / 16], dv[4][D / 16];
#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int e = 0; e < D / 16; e++) dk[i][e] = dv[i][e] = 0;
	for (int h = blockIdx.y * group; h < (blockIdx.y + 1) * group; h++) {
		const float *queries = qkv + shared.query + h * size, *slopes = dout + (i64)blockIdx.z * positions * width + h * size;
		i64 sums = ((i64)blockIdx.z * heads + h) * positions;
		for (int from = first / C * C; from < positions; from += C) {
			__syncthreads();
			loadTile<C, D, COLUMNS, THREADS>(other, queries + (i64)from * stride, stride, positions - from, size, wide);
			if (threadIdx.x < C) {
				bool there = from + threadIdx.x < positions;
				logSums[threadIdx.x] = there ? lse[sums + from + threadIdx.x] : 0;
				deltas[threadIdx.x] = there ? delta[sums + from + threadIdx.x] : 0;
			}
			__syncthreads();
			float p[4][COLUMNS], dp[4][COLUMNS], logSum[COLUMNS], d[COLUMNS];
			dots<D, COLUMNS>(p, keys, other, ty, tx);
			pick(logSum, logSums, tx);
			pick(d, deltas, tx);
#pragma unroll
			for (int j = 0; j < COLUMNS; j++) {
				int q = from + tx * COLUMNS + j;
#pragma unroll
				for (int i = 0; i < 4; i++) {
					int k = first + ty * 4 + i;
					float e = exp2Fast((p[i][j] * scale - logSum[j]) * LOG2E);
					p[i][j] = k <= q && q < positions ? e : 0;
				}
			}
			keep<C, COLUMNS>(scores, p, ty, tx);
			__syncthreads();
			loadTile<C, D, COLUMNS, THREADS>(other, slopes + (i64)from * width, width, positions - from, size, wide);
			__syncthreads();
			dots<D, COLUMNS>(dp, values, other, ty, tx);
			fold<D, C, COLUMNS>(dv, scores, other, ty, tx);
#pragma unroll
			for (int j = 0; j < COLUMNS; j++)
#pragma unroll
				for (int i = 0; i < 4; i++) p[i][j] *= (dp[i][j] - d[j]) * scale;
			__syncthreads(); // slopes and scores are used
			keep<C, COLUMNS>(scores, p, ty, tx);
			loadTile<C, D, COLUMNS, THREADS>(other, queries + (i64)from * stride, stride, positions - from, size, wide);
			__syncthreads();
			fold<D, C, COLUMNS>(dk, scores, other, ty, tx);
		}
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (ty * 4 + i >= count) continue;
		i64 row = (i64)(first + ty * 4 + i) * stride;
		writeRow<D>(dqkv + shared.keys + row, dk[i], 1, tx, size, wide);
		writeRow<D>(dqkv + shared.values + row, dv[i], 1, tx, size, wide);
	}
}

// The tiles are the largest whose shared memory stays within the 48 KiB that every card has; blocks is how many of them one
// multiprocessor shall have room for, which bounds the registers.
#define ATTENTION(d, r, c, blocks) \
	extern "C" __global__ void __launch_bounds__(r * 4, blocks) attention_##d(float *out, float *lse, const float *qkv, \
		int positions, int from, int heads, int keyHeads, int size, float scale, int last, int wide) { \
		attention<d, r, c>(out, lse, qkv, positions, from, heads, keyHeads, size, scale, last, wide); \
	}

#define ATTENTION_GRAD(d, r, c, blocks) \
	extern "C" __global__ void __launch_bounds__(r * 4, blocks) query_grad_##d(float *dqkv, float *delta, const float *dout, const float *qkv, const float *out, \
		const float *lse, int positions, int heads, int keyHeads, int size, float scale, int last, int wide) { \
		queryGrad<d, r, c>(dqkv, delta, dout, qkv, out, lse, positions, heads, keyHeads, size, scale, last, wide); \
	} \
	extern "C" __global__ void __launch_bounds__(r * 4, blocks) key_grad_##d(float *dqkv, const float *delta, const float *dout, const float *qkv, \
		const float *lse, int positions, int heads, int keyHeads, int size, float scale, int tile, int wide) { \
		keyGrad<d, r, c>(dqkv, delta, dout, qkv, lse, positions, heads, keyHeads, size, scale, tile, wide); \
	}

ATTENTION(32, 32, 32, 5)
ATTENTION(64, 64, 64, 2)
ATTENTION(128, 32, 32, 4)
ATTENTION_GRAD(32, 32, 32, 4)
ATTENTION_GRAD(64, 32, 64, 2)
ATTENTION_GRAD(128, 16, 32, 4)
