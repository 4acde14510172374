package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/compute"
)

func TestConform(t *testing.T) {
	wanted := []compute.Tensor{
		numbered("transformer.wte.weight", 5, 2), numbered("transformer.h.0.attn.c_attn.weight", 2, 6),
		numbered("transformer.h.0.attn.c_proj.weight", 2, 2), numbered("transformer.h.0.mlp.c_fc.weight", 2, 8),
	}
	turned := make([]compute.Tensor, len(wanted))
	for i, w := range wanted {
		if turned[i] = w; isProduct(w.Name) {
			var err error
			if turned[i], err = transpose(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, in := range map[string][]compute.Tensor{"as it is": wanted, "[out, in]": turned} {
		for _, rename := range []func(string) string{
			func(s string) string { return s },
			func(s string) string { return strings.TrimPrefix(s, "transformer.") },
			func(s string) string { return "_orig_mod." + s },
		} {
			given := make([]compute.Tensor, len(in))
			for i, tensor := range in {
				given[i] = tensor
				given[i].Name = rename(tensor.Name)
			}
			got, err := conform(given, wanted)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := Compare(wanted, got); err != nil || total(d) != 0 {
				t.Errorf("%s, %s: %v %v", name, given[0].Name, d, err)
			}
		}
	}
	got, err := conform([]compute.Tensor{numbered("score.weight", 3)}, wanted)
	if err != nil || got[0].Name != "score.weight" {
		t.Errorf("an unknown tensor: %v, %v", got, err)
	}
}

func total(differences []Difference) (changed int) {
	for _, d := range differences {
		changed += d.Changed
	}
	return changed
}

// anything takes tensors as they are.
func anything([]byte) ([]compute.Tensor, error) { return nil, nil }

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

func TestOpenHuggingFace(t *testing.T) {
	a := string(encode(t, []compute.Tensor{tensor("a", []int{2}, 1, 2), tensor("h.0.attn.bias", []int{1}, 1)}, nil))
	b := string(encode(t, []compute.Tensor{tensor("b", []int{1}, 3), tensor("unlisted", []int{1}, 4)}, nil))
	const index = `{"metadata":{"total_size":12},"weight_map":{"a":"model-1.safetensors","h.0.attn.bias":"model-1.safetensors","b":"model-2.safetensors"}}`
	for name, files := range map[string]map[string]string{
		"one file":      {"config.json": "{}", "model.safetensors": a},
		"several files": {"config.json": "{}", indexFile: index, "model-1.safetensors": a, "model-2.safetensors": b, "tokenizer.json": "{}"},
	} {
		dir := folder(t, files)
		c, err := OpenHuggingFace(dir, anything)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := []compute.Tensor{tensor("a", []int{2}, 1, 2)}
		if name == "several files" {
			want = append(want, tensor("b", []int{1}, 3))
		}
		if d, err := Compare(want, c.Model); err != nil || total(d) != 0 || (c.Tokenizer != nil) != (len(want) == 2) || !HoldsModel(dir) {
			t.Errorf("%s: %v %v, tokenizer %q", name, d, err, c.Tokenizer)
		}
	}
	for says, files := range map[string]map[string]string{
		"config.json is missing":                {},
		"config.json":                           {"config.json": "[]"},
		"model.safetensors is missing":          {"config.json": "{}"},
		"save_pretrained":                       {"config.json": "{}", "pytorch_model.bin": "x"},
		"not a safetensors file":                {"config.json": "{}", "model.safetensors": "damaged damaged"},
		"fill 12 of":                            {"config.json": "{}", "model.safetensors": a + "x"},
		"in 8":                                  {"config.json": "{}", "model.safetensors": a[:len(a)-4]},
		"model-2.safetensors is missing":        {"config.json": "{}", indexFile: index, "model-1.safetensors": a},
		`model-2.safetensors has no tensor "b"`: {"config.json": "{}", indexFile: index, "model-1.safetensors": a, "model-2.safetensors": a},
		"weight_map with 0":                     {"config.json": "{}", indexFile: "{}"},
		"same folder":                           {"config.json": "{}", indexFile: `{"weight_map":{"a":"../model.safetensors"}}`},
		indexFile:                               {"config.json": "{}", indexFile: "{"},
	} {
		dir := folder(t, files)
		if _, err := OpenHuggingFace(dir, anything); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), dir) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}

func TestWriteHuggingFace(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "new", "out")
	model := []compute.Tensor{tensor("a", []int{2}, 1, 2)}
	files := map[string][]byte{"config.json": []byte("{}"), "tokenizer.json": []byte("{}")}
	if err := WriteHuggingFace(dir, BFloat16, model, files); err != nil {
		t.Fatal(err)
	}
	c, err := OpenHuggingFace(dir, anything)
	if err != nil || len(c.Model) != 1 || !sameTensor(c.Model[0], model[0]) || names(t, dir) != "config.json model.safetensors tokenizer.json" {
		t.Fatalf("%+v, %v, %s", c, err, names(t, dir))
	}
	if err := WriteHuggingFace(dir, Float32, model, files); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("over another: %v", err)
	}
	empty := filepath.Join(parent, "empty")
	if err := errors.Join(os.Mkdir(empty, 0o755), WriteHuggingFace(empty, Float32, model, files)); err != nil {
		t.Errorf("into an empty folder: %v", err)
	}
	bad := []compute.Tensor{tensor("a", []int{1}, 1e30)}
	if err := WriteHuggingFace(filepath.Join(parent, "bad"), Float16, bad, files); err == nil || names(t, parent) != "empty new" {
		t.Errorf("a failure leaves %s, %v", names(t, parent), err)
	}
}

// FuzzIndex reads arbitrary bytes as the index of a folder: whatever is accepted
// names files of that folder only.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"x.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x.safetensors"}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		files, err := parseIndex(in)
		if err != nil {
			return
		}
		for name := range files {
			if strings.ContainsAny(name, `/\`) || name == ".." || len(files[name]) == 0 {
				t.Fatalf("accepted the file %q", name)
			}
		}
	})
}
