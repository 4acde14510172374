package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Config is the shape of a model.
type Config struct {
	Layers  int // blocks, 1 to 512
	Heads   int // attention heads, a divisor of Width
	Width   int // values of a position, 1 to 65,536
	Context int // positions of the longest window, 1 to 2²⁰
	Vocab   int // tokens, 2 to 2²⁴
}

// Limits of a Config: above them a file is taken for damage.
const (
	maxLayers     = 512
	maxWidth      = 1 << 16
	maxContext    = 1 << 20
	maxVocab      = 1 << 24
	maxParameters = 1 << 36
	maxConfigJSON = 1 << 20 // bytes
)

// layerNormEps is GPT-2's, the only one that is supported.
const layerNormEps = 1e-5

type preset struct {
	name   string
	config Config
}

func presets() []preset {
	return []preset{
		{"pico", Config{Layers: 2, Heads: 2, Width: 64, Context: 32, Vocab: 256}},
		{"nano", Config{Layers: 4, Heads: 4, Width: 128, Context: 128, Vocab: 256}},
		{"micro", Config{Layers: 4, Heads: 4, Width: 256, Context: 256, Vocab: 256}},
		{"small", Config{Layers: 6, Heads: 6, Width: 384, Context: 256, Vocab: 256}},
		{"gpt2", Config{Layers: 12, Heads: 12, Width: 768, Context: 1024, Vocab: 50257}},
	}
}

// Presets returns the names of the presets, smallest first.
func Presets() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// Preset returns the shape called name, or an error that lists the names.
func Preset(name string) (Config, error) {
	for _, p := range presets() {
		if p.name == name {
			return p.config, nil
		}
	}
	return Config{}, fmt.Errorf("preset %q: allowed are %s", name, strings.Join(Presets(), ", "))
}

// Validate reports every field outside of its range.
func (c Config) Validate() error {
	var faults []error
	check := func(name string, value, low, high int) {
		if value < low || value > high {
			faults = append(faults, fmt.Errorf("model %s %d: allowed are %d to %d", name, value, low, high))
		}
	}
	check("layers", c.Layers, 1, maxLayers)
	check("heads", c.Heads, 1, maxWidth)
	check("width", c.Width, 1, maxWidth)
	check("context", c.Context, 1, maxContext)
	check("vocabulary", c.Vocab, 2, maxVocab)
	if len(faults) == 0 && c.Width%c.Heads != 0 {
		faults = append(faults, fmt.Errorf("model heads %d: must divide the width %d", c.Heads, c.Width))
	}
	if len(faults) == 0 && c.Parameters() > maxParameters {
		faults = append(faults, fmt.Errorf("model of %d parameters: at most %d are supported", c.Parameters(), maxParameters))
	}
	return errors.Join(faults...)
}

// Parameters returns the number of values of all parameters.
func (c Config) Parameters() int {
	block := 12*c.Width*c.Width + 13*c.Width
	return (c.Vocab+c.Context+2)*c.Width + c.Layers*block
}

// FLOPPerToken returns the floating-point operations of training on one token
// at a window of T positions, forward and backward: 6·(12·L·C² + C·V) for the
// products with weights and 6·L·T·C for causal attention.
func (c Config) FLOPPerToken(positions int) float64 {
	l, w := float64(c.Layers), float64(c.Width)
	return 6*(12*l*w*w+w*float64(c.Vocab)) + 6*l*float64(positions)*w
}

// configJSON is config.json of Hugging Face's GPT2Config. A pointer is a key
// whose absence means GPT-2's default.
type configJSON struct {
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
	BOS           *int     `json:"bos_token_id"`
	EOS           *int     `json:"eos_token_id"`
	Type          string   `json:"torch_dtype,omitempty"`
}

// MarshalJSON writes config.json with Hugging Face's GPT-2 keys. The byte
// vocabulary has no begin and end tokens, so those keys are null.
func (c Config) MarshalJSON() ([]byte, error) {
	activation, eps, yes, no := "gelu_new", layerNormEps, true, false
	return json.Marshal(configJSON{
		Architectures: []string{"GPT2LMHeadModel"}, ModelType: "gpt2",
		Layers: c.Layers, Heads: c.Heads, Width: c.Width, Context: c.Context, OldContext: c.Context, Vocab: c.Vocab,
		Activation: &activation, Eps: &eps, ScaleWeights: &yes, ScaleByLayer: &no, Tied: &yes, Type: "float32",
	})
}

// UnmarshalJSON reads config.json, ignores unknown keys and refuses what this
// model would compute differently. The result is valid.
func (c *Config) UnmarshalJSON(text []byte) error {
	if len(text) > maxConfigJSON {
		return fmt.Errorf("model config of %d bytes: at most %d are read", len(text), maxConfigJSON)
	}
	var j configJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return fmt.Errorf("parse model config: %w", err)
	}
	if j.Context == 0 {
		j.Context = j.OldContext
	}
	read := Config{Layers: j.Layers, Heads: j.Heads, Width: j.Width, Context: j.Context, Vocab: j.Vocab}
	switch {
	case j.ModelType != "" && j.ModelType != "gpt2":
		return fmt.Errorf("model config: model_type %q, only gpt2 is supported", j.ModelType)
	case j.Activation != nil && *j.Activation != "gelu_new" && *j.Activation != "gelu_pytorch_tanh":
		return fmt.Errorf("model config: activation_function %q, only gelu_new is supported", *j.Activation)
	case j.Eps != nil && *j.Eps != layerNormEps:
		return fmt.Errorf("model config: layer_norm_epsilon %v, only %v is supported", *j.Eps, layerNormEps)
	case j.Inner != nil && *j.Inner != 4*j.Width:
		return fmt.Errorf("model config: n_inner %d, only 4 times n_embd is supported", *j.Inner)
	case j.ScaleWeights != nil && !*j.ScaleWeights, j.ScaleByLayer != nil && *j.ScaleByLayer:
		return errors.New("model config: unusual attention scaling (scale_attn_*) is not supported")
	case j.Tied != nil && !*j.Tied:
		return errors.New("model config: tie_word_embeddings false, only tied embeddings are supported")
	}
	if err := read.Validate(); err != nil {
		return fmt.Errorf("model config: %w", err)
	}
	*c = read
	return nil
}
