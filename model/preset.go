package model

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

type preset struct {
	name   string
	config Config
}

// presets are the shapes with a name, smaller before larger within a family.
// The larger ones of GPT-2 are those of its paper (Radford et al. 2019, table 2);
// llama-124m has gpt2's width and depth; llama-1b is TinyLlama's (Zhang et al. 2024).
func presets() []preset {
	return []preset{
		{"pico", Config{Layers: 2, Heads: 2, Width: 64, Context: 32, Vocab: 256}},
		{"nano", Config{Layers: 4, Heads: 4, Width: 128, Context: 128, Vocab: 256}},
		{"micro", Config{Layers: 4, Heads: 4, Width: 256, Context: 256, Vocab: 256}},
		{"small", Config{Layers: 6, Heads: 6, Width: 384, Context: 256, Vocab: 256}},
		{"gpt2", Config{Layers: 12, Heads: 12, Width: 768, Context: 1024, Vocab: 50257}},
		{"gpt2-medium", Config{Layers: 24, Heads: 16, Width: 1024, Context: 1024, Vocab: 50257}},
		{"gpt2-large", Config{Layers: 36, Heads: 20, Width: 1280, Context: 1024, Vocab: 50257}},
		{"gpt2-xl", Config{Layers: 48, Heads: 25, Width: 1600, Context: 1024, Vocab: 50257}},
		{"pico-llama", llama(Config{Layers: 2, Heads: 2, KVHeads: 1, Width: 64, Hidden: 176, Context: 32, Vocab: 256})},
		{"nano-llama", llama(Config{Layers: 4, Heads: 4, KVHeads: 2, Width: 128, Hidden: 352, Context: 128, Vocab: 256})},
		{"small-llama", llama(Config{Layers: 6, Heads: 6, KVHeads: 2, Width: 384, Hidden: 1024, Context: 256, Vocab: 256})},
		{"llama-124m", llama(Config{Layers: 12, Heads: 12, KVHeads: 4, Width: 768, Hidden: 2048, Context: 1024, Vocab: 32000, Untied: true})},
		{"llama-1b", llama(Config{Layers: 22, Heads: 32, KVHeads: 4, Width: 2048, Hidden: 5632, Context: 2048, Vocab: 32000, Untied: true})},
	}
}

// llama completes a shape of that family with what all presets share.
func llama(c Config) Config {
	c.Family, c.RopeTheta, c.NormEps = Llama, 10000, 1e-5
	return c
}

// Presets returns the names of the presets, GPT-2's before Llama's.
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

// ReadShape returns the shape in a file like Hugging Face's config.json.
func ReadShape(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("read model shape: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigJSON+1))
	if err != nil {
		return Config{}, fmt.Errorf("read model shape: %w", err)
	}
	if len(text) > maxConfigJSON {
		return Config{}, fmt.Errorf("read model shape %s: at most %d bytes are read", path, maxConfigJSON)
	}
	var c Config
	if err := json.Unmarshal(text, &c); err != nil {
		return Config{}, fmt.Errorf("read model shape %s: %w", path, err)
	}
	return c, nil
}
