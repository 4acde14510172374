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
	"strconv"

	"dunlin/compute"
	"dunlin/store"
)

// Shard is one file of a folder in Hugging Face's layout whose tensors lie in several.
type Shard struct {
	Number, Of int               // from 0
	Files      map[string]int    // of every tensor of the model: the number of its shard
	Values     int64             // of the whole model
	Origin     map[string]string // what all shards of a folder have in common, such as the run
}

// ErrOtherModel says that a folder holds shards of something else.
var ErrOtherModel = errors.New("it holds shards of another model")

// WriteShard writes one shard with the index and the small files that describe the
// whole model, into a new folder or beside other shards of the same origin. It returns
// the numbers of the shards that are still missing; without them no tool opens the folder.
func WriteShard(dir string, number Number, tensors []compute.Tensor, s Shard, files map[string][]byte) (missing []int, err error) {
	if missing, err = writeShard(dir, number, tensors, s, files); err != nil {
		return nil, fmt.Errorf("write shard %d of %d into %s: %w", s.Number+1, s.Of, dir, err)
	}
	return missing, nil
}

func writeShard(dir string, number Number, tensors []compute.Tensor, s Shard, files map[string][]byte) (missing []int, err error) {
	if err := s.begin(dir, number, files); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, s.file(s.Number))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, fmt.Errorf("%s is there already", filepath.Base(path)))
	}
	if err := store.WriteStream(path, 0o644, func(w io.Writer) error {
		return WriteAs(w, number, tensors, map[string]string{"format": "pt"})
	}); err != nil {
		return nil, err
	}
	for i := range s.Of {
		if _, err := os.Stat(filepath.Join(dir, s.file(i))); err != nil {
			missing = append(missing, i)
		}
	}
	return missing, nil
}

// file is the name of a shard's file.
func (s Shard) file(i int) string { return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, s.Of) }

// begin makes sure that a folder describes the model: one with the same origin does already.
func (s Shard) begin(dir string, number Number, files map[string][]byte) error {
	metadata := map[string]any{"total_size": s.Values * number.size()}
	for key, value := range s.Origin {
		metadata[key] = value
	}
	weights := map[string]string{}
	for name, i := range s.Files {
		weights[name] = s.file(i)
	}
	index, err := json.MarshalIndent(map[string]any{"metadata": metadata, "weight_map": weights}, "", "  ")
	if err != nil {
		return err
	}
	there, err := readSmall(filepath.Join(dir, indexFile), maxIndex)
	switch {
	case err == nil && string(there) == string(index):
		return nil
	case err == nil:
		return s.differs(there, number)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := Vacant(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := store.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return err
		}
	}
	return store.WriteFile(filepath.Join(dir, indexFile), index, 0o644) // the last: the others are there
}

// differs says what a folder's index has otherwise.
func (s Shard) differs(index []byte, number Number) error {
	var other struct {
		Metadata map[string]any `json:"metadata"`
	}
	if err := json.Unmarshal(index, &other); err != nil {
		return fmt.Errorf("%s: %w", indexFile, err)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Origin)) {
		if there := fmt.Sprint(other.Metadata[key]); there != s.Origin[key] {
			return fmt.Errorf("%w: there is %s %.80s, here %s", ErrOtherModel, key, there, s.Origin[key])
		}
	}
	size := strconv.FormatInt(s.Values*number.size(), 10)
	return fmt.Errorf("%w, or the same in other numbers than %s, which make %s bytes", ErrOtherModel, number.Word(), size)
}
