package cuda

// kernel names an entry of the embedded PTX.
type kernel int

// The kernels, see the sources in cuda/kernels.
const (
	kernelAdd kernel = iota
	kernelScale
	kernelCombine
	kernelGELU
	kernelGELUGrad
	kernelSwiGLU
	kernelSwiGLUGrad
	kernelRotary
	kernelAdamW
	kernelSumSquares
	kernelSumPartial
	kernelLayerNorm
	kernelLayerNormGrad
	kernelRMSNorm
	kernelRMSNormGrad
	kernelBiasColumns
	kernelLayerNormColumns
	kernelRMSNormColumns
	kernelAddChunks
	kernelEmbed
	kernelEmbedGrad
	kernelPositionGrad
	kernelCrossEntropy
	kernelMatMulNN64 // the three forms in a row, as in compute.Form
	kernelMatMulNT64
	kernelMatMulTN64
	kernelMatMulNN128
	kernelMatMulNT128
	kernelMatMulTN128
	kernelAttention32 // the three sizes of heads in a row
	kernelAttention64
	kernelAttention128
	kernelQueryGrad32
	kernelQueryGrad64
	kernelQueryGrad128
	kernelKeyGrad32
	kernelKeyGrad64
	kernelKeyGrad128
	kernelLargest
	kernelPackAlongFP16 // for each of fp16 and bf16, the same four in a row
	kernelPackAcrossFP16
	kernelMatMulFP1664
	kernelMatMulFP16128
	kernelPackAlongBF16
	kernelPackAcrossBF16
	kernelMatMulBF1664
	kernelMatMulBF16128
	kernelCount
)

// maxArgs is the most parameters of a kernel.
const maxArgs = 20

// entry is where a kernel is found.
type entry struct {
	module, name string
	capability   int // least of the module's architecture that has it
}

func entries() [kernelCount]entry {
	return [kernelCount]entry{
		kernelAdd:              {"elementwise", "add", 61},
		kernelScale:            {"elementwise", "scale", 61},
		kernelCombine:          {"elementwise", "combine", 61},
		kernelGELU:             {"elementwise", "gelu_forward", 61},
		kernelGELUGrad:         {"elementwise", "gelu_grad", 61},
		kernelSwiGLU:           {"elementwise", "swiglu", 61},
		kernelSwiGLUGrad:       {"elementwise", "swiglu_grad", 61},
		kernelRotary:           {"elementwise", "rotary", 61},
		kernelAdamW:            {"elementwise", "adamw", 61},
		kernelSumSquares:       {"elementwise", "sum_squares", 61},
		kernelSumPartial:       {"elementwise", "sum_partial", 61},
		kernelLayerNorm:        {"norm", "layer_norm", 61},
		kernelLayerNormGrad:    {"norm", "layer_norm_grad", 61},
		kernelRMSNorm:          {"norm", "rms_norm", 61},
		kernelRMSNormGrad:      {"norm", "rms_norm_grad", 61},
		kernelBiasColumns:      {"norm", "bias_columns", 61},
		kernelLayerNormColumns: {"norm", "layer_norm_columns", 61},
		kernelRMSNormColumns:   {"norm", "rms_norm_columns", 61},
		kernelAddChunks:        {"norm", "add_chunks", 61},
		kernelEmbed:            {"embedding", "embed", 61},
		kernelEmbedGrad:        {"embedding", "embed_grad", 61},
		kernelPositionGrad:     {"embedding", "position_grad", 61},
		kernelCrossEntropy:     {"loss", "cross_entropy", 61},
		kernelMatMulNN64:       {"matmul", "matmul_nn_64", 61},
		kernelMatMulNT64:       {"matmul", "matmul_nt_64", 61},
		kernelMatMulTN64:       {"matmul", "matmul_tn_64", 61},
		kernelMatMulNN128:      {"matmul", "matmul_nn_128", 61},
		kernelMatMulNT128:      {"matmul", "matmul_nt_128", 61},
		kernelMatMulTN128:      {"matmul", "matmul_tn_128", 61},
		kernelAttention32:      {"attention", "attention_32", 61},
		kernelAttention64:      {"attention", "attention_64", 61},
		kernelAttention128:     {"attention", "attention_128", 61},
		kernelQueryGrad32:      {"attention", "query_grad_32", 61},
		kernelQueryGrad64:      {"attention", "query_grad_64", 61},
		kernelQueryGrad128:     {"attention", "query_grad_128", 61},
		kernelKeyGrad32:        {"attention", "key_grad_32", 61},
		kernelKeyGrad64:        {"attention", "key_grad_64", 61},
		kernelKeyGrad128:       {"attention", "key_grad_128", 61},
		kernelLargest:          {"mixed", "largest", 75},
		kernelPackAlongFP16:    {"mixed", "pack_along_fp16", 75},
		kernelPackAcrossFP16:   {"mixed", "pack_across_fp16", 75},
		kernelMatMulFP1664:     {"mixed", "matmul_fp16_64", 75},
		kernelMatMulFP16128:    {"mixed", "matmul_fp16_128", 75},
		kernelPackAlongBF16:    {"mixed", "pack_along_bf16", 80},
		kernelPackAcrossBF16:   {"mixed", "pack_across_bf16", 80},
		kernelMatMulBF1664:     {"mixed", "matmul_bf16_64", 80},
		kernelMatMulBF16128:    {"mixed", "matmul_bf16_128", 80},
	}
}
