package model

import (
	"slices"
	"testing"
)

// TestCodesAreBounded asks for more codes than are kept: each can be made again.
func TestCodesAreBounded(t *testing.T) {
	cfg := Config{Layers: 1, Heads: 1, Width: 1 << 16, Context: 1, Vocab: 1 << 20, Untied: true, Subspace: 6}
	if got := CodeBytes(cfg); got != 16<<20 {
		t.Errorf("codes take %d bytes", got)
	}
	code := NewCode(cfg, 1, 0x1p-18)
	first, again := make([]float32, cfg.Width), make([]float32, cfg.Width)
	code.Widen(first, make([]float32, cfg.Subspace), []int32{7})
	for token := range int32(70) { // more than 2²² values
		code.Widen(again, make([]float32, cfg.Subspace), []int32{token})
		if slices.Equal(first, again) != (token == 7) {
			t.Fatalf("tokens 7 and %d have the same code", token)
		}
	}
	if len(code.rows)*cfg.Width > codeValues {
		t.Errorf("%d codes are kept", len(code.rows))
	}
	code.Widen(again, make([]float32, cfg.Subspace), []int32{7})
	if !slices.Equal(first, again) {
		t.Error("a token's code is another one later")
	}
}
