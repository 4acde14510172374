package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/data"
	"dunlin/model"
	"dunlin/optimizer"
)

// Saved is a model from a checkpoint, on a device, ready to evaluate and to sample from.
type Saved struct {
	Model *model.Model
	Step  uint64 // that the checkpoint was written at
}

// OpenSaved reads the newest checkpoint of a folder. batch is the most windows that are evaluated at a time.
func OpenSaved(device compute.Device, folder string, batch int) (*Saved, error) {
	c, err := checkpoint.Open(folder)
	if err != nil {
		return nil, err
	}
	return openModel(device, folder, c, c.Model, batch)
}

// OpenAverage is OpenSaved with the moving average of the weights in their place, which a Solo keeps when
// SoloConfig.Average asks for it.
func OpenAverage(device compute.Device, folder string, batch int) (*Saved, error) {
	c, err := checkpoint.Open(folder)
	if err != nil {
		return nil, err
	}
	var weights []compute.Tensor
	if c.Trainer != nil {
		weights = optimizer.Averaged(c.Trainer.Tensors)
	}
	if len(weights) == 0 {
		return nil, fmt.Errorf("open checkpoint %s: it holds no average of the weights: train with --ema, or use the weights themselves", folder)
	}
	return openModel(device, folder, c, weights, batch)
}

// openModel makes c's model with these weights.
func openModel(device compute.Device, folder string, c *checkpoint.Checkpoint, weights []compute.Tensor, batch int) (*Saved, error) {
	var cfg model.Config
	if err := json.Unmarshal(c.Config, &cfg); err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", folder, err)
	}
	if cfg.Vocab != data.Vocabulary {
		return nil, fmt.Errorf("open checkpoint %s: a vocabulary of %d needs a tokenizer that this release lacks; it reads byte models (%d)", folder, cfg.Vocab, data.Vocabulary)
	}
	m, err := model.New(cfg, device, batch)
	if err != nil {
		return nil, err
	}
	if err := m.Load(weights); err != nil {
		return nil, errors.Join(fmt.Errorf("open checkpoint %s: %w", folder, err), m.Close())
	}
	return &Saved{Model: m, Step: c.Step}, nil
}

// Close gives the memory back to the device.
func (s *Saved) Close() error { return s.Model.Close() }

// Evaluation is a model's loss on text.
type Evaluation struct {
	Loss        float64 // nats a token
	BitsPerByte float64
	Tokens      int // predicted
}

// Evaluate predicts every byte of text but the first, in windows of the model's context; the last one may be shorter.
func (s *Saved) Evaluate(ctx context.Context, text []byte) (Evaluation, error) {
	if len(text) < 2 {
		return Evaluation{}, fmt.Errorf("text of %d bytes: at least 2 are needed, one to read and one to predict", len(text))
	}
	length := s.Model.Config().Context
	targets := len(text) - 1
	whole := targets / length
	var nats float64
	if whole > 0 {
		windows, err := data.NewWindows(text, length)
		if err != nil {
			return Evaluation{}, err
		}
		loss, err := s.Model.Evaluate(ctx, windows, windows.Spread(whole))
		if err != nil {
			return Evaluation{}, err
		}
		nats = loss * float64(whole*length)
	}
	if tail := text[whole*length:]; len(tail) > 1 {
		tokens := data.Encode(nil, tail)
		loss, err := s.Model.Loss(tokens[:len(tail)-1], tokens[1:], 1)
		if err != nil {
			return Evaluation{}, err
		}
		nats += float64(loss) * float64(len(tail)-1)
	}
	loss := nats / float64(targets)
	return Evaluation{Loss: loss, BitsPerByte: loss / math.Ln2, Tokens: targets}, nil
}

// Sample continues prompt by n bytes and hands each to yield until that returns false.
func (s *Saved) Sample(ctx context.Context, prompt []byte, n int, how model.Sampling, yield func(b byte) bool) error {
	if len(prompt) == 0 {
		prompt = []byte{data.EndOfText}
	}
	return s.Model.Generate(ctx, data.Encode(nil, prompt), n, how, func(token int32) bool { return yield(byte(token)) })
}
