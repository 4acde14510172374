// Compiled for sm_75, PTX 6.5.
// Compiled for sm_80, PTX 7.0.
//
// C = A·B on tensor cores: operands of 16 bits, sums in float32.
//
// Operands are packed first: rounded to 16 bits, laid out [rows,depth] whatever their form (B's rows are the columns of C),
// and filled up with zeros to whole tiles, so that one kernel does all forms and its loop has no bounds to check. Packing
// costs one pass over each operand; the product then moves half the bytes.
//
// fp16 reaches from 2⁻²⁴ to 65504, less than gradients need. Each operand is therefore multiplied by the power of two that
// brings its largest value into [2¹⁴, 2¹⁵), which is exact, and the product divided by both. Sums stay below 2³⁰ times the
// depth. That replaces the loss scaling of Micikevicius et al. 2018: no step is lost to overflow. bf16 reaches as far as
// float32 and needs nothing of it.
//
// A block makes a tile of EDGE × EDGE of C, 128 (8 warps of 64 × 32) or 64 (4 warps of 32 × 32), from panels 32 deep. With
// asynchronous copies (sm_80) three panels are in shared memory: two on their way while one is multiplied. Before that
// (sm_75) there are two, and the next one waits in registers.
//
// A row of a panel is 64 bytes, 4 chunks of 16. Chunk c of row r lies at c xor (r/2 mod 4): 8 rows at one depth, which
// ldmatrix reads at a time, then meet 32 banks, and so do 8 neighbouring rows that are stored whole.
#include "common.cuh"
#include "epilogue.cuh"

typedef unsigned short u16;

#if __CUDA_ARCH__ >= 800
#define ASYNC 1
#define PANELS 3
#else
#define ASYNC 0
#define PANELS 2
#endif

struct FP16 {};
struct BF16 {};

// largest raises *bits to the bits of the greatest magnitude among n values: as integers they are in the same order, and
// the maximum does not depend on the order in which blocks come.
KERNEL largest(unsigned *bits, const float *x, i64 n) {
	unsigned most = 0;
	i64 first = (i64)blockIdx.x * 4096 + threadIdx.x;
	for (int k = 0; k < 16; k++) {
		i64 i = first + k * 256;
		if (i < n) most = max(most, __float_as_uint(fabsf(x[i])));
	}
#pragma unroll
	for (int other = 16; other > 0; other /= 2) most = max(most, __shfl_xor_sync(EVERY_LANE, most, other));
	if (threadIdx.x % 32 == 0) atomicMax(bits, most);
}

// power is the exponent of two that an operand with that largest magnitude is multiplied by: 0 for zero, infinity and NaN.
__device__ inline int power(unsigned largest) {
	int exponent = largest >> 23;
	return largest == 0 || exponent == 255 ? 0 : min(14 - (exponent - 127), 120);
}

// twoTo is 2^e, -126 ≤ e ≤ 127.
__device__ inline float twoTo(int e) { return __int_as_float((e + 127) << 23); }

// factor is what an operand with that largest magnitude is multiplied by, and unscale the exponent that takes the factors of
// both operands back. bf16 knows neither.
__device__ inline float factor(const unsigned *largest, FP16) { return twoTo(power(*largest)); }
__device__ inline float factor(const unsigned *, BF16) { return 1; }
__device__ inline int unscale(const unsigned *largest, FP16) { return -(power(largest[0]) + power(largest[1])); }
__device__ inline int unscale(const unsigned *, BF16) { return 0; }

// pair rounds two neighbours.
__device__ inline unsigned pair(float low, float high, FP16) {
	unsigned y;
	asm("{\n\t.reg .b16 l, h;\n\tcvt.rn.f16.f32 l, %1;\n\tcvt.rn.f16.f32 h, %2;\n\tmov.b32 %0, {l, h};\n\t}" : "=r"(y) : "f"(low), "f"(high));
	return y;
}

// Values below 2⁻¹²⁶ become zero, as compute.RoundBF16 says.
__device__ inline unsigned pair(float low, float high, BF16) {
	unsigned y = 0;
#if ASYNC
	asm("mul.ftz.f32 %0, %0, 0f3F800000;" : "+f"(low));
	asm("mul.ftz.f32 %0, %0, 0f3F800000;" : "+f"(high));
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
#endif
	return y;
}

// packAlong rounds an operand whose rows run along the depth: a block makes 32 rows × a depth of 32, a thread 4 neighbours.
template <class T>
__device__ inline void packAlong(u16 *dst, const float *src, const unsigned *largest, int rows, int depth, int padded, int wide) {
	i64 r = (i64)blockIdx.x * 32 + threadIdx.x / 8;
	int c = blockIdx.y * 32 + threadIdx.x % 8 * 4;
	float4 x = fetch4(src + r * depth + c, r < rows ? depth - c : 0, wide);
	float by = factor(largest, T());
	unsigned low = pair(x.x * by, x.y * by, T()), high = pair(x.z * by, x.w * by, T());
	asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(dst + r * padded + c)), "r"(low), "r"(high) : "memory");
}

// packAcross rounds an operand [depth,rows] and transposes it, a tile of 32 × 32 at a time through shared memory. The odd
// length of its rows keeps both sides free of conflicts: a warp writes a row, and reads pairs of two columns.
template <class T>
__device__ inline void packAcross(u16 *dst, const float *src, const unsigned *largest, int rows, int depth, int padded) {
	__shared__ float tile[32][33];
	i64 c = (i64)blockIdx.x * 32;
	int d = blockIdx.y * 32, x = threadIdx.x % 32, y = threadIdx.x / 32;
	const float *from = src + (i64)(d + y) * rows + c + x;
	bool there = c + x < rows;
#pragma unroll
	for (int k = 0; k < 32; k += 8) {
		tile[k + y][x] = there && d + y + k < depth ? *from : 0;
		from += (i64)8 * rows;
	}
	__syncthreads();
	float by = factor(largest, T());
	int t = threadIdx.x % 16 * 2, r = threadIdx.x / 16;
	u16 *to = dst + (c + r) * padded + d + t;
#pragma unroll
	for (int k = 0; k < 32; k += 16)
		*(unsigned *)(to + (i64)k * padded) = pair(tile[t][r + k] * by, tile[t + 1][r + k] * by, T());
}

#define PACK(name, T) \
	KERNEL pack_along_##name(u16 *dst, const float *src, const unsigned *largest, int rows, int depth, int padded, int wide) { \
		packAlong<T>(dst, src, largest, rows, depth, padded, wide); \
	} \
	KERNEL pack_across_##name(u16 *dst, const float *src, const unsigned *largest, int rows, int depth, int padded) { \
		packAcross<T>(dst, src, largest, rows, depth, padded); \
	}

__device__ inline unsigned sharedAddress(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

// four reads four matrices of 8 × 8; lane l gives the address of row l mod 8 of matrix l/8.
__device__ inline void four(unsigned (&x)[4], unsigned address) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		: "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address));
}

// multiply adds a tile of 16 × 8 of products over a depth of 16.
__device__ inline void multiply(float (&c)[4], unsigned (&a)[4], unsigned b0, unsigned b1, FP16) {
#if ASYNC
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
	asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
		: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(b0));
	asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
		: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

__device__ inline void multiply(float (&c)[4], unsigned (&a)[4], unsigned b0, unsigned b1, BF16) {
#if ASYNC
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

const int PANEL = 32; // depth
const int ROW = 64;   // bytes of it

// chunkAt is the offset of chunk c of row r in a panel.
__device__ inline int chunkAt(int r, int c) { return r * ROW + ((c ^ r / 2 % 4) * 16); }

// Mover brings the panels of one operand into shared memory, two chunks a thread.
template <int EDGE>
struct Mover {
	static const int THREADS = EDGE * 2;
	const u16 *source; // the thread's first chunk of the panel that comes next
	i64 step;          // to its second chunk
	unsigned target;   // its place in a panel in shared memory
	unsigned second;
#if !ASYNC
	uint4 part[2];
#endif

	__device__ inline void start(const u16 *operand, int first, int padded, unsigned shared) {
		int r = threadIdx.x / 4, c = threadIdx.x % 4;
		source = operand + (i64)(first + r) * padded + c * 8;
		step = (i64)(THREADS / 4) * padded;
		target = shared + chunkAt(r, c);
		second = shared + chunkAt(r + THREADS / 4, c);
	}

	// load begins to bring the next panel: at once into panel p, or into registers.
	__device__ inline void load(int p) {
#if ASYNC
		unsigned offset = p * EDGE * ROW * 2;
		asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target + offset), "l"(__cvta_generic_to_global(source)) : "memory");
		asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(second + offset), "l"(__cvta_generic_to_global(source + step)) : "memory");
#else
		part[0] = *(const uint4 *)source;
		part[1] = *(const uint4 *)(source + step);
#endif
		source += PANEL;
	}

#if !ASYNC
	__device__ inline void store(int p) {
		unsigned offset = p * EDGE * ROW * 2;
		asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(target + offset), "r"(part[0].x), "r"(part[0].y), "r"(part[0].z), "r"(part[0].w) : "memory");
		asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(second + offset), "r"(part[1].x), "r"(part[1].y), "r"(part[1].z), "r"(part[1].w) : "memory");
	}
#endif
};

// a and b are packed; largest holds what both were scaled by, for fp16.
template <class T, int EDGE>
__device__ inline void matmul(const u16 *a, const u16 *b, float *c, const unsigned *largest, int m, int n, int padded,
	const float *bias, float *pre, const float *residual, int flags) {
	const int TALL = EDGE / 32; // tiles of 16 rows of a warp; columns are 4 tiles of 8
	// Panel p is EDGE rows of A and EDGE of B.
	__shared__ __align__(128) unsigned char panels[PANELS * 2 * EDGE * ROW];
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, across = EDGE / 32;
	int row = warp / across * (EDGE / 2), column = warp % across * 32;
	int firstRow = blockIdx.y * EDGE, firstColumn = blockIdx.x * EDGE;
	unsigned shared = sharedAddress(panels);
	Mover<EDGE> left, right;
	left.start(a, firstRow, padded, shared);
	right.start(b, firstColumn, padded, shared + EDGE * ROW);

	float sum[TALL][4][4];
#pragma unroll
	for (int i = 0; i < TALL; i++)
#pragma unroll
		for (int j = 0; j < 4; j++)
#pragma unroll
			for (int e = 0; e < 4; e++) sum[i][j][e] = 0;

	int count = padded / PANEL;
#if ASYNC
	for (int p = 0; p < PANELS - 1; p++) {
		if (p < count) {
			left.load(p);
			right.load(p);
		}
		asm volatile("cp.async.commit_group;");
	}
#else
	left.load(0);
	right.load(0);
	left.store(0);
	right.store(0);
	__syncthreads();
#endif
	int now = 0;
	for (int p = 0; p < count; p++) {
#if ASYNC
		asm volatile("cp.async.wait_group %0;" ::"n"(PANELS - 2));
		__syncthreads(); // every thread's part of this panel is there, and the former panel is used
		int free = now == 0 ? PANELS - 1 : now - 1;
		if (p + PANELS - 1 < count) {
			left.load(free);
			right.load(free);
		}
		asm volatile("cp.async.commit_group;");
#else
		bool more = p + 1 < count;
		if (more) {
			left.load(0);
			right.load(0);
		}
#endif
		unsigned panel = shared + now * EDGE * ROW * 2;
#pragma unroll
		for (int k = 0; k < 2; k++) { // depths of 16
			unsigned x[TALL][4], y[2][4];
#pragma unroll
			for (int i = 0; i < TALL; i++) four(x[i], panel + chunkAt(row + i * 16 + lane % 16, k * 2 + lane / 16));
#pragma unroll
			for (int j = 0; j < 2; j++)
				four(y[j], panel + EDGE * ROW + chunkAt(column + j * 16 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
#pragma unroll
			for (int i = 0; i < TALL; i++)
#pragma unroll
				for (int j = 0; j < 4; j++) multiply(sum[i][j], x[i], y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1], T());
		}
#if ASYNC
		now = now == PANELS - 1 ? 0 : now + 1;
#else
		if (more) {
			left.store(now ^ 1);
			right.store(now ^ 1);
			__syncthreads();
		}
		now ^= 1;
#endif
	}

	// The scale is undone in two halves, neither of which can overflow when the result does not.
	int e = unscale(largest, T());
	float half = twoTo(e / 2), rest = twoTo(e - e / 2);
#pragma unroll
	for (int i = 0; i < TALL; i++)
#pragma unroll
		for (int h = 0; h < 2; h++) { // a tile's lane has two columns of rows lane/4 and lane/4 + 8
			int r = firstRow + row + i * 16 + h * 8 + lane / 4;
			if (r >= m) continue;
#pragma unroll
			for (int j = 0; j < 4; j++) {
				int at = firstColumn + column + j * 8 + lane % 4 * 2;
				float x[2] = {sum[i][j][h * 2] * half * rest, sum[i][j][h * 2 + 1] * half * rest};
				finish<2>(x, (i64)r * n + at, at, n - at, c, bias, pre, residual, flags);
			}
		}
}

#define MATMUL(name, T, edge) \
	extern "C" __global__ void __launch_bounds__(edge * 2, edge == 128 ? 1 : 4) name(const u16 *a, const u16 *b, float *c, const unsigned *largest, \
		int m, int n, int padded, const float *bias, float *pre, const float *residual, int flags) { \
		matmul<T, edge>(a, b, c, largest, m, n, padded, bias, pre, residual, flags); \
	}

PACK(fp16, FP16)
MATMUL(matmul_fp16_64, FP16, 64)
MATMUL(matmul_fp16_128, FP16, 128)
#if ASYNC
PACK(bf16, BF16)
MATMUL(matmul_bf16_64, BF16, 64)
MATMUL(matmul_bf16_128, BF16, 128)
#endif
