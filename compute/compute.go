package compute

import "math"

// Buffer is a span of float32 memory on one device. It is a small value: copy
// it, slice it, keep it in structs. On a CPU Host holds the values; on a device
// with memory of its own Addr and N say where they are and Host is nil.
type Buffer struct {
	Host []float32
	Addr uint64 // device address in bytes, 0 on a CPU
	N    int    // values at Addr, 0 on a CPU
}

// Len returns the number of values.
func (b Buffer) Len() int {
	if b.Addr != 0 {
		return b.N
	}
	return len(b.Host)
}

// Slice returns the values [from, to) without copying or allocating.
// It panics when the range is not inside b.
func (b Buffer) Slice(from, to int) Buffer {
	if b.Addr == 0 {
		return Buffer{Host: b.Host[from:to:to]}
	}
	if from < 0 || to < from || to > b.N {
		panic("compute: slice outside of buffer")
	}
	return Buffer{Addr: b.Addr + 4*uint64(from), N: to - from}
}

// Ints is a span of int32 memory on one device: token numbers.
type Ints struct {
	Host []int32
	Addr uint64
	N    int
}

// Len returns the number of values.
func (b Ints) Len() int {
	if b.Addr != 0 {
		return b.N
	}
	return len(b.Host)
}

// Slice returns the values [from, to) without copying or allocating.
// It panics when the range is not inside b.
func (b Ints) Slice(from, to int) Ints {
	if b.Addr == 0 {
		return Ints{Host: b.Host[from:to:to]}
	}
	if from < 0 || to < from || to > b.N {
		panic("compute: slice outside of buffer")
	}
	return Ints{Addr: b.Addr + 4*uint64(from), N: to - from}
}

// Device computes. Operations take effect in the order of the calls but may
// still be running when a call returns; Sync, SumSquares and the Download
// functions wait. A device is used by one goroutine at a time. Operations
// allocate nothing in a steady state (scratch grows once to the largest shape
// seen). Buffers of one operation do not overlap unless its comment allows it.
type Device interface {
	// Name says what computes, for people: "cpu avx512, 2 threads".
	Name() string
	// Precision says how matrices are multiplied.
	Precision() Precision
	// Alloc returns n zeroed values, n >= 0, or an error when memory is short.
	Alloc(n int) (Buffer, error)
	// AllocInts returns n zeroed token numbers.
	AllocInts(n int) (Ints, error)
	// Free gives back what Alloc returned (not a slice of it).
	Free(b Buffer)
	// FreeInts gives back what AllocInts returned.
	FreeInts(b Ints)
	// Upload copies src to the start of dst, which is at least as long. The
	// caller may reuse src at once.
	Upload(dst Buffer, src []float32)
	// UploadInts copies src to the start of dst, which is at least as long.
	UploadInts(dst Ints, src []int32)
	// Download waits for work that writes src and copies len(dst) values.
	Download(dst []float32, src Buffer) error
	// Sync waits for all work and returns the first error since the last Sync.
	Sync() error
	// Close waits for all work and gives everything back; a second Close is harmless.
	Close() error

	// Zero sets every value of x to +0.
	Zero(x Buffer)
	// Copy sets dst to src; equal lengths, no overlap.
	Copy(dst, src Buffer)
	// Add sets dst to a + b; equal lengths; dst may be a or b.
	Add(dst, a, b Buffer)
	// Scale multiplies every value of x by s.
	Scale(x Buffer, s float32)
	// Combine sets dst to s·a + t·b; equal lengths; dst may be a or b. A device
	// may fuse a product with the sum.
	Combine(dst Buffer, s float32, a Buffer, t float32, b Buffer)
	// SumSquares waits and returns the sum of x[i]², accumulated with the
	// error of float64 sums over float32 partial sums of at most 64 values.
	SumSquares(x Buffer) float64

	MatMul(op MatMul)
	BiasGrad(op BiasGrad)
	LayerNorm(op LayerNorm)
	LayerNormGrad(op LayerNormGrad)
	RMSNorm(op RMSNorm)
	RMSNormGrad(op RMSNormGrad)
	// GELU sets y to gelu(x) in the tanh form (see MatMul); y may be x.
	GELU(y, x Buffer)
	// GELUGrad sets dx to dy·gelu'(x) and y to gelu(x) once more; dx may be dy, y may be x.
	GELUGrad(dx, y, dy, x Buffer)
	SwiGLU(op SwiGLU)
	SwiGLUGrad(op SwiGLUGrad)
	Rotary(op Rotary)
	Attention(op Attention)
	AttentionGrad(op AttentionGrad)
	Embed(op Embed)
	EmbedGrad(op EmbedGrad)
	CrossEntropy(op CrossEntropy)
	AdamW(op AdamW)
}

// Form says which operands of a MatMul are transposed in memory.
type Form uint8

// The three products of a linear layer. GPT-2 stores a weight [in, out], Llama
// and an output head [out, in].
const (
	// NN is C = A·B with A [M,K], B [K,N]: X·W for W [in, out], dX = dY·W for W [out, in].
	NN Form = iota
	// NT is C = A·Bᵀ with A [M,K], B [N,K]: dX = dY·Wᵀ for W [in, out], X·Wᵀ for W [out, in].
	NT
	// TN is C = Aᵀ·B with A [K,M], B [K,N]: dW = Xᵀ·dY for W [in, out], dYᵀ·X for W [out, in].
	TN
)

// String returns "NN", "NT" or "TN".
func (f Form) String() string {
	switch f {
	case NN:
		return "NN"
	case NT:
		return "NT"
	case TN:
		return "TN"
	}
	return "form?"
}

// MatMul computes C [M,N] from A and B as Form says, then the epilogue:
//
//	t = product            (+ C, with Accumulate)
//	t = t + Bias[column]   (when Bias is not empty)
//	Pre = t                (when Pre is not empty)
//	t = gelu(t)            (with GELU)
//	C = t + Residual       (when Residual is not empty)
//
// gelu(x) = x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), "gelu_new" of GPT-2
// (Hendrycks and Gimpel 2016, section 2). Residual may be C.
//
// With Symmetric, M = N and the caller knows that C becomes symmetric but for
// rounding, as a Gram matrix does or a product of polynomials of one: a device may
// compute the half at and above the diagonal and copy it. What C starts from and
// Residual are then symmetric too, and there is no Bias, Pre or GELU.
type MatMul struct {
	Form       Form
	M, N, K    int
	A, B, C    Buffer
	Accumulate bool
	Symmetric  bool
	Epilogue   Epilogue
}

// Epilogue is what a MatMul does with the product before it stores it. The
// zero value stores the product as it is.
type Epilogue struct {
	Bias     Buffer // [N]
	Pre      Buffer // [M,N], receives the value before gelu, for GELUGrad
	GELU     bool
	Residual Buffer // [M,N]
}

// BiasGrad adds to DBias [N] the column sums of DY [Rows,N].
type BiasGrad struct {
	DBias, DY Buffer
	Rows, N   int
}

// LayerNorm sets each row of Y [Rows,N] to (x-mean)·rstd·Gain + Bias with the
// row's mean and rstd = 1/√(variance + Eps), which it stores in Mean and RStd
// [Rows] (Ba, Kiros and Hinton 2016, equation 4). Y may be X.
type LayerNorm struct {
	Y, X       Buffer // [Rows,N]
	Gain, Bias Buffer // [N]
	Mean, RStd Buffer // [Rows]
	Rows, N    int
	Eps        float32
}

// LayerNormGrad computes the gradient of LayerNorm from its input X and the
// Mean and RStd it stored: DGain and DBias [N] are added to; DX [Rows,N] is
// added to with Accumulate and overwritten without, and may then be DY.
type LayerNormGrad struct {
	DX, DY, X    Buffer // [Rows,N]
	DGain, DBias Buffer // [N]
	Gain         Buffer // [N]
	Mean, RStd   Buffer // [Rows]
	Rows, N      int
	Accumulate   bool
}

// RMSNorm sets each row of Y [Rows,N] to x·rstd·Gain with rstd = 1/√(mean(x²) +
// Eps), which it stores in RStd [Rows] (Zhang and Sennrich 2019, equation 4).
// Y may be X.
type RMSNorm struct {
	Y, X    Buffer // [Rows,N]
	Gain    Buffer // [N]
	RStd    Buffer // [Rows]
	Rows, N int
	Eps     float32
}

// RMSNormGrad computes the gradient of RMSNorm from its input X and the RStd it
// stored: DGain [N] is added to; DX [Rows,N] is added to with Accumulate and
// overwritten without, and may then be DY.
type RMSNormGrad struct {
	DX, DY, X   Buffer // [Rows,N]
	DGain, Gain Buffer // [N]
	RStd        Buffer // [Rows]
	Rows, N     int
	Accumulate  bool
}

// SwiGLU sets Y [Rows,N] to silu(g)·u with silu(g) = g/(1 + exp(-g)), where each
// row of GateUp [Rows,2N] is N gates g and then N values u (Shazeer 2020, GLU
// Variants, equation 6, without its products).
type SwiGLU struct {
	Y, GateUp Buffer
	Rows, N   int
}

// SwiGLUGrad overwrites DGateUp [Rows,2N], which may be GateUp, with the gradient
// of SwiGLU, given DY [Rows,N].
type SwiGLUGrad struct {
	DGateUp, DY, GateUp Buffer
	Rows, N             int
}

// Rotary turns the first H heads of S values in each row of X [B,T,Stride] in
// place by angles that grow with the position: values i and i + S/2 of a head at
// position p are a point that is turned by the angle whose cosine is Table[p,i]
// and whose sine is Table[p,S/2+i] (Su et al. 2021, RoFormer, section 3.4, in the
// order of Hugging Face's Llama). Row t of a batch element is position From+t, and
// Table is at least [From+T,S]. Back turns the other way, which is the gradient.
type Rotary struct {
	X, Table     Buffer
	B, T, From   int
	H, S, Stride int // S is even; H·S ≤ Stride
	Back         bool
}

// Attention is causal self-attention with H query heads of S = C/H values, scale
// 1/√S, and KV heads of keys and values, each of which serves H/KV query heads
// that stand side by side (Ainslie et al. 2023, GQA, section 2.2; KV = H is the
// ordinary kind). QKV [B,T,(H+2·KV)·S] holds queries, keys and values of a
// position side by side, each head by head. Only queries at positions From..T-1
// are computed (From > 0 continues a sequence whose earlier keys and values are
// in QKV): Out is [B,T-From,C] and LSE [B,H,T-From] receives the logarithm of
// each query's sum of exponentials, all that AttentionGrad needs (Dao et al.
// 2022, FlashAttention, section 3.1). LSE may be empty when no gradient follows.
type Attention struct {
	Out, LSE, QKV    Buffer
	B, T, H, C, From int
	KV               int // a divisor of H; 0 means H
}

// AttentionGrad overwrites DQKV, shaped like QKV, with the gradient of Attention
// with From = 0, given DOut [B,T,C] and the forward's QKV, Out and LSE. No [T,T]
// matrix is stored between the two: dS = P∘(dP - rowsum(dOut∘Out)).
type AttentionGrad struct {
	DQKV, DOut    Buffer
	QKV, Out, LSE Buffer
	B, T, H, C    int
	KV            int // as in Attention
}

// Embed sets Out [B,T,C] to WTE[token] + WPE[From+t]. Tokens [B,T] are in
// [0,V); WTE is [V,C] and WPE at least [From+T,C], or empty for none.
type Embed struct {
	Out           Buffer
	Tokens        Ints
	WTE, WPE      Buffer
	B, T, C, From int
}

// EmbedGrad adds DOut [B,T,C] to the rows of DWTE [V,C] and DWPE [>=T,C] (which
// may be empty) that Embed with From = 0 read; equal tokens are summed in row
// order.
type EmbedGrad struct {
	DWTE, DWPE Buffer
	DOut       Buffer
	Tokens     Ints
	B, T, C    int
}

// CrossEntropy sets Losses [Rows] to -log softmax(Logits[row])[target] in nats.
// With Grad it replaces Logits [Rows,V] by the gradient of Scale·sum(Losses):
// (softmax - onehot)·Scale. Targets [Rows] are in [0,V). Callers pass a large
// vocabulary in chunks of rows.
type CrossEntropy struct {
	Logits, Losses Buffer
	Targets        Ints
	Rows, V        int
	Grad           bool
	Scale          float32
}

// Range is the values [From, To) of a flat buffer.
type Range struct{ From, To int }

// AdamW is one step of Adam with decoupled weight decay over flat buffers of
// equal length (Loshchilov and Hutter 2019, algorithm 2, in PyTorch's form):
//
//	g = Grads·GradScale
//	M = Beta1·M + (1-Beta1)·g          V = Beta2·V + (1-Beta2)·g²
//	p = p·(1 - LR·WeightDecay)         (only inside the ranges of Decay)
//	p = p - LR/(1-Beta1^Step) · M / (√V/√(1-Beta2^Step) + Eps)
//
// All in float32, scalars from float64 rounded once (see Scalars); a device
// may fuse a product with the sum it feeds, so devices agree to rounding.
// Grads are left as they are.
type AdamW struct {
	Params, Grads, M, V   Buffer
	Decay                 []Range // ascending, disjoint
	LR, Beta1, Beta2, Eps float64
	WeightDecay           float64
	GradScale             float32 // clipping and averaging; 1 when neither
	Step                  int     // 1 for the first step
}

// AdamWScalars are the constants of one AdamW step, computed in float64 and
// rounded once to float32.
type AdamWScalars struct {
	Beta1, OneMinusBeta1 float32
	Beta2, OneMinusBeta2 float32
	Eps, GradScale       float32
	StepSize             float32 // LR/(1-Beta1^Step)
	InvRootCorrection2   float32 // 1/√(1-Beta2^Step)
	Keep                 float32 // 1 - LR·WeightDecay
}

// Scalars returns the constants of the step, the same on every device.
func (op *AdamW) Scalars() AdamWScalars {
	step := float64(op.Step)
	return AdamWScalars{
		Beta1: float32(op.Beta1), OneMinusBeta1: float32(1 - op.Beta1),
		Beta2: float32(op.Beta2), OneMinusBeta2: float32(1 - op.Beta2),
		Eps: float32(op.Eps), GradScale: op.GradScale,
		StepSize:           float32(op.LR / (1 - math.Pow(op.Beta1, step))),
		InvRootCorrection2: float32(1 / math.Sqrt(1-math.Pow(op.Beta2, step))),
		Keep:               float32(1 - op.LR*op.WeightDecay),
	}
}
