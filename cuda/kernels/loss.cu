// Compiled for sm_61, PTX 6.0.
//
// Cross-entropy of one row of logits a block of 8 warps. A large vocabulary comes in pieces of rows.
#include "common.cuh"

// blockReduce combines a value of each of 256 threads, always in the same order, and returns the result to all.
template <bool MAX>
__device__ inline float blockReduce(float x) {
	__shared__ float shared[8];
	x = MAX ? warpMax(x) : warpSum(x);
	__syncthreads(); // a former reduction is read
	if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
	__syncthreads();
	x = shared[0];
#pragma unroll
	for (int i = 1; i < 8; i++) x = MAX ? fmaxf(x, shared[i]) : x + shared[i];
	return x;
}

// losses[r] = max + log Σ exp(logit - max) - logit[target], the large terms subtracted first. With grad the logits become
// (softmax - onehot)·scale.
KERNEL cross_entropy(float *logits, float *losses, const int *targets, int vocabulary, int grad, float scale) {
	float *row = logits + (i64)blockIdx.x * vocabulary;
	int target = targets[blockIdx.x];
	float highest = -INFINITY_F;
	for (int j = threadIdx.x; j < vocabulary; j += 256) highest = fmaxf(highest, row[j]);
	highest = blockReduce<true>(highest);
	float sum = 0;
	for (int j = threadIdx.x; j < vocabulary; j += 256) sum += expf(row[j] - highest);
	sum = blockReduce<false>(sum);
	if (threadIdx.x == 0) losses[blockIdx.x] = (highest - row[target]) + logf(sum);
	if (!grad) return;
	__syncthreads(); // row[target] is read before it changes
	float share = scale / sum;
	for (int j = threadIdx.x; j < vocabulary; j += 256) {
		float p = expf(row[j] - highest) * share;
		row[j] = j == target ? p - scale : p;
	}
}
