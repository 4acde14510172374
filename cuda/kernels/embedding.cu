// Compiled for sm_61, PTX 6.0.
//
// Token and position embeddings and their gradients.
#include "common.cuh"

// embed: block x is a row of out [B·T,C], threads go along it. wpe may be null.
KERNEL embed(float *out, const int *tokens, const float *wte, const float *wpe, int positions, int from, int width) {
	i64 r = blockIdx.x;
	const float *word = wte + (i64)tokens[r] * width, *place = wpe + (from + r % positions) * width;
	for (int j = threadIdx.x; j < width; j += blockDim.x) out[r * width + j] = wpe ? word[j] + place[j] : word[j];
}

// embed_grad adds the rows of dout to those of dwte, equal tokens in the order of the rows, without atomics: the block of
// the first row with a token adds all rows with it, every other block ends. Tokens are tested 128 at a time.
KERNEL embed_grad(float *dwte, const float *dout, const int *tokens, int rows, int width) {
	__shared__ int same[128];
	int row = blockIdx.x, token = tokens[row];
	int earlier = 0;
	for (int i = threadIdx.x; i < row; i += 128) earlier |= tokens[i] == token;
	if (__syncthreads_or(earlier)) return;
	float *target = dwte + (i64)token * width;
	for (int first = row; first < rows; first += 128) {
		int i = first + threadIdx.x;
		same[threadIdx.x] = i < rows && tokens[i] == token;
		// The barrier also counts, so that a stretch without the token costs no second look.
		if (__syncthreads_or(same[threadIdx.x])) {
			for (int j = threadIdx.x; j < width; j += 128) {
				float sum = target[j];
				for (int k = 0; k < 128; k++)
					if (same[k]) sum += dout[(i64)(first + k) * width + j];
				target[j] = sum;
			}
		}
		__syncthreads();
	}
}

// position_grad adds to dwpe [T,C] the rows of dout [B,T,C] of each position, in the order of the batch.
KERNEL position_grad(float *dwpe, const float *dout, int batch, i64 n) {
	i64 i = ownIndex();
	if (i >= n) return;
	float sum = dwpe[i];
	for (int b = 0; b < batch; b++) sum += dout[b * n + i];
	dwpe[i] = sum;
}
