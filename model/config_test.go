package model

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigJSON(t *testing.T) {
	for _, name := range Presets() {
		want, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := want.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Config
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Errorf("%s: %s reads as %+v (%v)", name, text, got, err)
		}
	}
	for _, want := range untied() {
		text, err := json.Marshal(want)
		var got Config
		if err := errors.Join(err, json.Unmarshal(text, &got)); err != nil || got != want {
			t.Errorf("%s reads as %+v (%v), was %+v", text, got, err, want)
		}
	}
	if _, err := Preset("giant"); err == nil || !strings.Contains(err.Error(), "nano") {
		t.Errorf("unknown preset: %v", err)
	}
}

const goodLlamaJSON = `{"model_type":"llama","num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"hidden_size":16,
	"intermediate_size":24,"max_position_embeddings":8,"vocab_size":32,"rms_norm_eps":1e-5,"rope_theta":500000.0,"tie_word_embeddings":true}`

const goodJSON = `{"model_type":"gpt2","n_layer":2,"n_head":2,"n_embd":16,"n_positions":8,"vocab_size":32}`

func TestConfigJSONMistakes(t *testing.T) {
	with := func(extra string) string { return strings.TrimSuffix(goodJSON, "}") + "," + extra + "}" }
	llamaWith := func(extra string) string { return strings.TrimSuffix(goodLlamaJSON, "}") + "," + extra + "}" }
	for says, text := range map[string]string{
		"mistral":             with(`"model_type":"mistral"`),
		`"gelu"`:              llamaWith(`"hidden_act":"gelu"`),
		"attention_bias":      llamaWith(`"attention_bias":true`),
		"mlp_bias":            llamaWith(`"mlp_bias":true`),
		"rope_scaling":        llamaWith(`"rope_scaling":{"rope_type":"llama3","factor":8.0}`),
		"LlamaForSeq":         llamaWith(`"architectures":["LlamaForSequenceClassification"]`),
		"quantization_config": llamaWith(`"quantization_config":{"bits":4}`),
		"partial_rotary":      llamaWith(`"rope_parameters":{"partial_rotary_factor":0.5}`),
		"add_cross_attention": with(`"add_cross_attention":true`),
		"only the plain":      llamaWith(`"rope_parameters":{"rope_type":"yarn"}`),
		"head_dim 8":          llamaWith(`"head_dim":8`),
		"value heads 3":       llamaWith(`"num_key_value_heads":3`),
		"even number":         llamaWith(`"hidden_size":12`),
		"hidden width 0":      llamaWith(`"intermediate_size":0`),
		"rope theta 0.5":      llamaWith(`"rope_theta":0.5`),
		"norm eps 0":          llamaWith(`"rms_norm_eps":0`),
		`"relu"`:              with(`"activation_function":"relu"`),
		"layer_norm_epsilon":  with(`"layer_norm_epsilon":1e-6`),
		"n_inner":             with(`"n_inner":17`),
		"scale_attn":          with(`"scale_attn_by_inverse_layer_idx":true`),
		"heads 3":             with(`"n_head":3`),
		"layers 0":            with(`"n_layer":0`),
		"vocabulary":          with(`"vocab_size":1`),
		"width -16":           with(`"n_embd":-16`),
		"parse":               with(`"n_head":"two"`),
		"subspace 4 with":     with(`"dunlin_subspace":4`),
		"subspace 16: ":       with(`"tie_word_embeddings":false,"dunlin_subspace":16`),
		"subspace 5: ":        with(`"tie_word_embeddings":false,"dunlin_subspace":5`),
		"subspace -2: ":       llamaWith(`"tie_word_embeddings":false,"dunlin_subspace":-2`),
	} {
		c := Config{Layers: 77}
		if err := json.Unmarshal([]byte(text), &c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", text, err, says)
		}
		if c != (Config{Layers: 77}) {
			t.Errorf("%s: changed the config to %+v", text, c)
		}
	}
	var apart Config
	if err := json.Unmarshal([]byte(with(`"tie_word_embeddings":false`)), &apart); err != nil || !apart.Untied {
		t.Errorf("a GPT-2 with a head of its own: %+v, %v", apart, err)
	}
	mixed := tiny
	mixed.KVHeads = 2
	if err := mixed.Validate(); err == nil || !strings.Contains(err.Error(), "not gpt2") {
		t.Errorf("a GPT-2 with key heads: %v", err)
	}
	big := Config{Layers: 512, Heads: 1, Width: 1 << 16, Context: 1, Vocab: 2}
	if err := big.Validate(); err == nil {
		t.Errorf("model of %d parameters accepted", big.Parameters())
	}
}

// TestLlamaJSON reads what others write: absent keys have LlamaConfig's
// defaults, and newer files keep theta apart.
func TestLlamaJSON(t *testing.T) {
	plain := Config{
		Family: Llama, Layers: 2, Heads: 4, KVHeads: 4, Width: 16, Hidden: 24, Context: 8, Vocab: 32, RopeTheta: 10000, NormEps: 1e-6, Untied: true,
	}
	newer := plain
	newer.RopeTheta = 500000
	const sizes = `"model_type":"llama","num_hidden_layers":2,"num_attention_heads":4,"hidden_size":16,"intermediate_size":24,
		"max_position_embeddings":8,"vocab_size":32,"head_dim":4,"pretraining_tp":1`
	for text, want := range map[string]Config{
		"{" + sizes + "}":                     plain,
		"{" + sizes + `,"rope_scaling":null}`: plain,
		"{" + sizes + `,"rope_parameters":{"rope_theta":500000.0,"rope_type":"default"}}`: newer,
	} {
		var got Config
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s reads as %+v (%v), want %+v", text, got, err, want)
		}
	}
}

func TestReadShape(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shape.json")
	if _, err := ReadShape(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	for text, says := range map[string]string{goodLlamaJSON: "", "{": "shape.json", strings.Repeat(" ", maxConfigJSON+1): "at most"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := ReadShape(path)
		if says == "" && (err != nil || cfg.KVHeads != 2) || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("shape %.20q… reads as %+v (%v), want %q", text, cfg, err, says)
		}
	}
}

// FuzzConfigJSON checks that whatever is accepted is valid and survives a
// round trip.
func FuzzConfigJSON(f *testing.F) {
	f.Add([]byte(goodJSON))
	f.Add([]byte(goodLlamaJSON))
	f.Add([]byte(`{"n_ctx":8,"n_layer":1,"n_head":1,"n_embd":1,"vocab_size":2}`))
	f.Add([]byte(`{"n_layer":1e99}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var c Config
		if c.UnmarshalJSON(text) != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("accepted an invalid config: %v", err)
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var d Config
		if err := json.Unmarshal(again, &d); err != nil || d != c {
			t.Fatalf("%+v reads back as %+v: %v", c, d, err)
		}
	})
}
