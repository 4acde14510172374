package training

import (
	"encoding/json"
	"errors"
	"fmt"

	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/data"
	"dunlin/model"
	"dunlin/optimizer"
)

// Weights says which of a checkpoint's weights are meant.
type Weights uint8

// The weights of a checkpoint.
const (
	Newest   Weights = iota // as they were when it was written
	Averaged                // their moving average, which SoloConfig.Average asks for
)

// OpenWeights reads the model that a folder holds (see OpenCheckpoint), without what training goes on from.
func OpenWeights(folder string, which Weights) (*checkpoint.Checkpoint, error) {
	c, err := OpenCheckpoint(folder)
	if err != nil {
		return nil, err
	}
	if which == Averaged {
		var average []compute.Tensor
		if c.Trainer != nil {
			average = optimizer.Averaged(c.Trainer.Tensors)
		}
		if len(average) == 0 {
			return nil, fmt.Errorf("open checkpoint %s: it holds no average of the weights: train with --ema, or use the weights themselves", folder)
		}
		c.Model = average
	}
	c.Trainer = nil
	return c, nil
}

// OpenCheckpoint reads what a folder holds: a checkpoint folder, a universal checkpoint, or a folder in Hugging Face's
// layout, whose tensors get the names and the layout of this program's models.
func OpenCheckpoint(folder string) (*checkpoint.Checkpoint, error) {
	c, err := checkpoint.Open(folder)
	switch {
	case !errors.Is(err, checkpoint.ErrNone):
		return c, err
	case checkpoint.HoldsUniversal(folder):
		return openUniversal(folder)
	case checkpoint.HoldsModel(folder):
		return openHuggingFace(folder)
	}
	return nil, fmt.Errorf("%w; nor is it a model folder, which has a config.json, or a universal checkpoint", err)
}

// openUniversal reads a universal checkpoint whole; its weights are put in the model's order.
func openUniversal(folder string) (*checkpoint.Checkpoint, error) {
	u, err := checkpoint.OpenUniversal(folder)
	if err != nil {
		return nil, err
	}
	c, err := u.Checkpoint()
	if err != nil {
		return nil, err
	}
	var shape model.Config
	if err = json.Unmarshal(c.Config, &shape); err == nil {
		c.Model, err = shape.Arrange(c.Model)
	}
	if err != nil {
		return nil, fmt.Errorf("open universal checkpoint %s: %w", folder, err)
	}
	return c, nil
}

// openHuggingFace reads a model of another tool.
func openHuggingFace(folder string) (*checkpoint.Checkpoint, error) {
	var shape model.Config
	c, err := checkpoint.OpenHuggingFace(folder, func(config []byte) ([]compute.Tensor, error) {
		err := json.Unmarshal(config, &shape)
		return shape.Shapes(), err
	})
	if err != nil {
		return nil, err
	}
	if err := adopt(c, folder, shape); err != nil {
		return nil, fmt.Errorf("open model folder %s: %w", folder, err)
	}
	return c, nil
}

// adopt makes what was read of a folder a checkpoint of this program's, with a tokenizer when there is one.
func adopt(c *checkpoint.Checkpoint, folder string, shape model.Config) (err error) {
	if c.Model, err = shape.Arrange(c.Model); err != nil {
		return err
	}
	if c.Config, err = describeNumber(c.Config, checkpoint.Float32); err != nil {
		return err
	}
	if c.Tokenizer == nil { // GPT-2's release has it as two files
		if t, err := data.OpenTokenizer(folder, ""); err == nil {
			c.Tokenizer = t.File()
		}
	}
	if c.Tokenizer == nil {
		return nil // enough to measure and to train, but not for text
	}
	t, err := tokenizerOf(c, shape.Vocab)
	if err != nil {
		return fmt.Errorf("%w; without its tokenizer files the folder opens as bare weights", err)
	}
	c.Tokenizer = t.File()
	return nil
}

// Import makes a checkpoint folder of what another folder holds (see OpenCheckpoint), with the state of training where
// there is one, and returns it. The folder must not exist, or be empty.
func Import(from, to string) (*checkpoint.Checkpoint, error) {
	if err := checkpoint.Vacant(to); err != nil {
		return nil, fmt.Errorf("import into %s: %w", to, err)
	}
	c, err := OpenCheckpoint(from)
	if err != nil {
		return nil, err
	}
	_, err = checkpoint.Save(to, c, 1)
	return c, err
}

// Export writes a model into a new folder in Hugging Face's layout, values rounded to number, with a tokenizer that
// other tools load by themselves.
func Export(c *checkpoint.Checkpoint, to string, number checkpoint.Number) error {
	files, err := describeFiles(c, number)
	if err != nil {
		return fmt.Errorf("export to %s: %w", to, err)
	}
	return checkpoint.WriteHuggingFace(to, number, c.Model, files)
}

// ExportShard is Export of a part of a model: into a new folder, or into one that has other parts of the same origin. It
// returns the parts that are missing before other tools open it.
func ExportShard(c *checkpoint.Checkpoint, shard checkpoint.Shard, to string, number checkpoint.Number) (missing []int, err error) {
	files, err := describeFiles(c, number)
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", to, err)
	}
	return checkpoint.WriteShard(to, number, c.Model, shard, files)
}

// describeFiles are the small files beside the weights.
func describeFiles(c *checkpoint.Checkpoint, number checkpoint.Number) (map[string][]byte, error) {
	var shape model.Config
	if err := json.Unmarshal(c.Config, &shape); err != nil {
		return nil, err
	}
	config, err := describeNumber(c.Config, number)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"config.json": config}
	if c.Tokenizer == nil && !readsBytes(c, shape.Vocab) {
		return files, nil
	}
	t, err := tokenizerOf(c, shape.Vocab)
	if err != nil {
		return nil, err
	}
	about := map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.Context, "clean_up_tokenization_spaces": false}
	generation := map[string]any{"bos_token_id": nil, "eos_token_id": nil}
	files[data.TokenizerFile] = data.ByteFile()
	if t.File() != nil {
		files[data.TokenizerFile] = t.File()
		if end := t.EndOfText(); end >= 0 {
			text, err := t.Decode(nil, []int32{end})
			if err != nil {
				return nil, err
			}
			about["bos_token"], about["eos_token"] = string(text), string(text)
			generation["bos_token_id"], generation["eos_token_id"] = end, end
		}
	}
	if files["tokenizer_config.json"], err = json.MarshalIndent(about, "", "  "); err != nil {
		return nil, err
	}
	files["generation_config.json"], err = json.MarshalIndent(generation, "", "  ")
	return files, err
}

// describeNumber makes config.json say how the values beside it are written, in the words of older and newer tools.
func describeNumber(config []byte, number checkpoint.Number) ([]byte, error) {
	names := map[checkpoint.Number]string{checkpoint.Float32: "float32", checkpoint.Float16: "float16", checkpoint.BFloat16: "bfloat16"}
	return withKeys(config, map[string]any{"torch_dtype": names[number], "dtype": names[number]})
}
