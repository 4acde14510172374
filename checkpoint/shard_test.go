package checkpoint

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"dunlin/compute"
)

// TestShardsBecomeAModel writes the halves of a model one by one into a folder, which opens once both are there, and
// refuses halves of something else.
func TestShardsBecomeAModel(t *testing.T) {
	all := []compute.Tensor{numbered("wte", 5, 2), numbered("ln_f.bias", 7), numbered("lm_head.weight", 5, 2)}
	shard := func(number int, height string) Shard {
		return Shard{
			Number: number, Of: 2, Values: 27, Files: map[string]int{"wte": 0, "ln_f.bias": 1, "lm_head.weight": 1},
			Origin: map[string]string{"run": "r", "height": height},
		}
	}
	files := map[string][]byte{configFile: []byte(`{"model_type":"gpt2"}`)}
	dir := filepath.Join(t.TempDir(), "model")
	open := func() ([]compute.Tensor, error) {
		c, err := OpenHuggingFace(dir, func([]byte) ([]compute.Tensor, error) { return all, nil })
		if err != nil {
			return nil, err
		}
		return c.Model, nil
	}
	missing, err := WriteShard(dir, Float32, all[1:], shard(1, "20"), files)
	if err != nil || len(missing) != 1 || missing[0] != 0 {
		t.Fatalf("missing %v, %v", missing, err)
	}
	if _, err := open(); err == nil {
		t.Error("half a model opens")
	}
	for name, c := range map[string]struct {
		shard  Shard
		number Number
		other  bool
	}{
		"another height": {shard(0, "21"), Float32, true}, "other numbers": {shard(0, "20"), BFloat16, true}, "twice": {shard(1, "20"), Float32, false},
	} {
		if _, err := WriteShard(dir, c.number, all[:1], c.shard, files); err == nil || errors.Is(err, ErrOtherModel) != c.other {
			t.Errorf("%s: %v", name, err)
		}
	}
	if missing, err = WriteShard(dir, Float32, all[:1], shard(0, "20"), files); err != nil || len(missing) != 0 {
		t.Fatalf("missing %v, %v", missing, err)
	}
	got, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := Compare(all, got); err != nil || total(d) != 0 {
		t.Errorf("%v, %v", d, err)
	}
	var index struct {
		Metadata struct {
			Size int `json:"total_size"`
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, indexFile)); err != nil || json.Unmarshal(b, &index) != nil || index.Metadata.Size != 4*27 {
		t.Errorf("index %s, %v", b, err)
	}
	if _, err := WriteShard(t.TempDir(), Float32, all[:1], shard(0, "20"), files); err != nil {
		t.Errorf("into an empty folder: %v", err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteShard(full, Float32, all[:1], shard(0, "20"), files); err == nil {
		t.Error("written among other files")
	}
}
