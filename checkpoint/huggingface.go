package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dunlin/compute"
	"dunlin/store"
)

const (
	indexFile = "model.safetensors.index.json"
	maxIndex  = 32 << 20
)

// HoldsModel reports whether a folder is laid out as Hugging Face's tools do:
// a config.json, without the manifest of a checkpoint.
func HoldsModel(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, configFile))
	_, manifest := os.Stat(filepath.Join(dir, manifestFile))
	return err == nil && errors.Is(manifest, fs.ErrNotExist)
}

// OpenHuggingFace reads a folder in Hugging Face's layout: config.json and
// model.safetensors, or its index and the files that this names. shapes says which
// tensors a model of that config.json has, or why there is none; tensors of the
// folder get these names and this layout (see conform). The result has
// tokenizer.json where there is one.
func OpenHuggingFace(dir string, shapes func(config []byte) ([]compute.Tensor, error)) (*Checkpoint, error) {
	c, err := openHuggingFace(dir, shapes)
	if err != nil {
		return nil, fmt.Errorf("open model folder %s: %w", dir, err)
	}
	return c, nil
}

func openHuggingFace(dir string, shapes func(config []byte) ([]compute.Tensor, error)) (*Checkpoint, error) {
	config, err := readSmall(filepath.Join(dir, configFile), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: name a folder that holds it and %s", configFile, modelFile)
	}
	if err != nil {
		return nil, err
	}
	if err := checkConfig(config); err != nil {
		return nil, err
	}
	wanted, err := shapes(config)
	if err != nil {
		return nil, err
	}
	tensors, err := readWeights(dir)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{Config: config}
	if c.Model, err = conform(tensors, wanted); err != nil {
		return nil, err
	}
	c.Tokenizer, err = readSmall(filepath.Join(dir, tokenizerFile), maxTokenizer)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	return c, err
}

// readWeights reads the tensors of one file or of all that the index names.
func readWeights(dir string) ([]compute.Tensor, error) {
	keep := func(name string) bool { return !isBuffer(name) }
	index, err := readSmall(filepath.Join(dir, indexFile), maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		tensors, _, err := readFile(filepath.Join(dir, modelFile), keep, nil)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New(noWeights(dir))
		}
		return tensors, err
	}
	if err != nil {
		return nil, err
	}
	files, err := parseIndex(index)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	var all []compute.Tensor
	for _, file := range slices.Sorted(maps.Keys(files)) {
		names := files[file]
		tensors, _, err := readFile(filepath.Join(dir, file), func(name string) bool { return names[name] && keep(name) }, nil)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s is missing, which %s names: fetch it again", file, indexFile)
		}
		if err != nil {
			return nil, err
		}
		for _, t := range tensors {
			delete(names, t.Name)
		}
		for name := range names {
			if keep(name) {
				return nil, fmt.Errorf("%s has no tensor %.80q, which %s puts there: fetch both again", file, name, indexFile)
			}
		}
		all = append(all, tensors...)
	}
	return all, nil
}

// noWeights says what is missing, and what to do about weights in another form.
func noWeights(dir string) string {
	text := modelFile + " is missing"
	if found, err := filepath.Glob(filepath.Join(dir, "*.bin")); err == nil && len(found) > 0 {
		return text + ": " + filepath.Base(found[0]) + " can only be read by running it; load the model in transformers and call save_pretrained"
	}
	return text + ": a folder needs it, or " + indexFile + " with the files that it names"
}

// parseIndex returns the names of the tensors in each file.
func parseIndex(b []byte) (map[string]map[string]bool, error) {
	var index struct {
		Files map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, err
	}
	if len(index.Files) == 0 || len(index.Files) > MaxTensors {
		return nil, fmt.Errorf("weight_map with %d tensors: 1 to %d are allowed", len(index.Files), MaxTensors)
	}
	files := make(map[string]map[string]bool)
	for name, file := range index.Files {
		if file != filepath.Base(file) || !filepath.IsLocal(file) || !strings.HasSuffix(file, ".safetensors") {
			return nil, fmt.Errorf("weight_map puts %.80q into %.80q: only .safetensors files of the same folder are read", name, file)
		}
		if files[file] == nil {
			files[file] = make(map[string]bool)
		}
		files[file][name] = true
	}
	return files, nil
}

// WriteHuggingFace writes a folder in Hugging Face's layout: the tensors as
// model.safetensors with values of the given number, and other small files by
// name, config.json among them. The folder must not exist, or be empty; it
// appears whole or not at all.
func WriteHuggingFace(dir string, number Number, tensors []compute.Tensor, files map[string][]byte) error {
	if err := writeHuggingFace(dir, number, tensors, files); err != nil {
		return fmt.Errorf("write model folder %s: %w", dir, err)
	}
	return nil
}

func writeHuggingFace(dir string, number Number, tensors []compute.Tensor, files map[string][]byte) error {
	if err := Vacant(dir); err != nil {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, aside)
	if err != nil {
		return err
	}
	err = func() error {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if _, err := writeFile(filepath.Join(tmp, name), func(w io.Writer) error { return writeAll(w, files[name]) }); err != nil {
				return err
			}
		}
		_, err := writeFile(filepath.Join(tmp, modelFile), func(w io.Writer) error {
			return WriteAs(w, number, tensors, map[string]string{"format": "pt"})
		})
		if err != nil {
			return err
		}
		return errors.Join(os.Chmod(tmp, 0o755), store.SyncDir(tmp))
	}()
	if err == nil {
		err = vacate(dir)
	}
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return store.SyncDir(parent)
}

// Vacant fails when a folder holds something.
func Vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return errors.New("it is not empty: choose a new folder, or remove this one")
	}
	return nil
}

// vacate removes an empty folder, so that another takes its name.
func vacate(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
