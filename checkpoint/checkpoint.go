package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dunlin/compute"
)

// Checkpoint is a model at one moment.
type Checkpoint struct {
	// Step counts what made the model: inner steps of `dunlin train`, the
	// ledger's height in a run. It names the folder.
	Step uint64
	// Config is the content of config.json, a JSON object of at most 1 MiB.
	Config json.RawMessage
	// Model holds the weights.
	Model []compute.Tensor
	// Trainer is what training goes on from; nil when only the model is kept.
	Trainer *Trainer
	// Tokenizer is the content of tokenizer.json; nil when tokens are bytes.
	Tokenizer []byte
}

// Trainer is the state of training beside the weights.
type Trainer struct {
	Tensors []compute.Tensor  // the optimizer's moments
	Meta    map[string]string // counters, data position, seeds
}

// ErrNone says that a folder holds no checkpoint at all, so that training
// starts afresh; a damaged checkpoint is another error.
var ErrNone = errors.New("no checkpoint there")

const (
	modelFile     = "model.safetensors"
	configFile    = "config.json"
	trainerFile   = "trainer.safetensors"
	tokenizerFile = "tokenizer.json"
	manifestFile  = "checkpoint.json"
	latestFile    = "latest"

	maxConfig    = 1 << 20
	maxTokenizer = 64 << 20
)

// Open reads the newest checkpoint of a folder that Save wrote, or the one in a
// step folder named itself. It fails with ErrNone when there is none, and with
// an error that names the file when one is missing, cut short or altered.
func Open(path string) (*Checkpoint, error) { return OpenInto(path, nil) }

// Into says where the n values of a tensor are read to: n values, or nothing for
// new memory.
type Into func(name string, n int) []float32

// OpenInto is Open for who has memory for the values already. After an error it
// holds anything.
func OpenInto(path string, into Into) (*Checkpoint, error) {
	folder, err := resolve(path)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(folder)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w%s", folder, err, older(folder))
	}
	c, err := m.load(folder, into)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w%s", folder, err, older(folder))
	}
	return c, nil
}

// Single reports whether a folder is one checkpoint, to which Save cannot add others: Open would read that one still.
func Single(path string) bool {
	_, err := os.Stat(filepath.Join(path, manifestFile))
	return err == nil
}

// resolve finds the step folder that path stands for.
func resolve(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("open checkpoint %s: %w: name a folder that `dunlin train` or a run has written", path, ErrNone)
	case err != nil:
		return "", fmt.Errorf("open checkpoint: %w", err)
	case !info.IsDir():
		return "", fmt.Errorf("open checkpoint %s: it is a file: name the folder that holds it", path)
	}
	if Single(path) {
		return path, nil
	}
	name, err := readSmall(filepath.Join(path, latestFile), 64)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("open checkpoint %s: %w: it has neither %q nor %q", path, ErrNone, manifestFile, latestFile)
	}
	if err != nil {
		return "", fmt.Errorf("open checkpoint: %w", err)
	}
	step := string(bytes.TrimSpace(name))
	if _, ok := parseStepName(step); !ok {
		return "", fmt.Errorf("open checkpoint %s: file %q holds %q, not the name of a step folder: write the newest step folder's name into it", path, latestFile, step)
	}
	return filepath.Join(path, step), nil
}

// older names another checkpoint beside a damaged one.
func older(folder string) string {
	dir, name := filepath.Split(filepath.Clean(folder))
	steps, err := stepFolders(dir)
	if err != nil {
		return ""
	}
	for _, s := range steps { // newest first
		if s.name == name {
			continue
		}
		m, err := readManifest(filepath.Join(dir, s.name))
		if err != nil || m.check(filepath.Join(dir, s.name)) != nil {
			continue
		}
		return fmt.Sprintf("; %s is whole, use it or write its name into %s", filepath.Join(dir, s.name), filepath.Join(dir, latestFile))
	}
	return ""
}

// load reads the files that the manifest vouches for.
func (m *manifest) load(folder string, into Into) (*Checkpoint, error) {
	if err := m.check(folder); err != nil {
		return nil, err
	}
	config, err := readSmall(filepath.Join(folder, configFile), maxConfig)
	if err != nil {
		return nil, err
	}
	if err := checkConfig(config); err != nil {
		return nil, err
	}
	c := &Checkpoint{Step: m.Step, Config: config}
	if c.Model, _, err = readFile(filepath.Join(folder, modelFile), everyTensor, into); err != nil {
		return nil, err
	}
	if _, ok := m.Files[tokenizerFile]; ok {
		if c.Tokenizer, err = readSmall(filepath.Join(folder, tokenizerFile), maxTokenizer); err != nil {
			return nil, err
		}
	}
	if _, ok := m.Files[trainerFile]; ok {
		c.Trainer = new(Trainer)
		if c.Trainer.Tensors, c.Trainer.Meta, err = readFile(filepath.Join(folder, trainerFile), everyTensor, into); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func checkConfig(config []byte) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(config, &object); err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	return nil
}

func readFile(path string, wanted func(name string) bool, into Into) ([]compute.Tensor, map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	tensors, metadata, err := read(f, info.Size(), wanted, into)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: read safetensors: %w", filepath.Base(path), err)
	}
	return tensors, metadata, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, err
}
