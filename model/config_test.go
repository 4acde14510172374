package model

import (
	"encoding/json"
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
	if _, err := Preset("giant"); err == nil || !strings.Contains(err.Error(), "nano") {
		t.Errorf("unknown preset: %v", err)
	}
}

const goodJSON = `{"model_type":"gpt2","n_layer":2,"n_head":2,"n_embd":16,"n_positions":8,"vocab_size":32}`

func TestConfigJSONMistakes(t *testing.T) {
	with := func(extra string) string { return strings.TrimSuffix(goodJSON, "}") + "," + extra + "}" }
	for says, text := range map[string]string{
		"llama":               with(`"model_type":"llama"`),
		`"relu"`:              with(`"activation_function":"relu"`),
		"layer_norm_epsilon":  with(`"layer_norm_epsilon":1e-6`),
		"n_inner":             with(`"n_inner":17`),
		"scale_attn":          with(`"scale_attn_by_inverse_layer_idx":true`),
		"tie_word_embeddings": with(`"tie_word_embeddings":false`),
		"heads 3":             with(`"n_head":3`),
		"layers 0":            with(`"n_layer":0`),
		"vocabulary":          with(`"vocab_size":1`),
		"width -16":           with(`"n_embd":-16`),
		"parse":               with(`"n_head":"two"`),
	} {
		c := Config{Layers: 77}
		if err := json.Unmarshal([]byte(text), &c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", text, err, says)
		}
		if c != (Config{Layers: 77}) {
			t.Errorf("%s: changed the config to %+v", text, c)
		}
	}
	big := Config{Layers: 512, Heads: 1, Width: 1 << 16, Context: 1, Vocab: 2}
	if err := big.Validate(); err == nil {
		t.Errorf("model of %d parameters accepted", big.Parameters())
	}
}

// FuzzConfigJSON checks that whatever is accepted is valid and survives a
// round trip.
func FuzzConfigJSON(f *testing.F) {
	f.Add([]byte(goodJSON))
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
