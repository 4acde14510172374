package training

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
)

// Saved is a model from a checkpoint, on a device, ready to evaluate and to sample from.
type Saved struct {
	Model     *model.Model
	Tokenizer data.Tokenizer
	Step      uint64 // that the checkpoint was written at
}

// OpenSaved makes the model that a folder holds, see OpenWeights, on a device. batch is the most windows that are
// evaluated at a time.
func OpenSaved(device compute.Device, folder string, which Weights, batch int) (*Saved, error) {
	c, err := OpenWeights(folder, which)
	if err != nil {
		return nil, err
	}
	saved, err := NewSaved(device, c, batch)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", folder, err)
	}
	return saved, nil
}

// NewSaved makes a checkpoint's model on a device; see OpenSaved.
func NewSaved(device compute.Device, c *checkpoint.Checkpoint, batch int) (*Saved, error) {
	var cfg model.Config
	if err := json.Unmarshal(c.Config, &cfg); err != nil {
		return nil, err
	}
	tokenizer, err := tokenizerOf(c, cfg.Vocab)
	if err != nil {
		return nil, err
	}
	m, err := model.NewIn(ForwardRoom(batch), cfg, device)
	if err != nil {
		return nil, err
	}
	if err := m.Load(c.Model); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &Saved{Model: m, Tokenizer: tokenizer, Step: c.Step}, nil
}

// ForwardRoom is for models that make no backward pass: all that stays is the keys and values that generation goes on
// from, and it lies where gradients would.
func ForwardRoom(batch int) model.Room {
	return model.Room{Batch: batch, Kept: model.KeptAttention, Lend: true}
}

// Close gives the memory back to the device.
func (s *Saved) Close() error { return s.Model.Close() }

// Evaluation is a model's loss on text.
type Evaluation struct {
	Loss        float64 // nats a token
	BitsPerByte float64
	Tokens      int // predicted
}

// Evaluate predicts every token of text but the first, in windows of the model's context; the last one may be shorter.
func (s *Saved) Evaluate(ctx context.Context, text []byte) (Evaluation, error) {
	tokens := data.TokenList(s.Tokenizer.Encoder()(nil, text))
	if len(tokens) < 2 {
		return Evaluation{}, fmt.Errorf("text of %d bytes: at least two tokens are needed, one to read and one to predict", len(text))
	}
	length := s.Model.Config().Context
	targets := len(tokens) - 1
	whole := targets / length
	var nats float64
	if whole > 0 {
		windows, err := data.WindowsOf(length, tokens)
		if err != nil {
			return Evaluation{}, err
		}
		loss, err := s.Model.Evaluate(ctx, windows, windows.Spread(whole))
		if err != nil {
			return Evaluation{}, err
		}
		nats = loss * float64(whole*length)
	}
	if tail := tokens[whole*length:]; len(tail) > 1 {
		loss, err := s.Model.Loss(tail[:len(tail)-1], tail[1:], 1)
		if err != nil {
			return Evaluation{}, err
		}
		nats += float64(loss) * float64(len(tail)-1)
	}
	first, err := s.Tokenizer.Decode(nil, tokens[:1])
	if err != nil {
		return Evaluation{}, err
	}
	return Evaluation{Loss: nats / float64(targets), BitsPerByte: nats / math.Ln2 / float64(len(text)-len(first)), Tokens: targets}, nil
}

// Sample continues prompt by at most n bytes and hands each to yield until that returns false. Tokens of many bytes may
// end a text before, with their own sign for it.
func (s *Saved) Sample(ctx context.Context, prompt []byte, n int, how model.Sampling, yield func(b byte) bool) error {
	tokens, err := s.prompt(prompt)
	if err != nil {
		return err
	}
	how.Tokens = s.Tokenizer.Vocab()
	bpe, _ := s.Tokenizer.(*data.BPE)
	var text []byte
	var failed error
	err = s.Model.Generate(ctx, tokens, n, how, func(token int32) bool {
		if bpe != nil && token == bpe.EndOfText() {
			return false
		}
		if text, failed = s.Tokenizer.Decode(text[:0], []int32{token}); failed != nil {
			return false
		}
		for _, b := range text {
			if !yield(b) {
				return false
			}
			if n--; n == 0 {
				return false
			}
		}
		return true
	})
	return errors.Join(err, failed)
}

// prompt returns the tokens to continue; the end of a text is also where a new one begins.
func (s *Saved) prompt(text []byte) ([]int32, error) {
	if len(text) == 0 {
		end := s.Tokenizer.EndOfText()
		if end < 0 {
			return nil, errors.New("the model's tokenizer does not say which token begins a text: give a prompt")
		}
		return []int32{end}, nil
	}
	if bpe, ok := s.Tokenizer.(*data.BPE); ok {
		return bpe.EncodeSpecial(nil, text), nil
	}
	return s.Tokenizer.Encoder()(nil, text), nil
}

// Describe returns config.json: the model's shape and, where tokens are not bytes, the token that begins and ends a
// text, under the keys that other tools read.
func Describe(shape model.Config, tokenizer data.Tokenizer) ([]byte, error) {
	text, err := json.Marshal(shape)
	if err != nil {
		return nil, err
	}
	keys := map[string]any{}
	if tokenizer.File() != nil {
		keys["bos_token_id"], keys["eos_token_id"] = tokenizer.EndOfText(), tokenizer.EndOfText()
	}
	return withKeys(text, keys)
}

// withKeys sets keys of a JSON object and sorts all by name.
func withKeys(object []byte, keys map[string]any) ([]byte, error) {
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, err
	}
	for key, value := range keys {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		all[key] = text
	}
	return json.MarshalIndent(all, "", "  ")
}

// readsBytes reports whether a model without a tokenizer of its own has bytes for tokens: their vocabulary, or that
// rounded up where no token ends a text, see Describe.
func readsBytes(c *checkpoint.Checkpoint, vocab int) bool {
	return vocab == data.Vocabulary || vocab > data.Vocabulary && vocab < data.Vocabulary+VocabRoom && endOf(c.Config) < 0
}

// tokenizerOf restores the tokenizer that is kept beside a model.
func tokenizerOf(c *checkpoint.Checkpoint, vocab int) (data.Tokenizer, error) {
	if c.Tokenizer == nil && !readsBytes(c, vocab) {
		return nil, fmt.Errorf("a vocabulary of %d needs a tokenizer, and the folder has no %s: put the model's own there", vocab, data.TokenizerFile)
	}
	tokenizer, err := data.RestoreTokenizer(c.Tokenizer, endOf(c.Config))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", data.TokenizerFile, err)
	}
	if tokenizer.Vocab() > vocab {
		return nil, fmt.Errorf("%s has %d tokens, the model %d: they do not belong together", data.TokenizerFile, tokenizer.Vocab(), vocab)
	}
	return tokenizer, nil
}

// endOf returns the token that ends a text by config.json, of several the first, or -1.
func endOf(config []byte) int32 {
	var ends struct {
		Token json.RawMessage `json:"eos_token_id"`
	}
	if err := json.Unmarshal(config, &ends); err != nil || string(ends.Token) == "null" {
		return -1
	}
	var one int32
	if err := json.Unmarshal(ends.Token, &one); err == nil {
		return one
	}
	var many []int32
	if err := json.Unmarshal(ends.Token, &many); err == nil && len(many) > 0 {
		return many[0]
	}
	return -1
}
