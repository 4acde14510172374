package engine

import (
	"fmt"

	"dunlin/compress"
	"dunlin/data"
	"dunlin/model"
	"dunlin/recipe"
	"dunlin/wire"
)

// border is how what passes between stages becomes bytes: a frame of the run's codec.
// Of a model with a subspace the frame is of those values alone, behind the tokens,
// from which the next stage makes the rest of the stream, whose gradient is 0.
type border struct {
	codec  compress.Codec
	spec   *wire.RunSpec
	code   *model.Code // nil without a subspace
	passed []float32   // scratch of one micro-batch, [rows, Subspace]
}

func newBorder(spec *wire.RunSpec, cfg model.Config) (border, error) {
	codec, err := compress.ByName(spec.Activation)
	if err != nil {
		return border{}, fmt.Errorf("run spec: activations: %w", err)
	}
	b := border{codec: codec, spec: spec}
	if cfg.Subspace > 0 {
		b.code = model.NewCode(cfg, spec.Seed, spec.Tensors[0].Scale.Value())
		b.passed = make([]float32, int(spec.Micro)*cfg.Context*cfg.Subspace)
	}
	return b, nil
}

// borderBytes is what a border takes in memory.
func borderBytes(spec *wire.RunSpec, cfg model.Config) int64 {
	if cfg.Subspace == 0 {
		return 0
	}
	return 4*int64(spec.Micro)*int64(cfg.Context*cfg.Subspace) + model.CodeBytes(cfg)
}

// encode returns the bytes of a stage's output, [rows, Width], for these tokens.
func (b *border) encode(stream []float32, tokens []int32) ([]byte, error) {
	if b.code == nil {
		return b.codec.Encode(nil, stream)
	}
	return b.codec.Encode(data.AppendPacked(nil, tokens, b.spec.Data.TokenBytes()), b.narrowed(stream))
}

// decode fills stream from a stage's input and returns the tokens where they are part of it.
func (b *border) decode(stream []float32, input []byte) ([]int32, error) {
	if b.code == nil {
		return nil, b.codec.Decode(stream, input)
	}
	passed, tokens := b.room(stream), make([]int32, len(stream)/int(b.spec.Model.Width))
	packed := b.spec.Data.TokenBytes() * len(tokens)
	if len(input) < packed {
		return nil, fmt.Errorf("%d bytes of a stage's input, its tokens take %d", len(input), packed)
	}
	if err := recipe.Text(b.spec, input[:packed]).Read(tokens, 0); err != nil {
		return nil, fmt.Errorf("tokens of a stage's input: %w", err)
	}
	if err := b.codec.Decode(passed, input[packed:]); err != nil {
		return nil, err
	}
	b.code.Widen(stream, passed, tokens)
	return tokens, nil
}

// encodeGradient returns the bytes of the gradient of a stage's input.
func (b *border) encodeGradient(gradient []float32) ([]byte, error) {
	if b.code == nil {
		return b.codec.Encode(nil, gradient)
	}
	return b.codec.Encode(nil, b.narrowed(gradient))
}

// decodeGradient fills the gradient of a stage's output.
func (b *border) decodeGradient(gradient []float32, frame []byte) error {
	if b.code == nil {
		return b.codec.Decode(gradient, frame)
	}
	passed := b.room(gradient)
	if err := b.codec.Decode(passed, frame); err != nil {
		return err
	}
	b.code.Widen(gradient, passed, nil)
	return nil
}

// narrowed returns what passes of a stream or a gradient, until the next call.
func (b *border) narrowed(stream []float32) []float32 {
	passed := b.room(stream)
	b.code.Narrow(passed, stream)
	return passed
}

// room returns the scratch for what passes of a stream.
func (b *border) room(stream []float32) []float32 {
	return b.passed[:len(stream)/int(b.spec.Model.Width)*int(b.spec.Model.Subspace)]
}
