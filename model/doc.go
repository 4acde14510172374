// Package model is the language model that a run trains, of one of two
// families: a GPT-2 style decoder with learned positions, pre-LayerNorm blocks,
// GELU and an output head tied to the token embedding (Radford et al. 2019), or
// a Llama style decoder with rotary positions, RMSNorm, SwiGLU, grouped-query
// attention, no biases and a head of its own or tied (Touvron et al. 2023).
// Names, shapes, layout and config.json are those of Hugging Face's
// GPT2LMHeadModel and LlamaForCausalLM, so checkpoints open there unchanged.
//
// Config is the shape of a model, Preset the table of the shapes we use, and
// ReadShape takes one from a file. Config.Params lists every parameter in the
// fixed order in which all of them lie in one flat buffer: what RunSpec,
// fragments and checkpoints refer to.
//
// Model holds parameters, gradients and activations on a compute.Device and
// runs forward and backward by hand, one operation after the other. A family is
// its kind of block (gpt2.go, llama.go): in each the backward pass of a line of
// forward is found in backward in reverse order. All memory is allocated by
// New: a training step allocates nothing. Room (room.go) says what waits in memory
// between the passes and what is computed again, which changes no bit. Arguments
// from outside (tokens, batches, tensors) are checked before work.
//
// A Stage is a Part of a model for a pipeline (partition.go): some of its blocks,
// with the embeddings or the head at the ends.
//
// A Model or a Stage is used by one goroutine at a time.
package model
