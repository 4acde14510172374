package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const maxConfigJSON = 1 << 20 // bytes

// gpt2JSON is config.json of Hugging Face's GPT2Config. A pointer is a key
// whose absence means GPT-2's default.
type gpt2JSON struct {
	Architectures []string `json:"architectures"`
	ModelType     string   `json:"model_type"`
	Layers        int      `json:"n_layer"`
	Heads         int      `json:"n_head"`
	Width         int      `json:"n_embd"`
	Context       int      `json:"n_positions"`
	OldContext    int      `json:"n_ctx"`
	Inner         *int     `json:"n_inner"`
	Vocab         int      `json:"vocab_size"`
	Activation    *string  `json:"activation_function"`
	Eps           *float64 `json:"layer_norm_epsilon"`
	ScaleWeights  *bool    `json:"scale_attn_weights"`
	ScaleByLayer  *bool    `json:"scale_attn_by_inverse_layer_idx"`
	Tied          *bool    `json:"tie_word_embeddings"`
	Residual      float64  `json:"resid_pdrop"`
	Embedding     float64  `json:"embd_pdrop"`
	Attention     float64  `json:"attn_pdrop"`
	Cross         bool     `json:"add_cross_attention,omitempty"`
	endsJSON
}

// llamaJSON is config.json of Hugging Face's LlamaConfig. A pointer is a key
// whose absence means that class's default.
type llamaJSON struct {
	Architectures []string  `json:"architectures"`
	ModelType     string    `json:"model_type"`
	Layers        int       `json:"num_hidden_layers"`
	Heads         int       `json:"num_attention_heads"`
	KVHeads       *int      `json:"num_key_value_heads"`
	HeadSize      *int      `json:"head_dim,omitempty"`
	Width         int       `json:"hidden_size"`
	Hidden        int       `json:"intermediate_size"`
	Context       int       `json:"max_position_embeddings"`
	Vocab         int       `json:"vocab_size"`
	Activation    *string   `json:"hidden_act"`
	Eps           *float32  `json:"rms_norm_eps"`
	Theta         *float32  `json:"rope_theta"`
	Scaling       *ropeJSON `json:"rope_scaling"`
	Rope          *ropeJSON `json:"rope_parameters,omitempty"`
	AttentionBias bool      `json:"attention_bias"`
	InnerBias     bool      `json:"mlp_bias"`
	Tied          *bool     `json:"tie_word_embeddings"`
	Attention     float64   `json:"attention_dropout"`
	endsJSON
}

// endsJSON is what both families' config.json ends with. The tokens, numbers or
// lists of them, are the tokenizer's matter.
type endsJSON struct {
	BOS  json.RawMessage `json:"bos_token_id"`
	EOS  json.RawMessage `json:"eos_token_id"`
	Type string          `json:"torch_dtype,omitempty"`

	Subspace int `json:"dunlin_subspace,omitempty"` // Config.Subspace, of which Hugging Face's classes need not know
}

// ropeJSON is what config.json says about the angles beside or instead of
// rope_theta, in older and newer words.
type ropeJSON struct {
	Kind  string   `json:"rope_type"`
	Old   string   `json:"type"`
	Theta *float32 `json:"rope_theta"`
	Share *float64 `json:"partial_rotary_factor"` // of a head's values that turn
}

// plain says that the angles are those of the paper.
func (r *ropeJSON) plain() bool {
	return r == nil || (r.Kind == "" || r.Kind == "default") && (r.Old == "" || r.Old == "default") && valueOr(r.Share, 1) == 1
}

// MarshalJSON writes config.json with Hugging Face's keys. A byte vocabulary
// has no begin and end tokens, so those keys are null.
func (c Config) MarshalJSON() ([]byte, error) {
	yes, no, tied := true, false, !c.Untied
	if c.Family == Llama {
		activation := "silu"
		return json.Marshal(llamaJSON{
			Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama",
			Layers: c.Layers, Heads: c.Heads, KVHeads: &c.KVHeads, Width: c.Width, Hidden: c.Hidden, Context: c.Context, Vocab: c.Vocab,
			Activation: &activation, Eps: &c.NormEps, Theta: &c.RopeTheta, Tied: &tied, endsJSON: endsJSON{Type: "float32", Subspace: c.Subspace},
		})
	}
	activation, eps := "gelu_new", layerNormEps
	return json.Marshal(gpt2JSON{
		Architectures: []string{"GPT2LMHeadModel"}, ModelType: "gpt2",
		Layers: c.Layers, Heads: c.Heads, Width: c.Width, Context: c.Context, OldContext: c.Context, Vocab: c.Vocab,
		Activation: &activation, Eps: &eps, ScaleWeights: &yes, ScaleByLayer: &no, Tied: &tied, endsJSON: endsJSON{Type: "float32", Subspace: c.Subspace},
	})
}

// UnmarshalJSON reads config.json, ignores unknown keys and refuses what this
// model would compute differently. The result is valid.
func (c *Config) UnmarshalJSON(text []byte) error {
	if len(text) > maxConfigJSON {
		return fmt.Errorf("model config of %d bytes: at most %d are read", len(text), maxConfigJSON)
	}
	var kind struct {
		ModelType     string          `json:"model_type"`
		Architectures []string        `json:"architectures"`
		Quantization  json.RawMessage `json:"quantization_config"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return fmt.Errorf("parse model config: %w", err)
	}
	read, classes := readGPT2, []string{"GPT2LMHeadModel", "GPT2Model"}
	switch kind.ModelType {
	case "", "gpt2":
	case "llama":
		read, classes = readLlama, []string{"LlamaForCausalLM", "LlamaModel"}
	default:
		return fmt.Errorf("model config: model_type %q, gpt2 and llama are supported", kind.ModelType)
	}
	if a := kind.Architectures; len(a) > 0 && !slices.Contains(classes, a[0]) {
		return fmt.Errorf("model config: architectures %q, only language models are supported: %s", a[0], strings.Join(classes, " or "))
	}
	if len(kind.Quantization) > 0 && string(kind.Quantization) != "null" {
		return errors.New("model config: quantization_config, quantised weights are not supported: save the model in fp32, fp16 or bf16")
	}
	parsed, err := read(text)
	if err != nil {
		return err
	}
	if err := parsed.Validate(); err != nil {
		return fmt.Errorf("model config: %w", err)
	}
	*c = parsed
	return nil
}

func readGPT2(text []byte) (Config, error) {
	var j gpt2JSON
	if err := json.Unmarshal(text, &j); err != nil {
		return Config{}, fmt.Errorf("parse model config: %w", err)
	}
	if j.Context == 0 {
		j.Context = j.OldContext
	}
	c := Config{Layers: j.Layers, Heads: j.Heads, Width: j.Width, Context: j.Context, Vocab: j.Vocab, Untied: !valueOr(j.Tied, true), Subspace: j.Subspace}
	switch {
	case j.Activation != nil && *j.Activation != "gelu_new" && *j.Activation != "gelu_pytorch_tanh":
		return c, fmt.Errorf("model config: activation_function %q, only gelu_new is supported", *j.Activation)
	case j.Eps != nil && *j.Eps != layerNormEps:
		return c, fmt.Errorf("model config: layer_norm_epsilon %v, only %v is supported", *j.Eps, layerNormEps)
	case j.Inner != nil && *j.Inner != 4*j.Width:
		return c, fmt.Errorf("model config: n_inner %d, only 4 times n_embd is supported", *j.Inner)
	case j.ScaleWeights != nil && !*j.ScaleWeights, j.ScaleByLayer != nil && *j.ScaleByLayer:
		return c, errors.New("model config: unusual attention scaling (scale_attn_*) is not supported")
	case j.Cross:
		return c, errors.New("model config: add_cross_attention true, only decoders on their own are supported")
	}
	return c, nil
}

// readLlama fills in LlamaConfig's defaults: eps 1e-6, theta 10,000, as many
// heads of keys as of queries, a head of its own.
func readLlama(text []byte) (Config, error) {
	var j llamaJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return Config{}, fmt.Errorf("parse model config: %w", err)
	}
	c := Config{
		Family: Llama, Layers: j.Layers, Heads: j.Heads, Width: j.Width, Context: j.Context, Vocab: j.Vocab,
		KVHeads: valueOr(j.KVHeads, j.Heads), Hidden: j.Hidden, NormEps: valueOr(j.Eps, 1e-6),
		RopeTheta: valueOr(j.Theta, 10000), Untied: !valueOr(j.Tied, false), Subspace: j.Subspace,
	}
	if j.Rope != nil {
		c.RopeTheta = valueOr(j.Rope.Theta, c.RopeTheta)
	}
	switch {
	case j.Activation != nil && *j.Activation != "silu":
		return c, fmt.Errorf("model config: hidden_act %q, only silu is supported", *j.Activation)
	case j.AttentionBias || j.InnerBias:
		return c, errors.New("model config: attention_bias or mlp_bias true, biases are not supported for llama")
	case !j.Scaling.plain() || !j.Rope.plain():
		return c, errors.New("model config: rope_scaling, only the plain rotary positions are supported (rope_type default, partial_rotary_factor 1)")
	case j.HeadSize != nil && *j.HeadSize*j.Heads != j.Width:
		return c, fmt.Errorf("model config: head_dim %d, only hidden_size/num_attention_heads is supported", *j.HeadSize)
	}
	return c, nil
}

func valueOr[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}
