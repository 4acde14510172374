package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/compute"
)

// sample is a checkpoint whose every value depends on step.
func sample(step uint64) *Checkpoint {
	v := float32(step)
	return &Checkpoint{
		Step:   step,
		Config: []byte(fmt.Sprintf(`{"n_layer": %d}`, step)),
		Model:  []compute.Tensor{tensor("transformer.wte.weight", []int{2, 2}, v, v+1, v+2, v+3), tensor("b", []int{1}, -v)},
		Trainer: &Trainer{
			Tensors: []compute.Tensor{tensor("m", []int{2}, v/3, v/7)},
			Meta:    map[string]string{"position": fmt.Sprint(step * 10)},
		},
	}
}

func dump(t *testing.T, c *Checkpoint) string {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %s\n", c.Step, c.Config)
	if err := Write(&b, c.Model, nil); err != nil {
		t.Fatal(err)
	}
	if c.Trainer != nil {
		if err := Write(&b, c.Trainer.Tensors, c.Trainer.Meta); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func mustSave(t *testing.T, dir string, c *Checkpoint, keep int) string {
	t.Helper()
	folder, err := Save(dir, c, keep)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// expect checks that dir's latest checkpoint is exactly sample(step).
func expect(t *testing.T, dir string, step uint64) {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if dump(t, c) != dump(t, sample(step)) {
		t.Fatalf("opened step %d, want step %d whole", c.Step, step)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, e := range entries {
		s = append(s, e.Name())
	}
	return strings.Join(s, " ")
}

func TestSaveThenOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	folder := mustSave(t, dir, sample(400), 2)
	expect(t, dir, 400)
	expect(t, folder, 400) // the step folder itself is a checkpoint too
	if got := names(t, folder); got != "checkpoint.json config.json model.safetensors trainer.safetensors" {
		t.Fatalf("files %s", got)
	}
	config, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil || string(config) != `{"n_layer": 400}` {
		t.Fatalf("config %q, %v", config, err)
	}
}

// TestOpenInto reads into memory that is there, and into new memory where there is none or of another length.
func TestOpenInto(t *testing.T) {
	dir := t.TempDir()
	mustSave(t, dir, sample(3), 1)
	there, other := make([]float32, 4), make([]float32, 3)
	got, err := OpenInto(dir, func(name string, n int) []float32 {
		return map[string][]float32{"transformer.wte.weight": there, "m": other}[name]
	})
	if err != nil || dump(t, got) != dump(t, sample(3)) {
		t.Fatalf("%+v, %v", got, err)
	}
	if &got.Model[0].Data[0] != &there[0] || other[0] != 0 {
		t.Errorf("memory of the right length holds %v, of another %v", there, other)
	}
}

func TestModelAloneIsACheckpoint(t *testing.T) {
	dir := t.TempDir()
	c := sample(3)
	c.Trainer = nil
	folder := mustSave(t, dir, c, 1)
	got, err := Open(dir)
	if err != nil || got.Trainer != nil || dump(t, got) != dump(t, c) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(folder, trainerFile)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestTokenizerIsKept(t *testing.T) {
	dir := t.TempDir()
	c := sample(3)
	c.Tokenizer = []byte(`{"model": {"type": "BPE"}}`)
	path := filepath.Join(mustSave(t, dir, c, 1), tokenizerFile)
	got, err := Open(dir)
	if err != nil || string(got.Tokenizer) != string(c.Tokenizer) || dump(t, got) != dump(t, c) {
		t.Fatalf("%q, %v", got.Tokenizer, err)
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), tokenizerFile) || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("%v", err)
	}
}

func TestSaveKeepsTheNewest(t *testing.T) {
	dir := t.TempDir()
	for step := uint64(1); step <= 5; step++ {
		mustSave(t, dir, sample(step), 2)
	}
	if got := names(t, dir); got != "latest step-000000004 step-000000005" {
		t.Fatalf("folder holds %s", got)
	}
	expect(t, dir, 5)
	mustSave(t, dir, sample(5), 1) // the same step again: the latest stays until the pointer moved
	if got := names(t, dir); got != "latest step-000000005.1" {
		t.Fatalf("folder holds %s", got)
	}
	expect(t, dir, 5)
}

func TestOpenWithoutCheckpoint(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := Open(path); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "x")); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Fatal(err)
	}
}

// Kill Save before each of its changes on disk: the folder always opens, as the
// old checkpoint or the new one, and the next Save succeeds and cleans up.
func TestCrashAtAnyMomentLeavesAWholeCheckpoint(t *testing.T) {
	type crash struct{ at string }
	outcomes := map[uint64]int{}
	for kill := 0; ; kill++ {
		dir := t.TempDir()
		mustSave(t, dir, sample(1), 2)
		mustSave(t, dir, sample(2), 2)
		step := 0
		s := saver{dir: dir, before: func(change string) {
			if step == kill {
				panic(crash{change})
			}
			step++
		}}
		finished := func() (finished bool) {
			defer func() {
				if r := recover(); r != nil {
					if _, ok := r.(crash); !ok {
						panic(r)
					}
				}
			}()
			if _, err := s.save(sample(3), 1); err != nil {
				t.Fatal(err)
			}
			return true
		}()
		c, err := Open(dir)
		if err != nil {
			t.Fatalf("killed before change %d: %v", kill, err)
		}
		if (c.Step != 2 && c.Step != 3) || dump(t, c) != dump(t, sample(c.Step)) {
			t.Fatalf("killed before change %d: step %d is not whole", kill, c.Step)
		}
		outcomes[c.Step]++
		mustSave(t, dir, sample(4), 1)
		expect(t, dir, 4)
		if got := names(t, dir); got != "latest step-000000004" {
			t.Fatalf("killed before change %d: %s is left over", kill, got)
		}
		if finished {
			break
		}
	}
	if outcomes[2] < 8 || outcomes[3] < 2 {
		t.Fatalf("outcomes %v: the crashes did not cover both sides of the pointer", outcomes)
	}
}

func TestFailedSaveLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	mustSave(t, dir, sample(1), 2)
	bad := sample(2)
	bad.Trainer.Tensors[0].Data = nil
	if _, err := Save(dir, bad, 2); err == nil {
		t.Fatal("a tensor without values was saved")
	}
	bad = sample(2)
	bad.Config = []byte("[1]")
	if _, err := Save(dir, bad, 2); err == nil {
		t.Fatal("a config that is no object was saved")
	}
	if got := names(t, dir); got != "latest step-000000001" {
		t.Fatalf("folder holds %s", got)
	}
	expect(t, dir, 1)
}

// Any damage to any file is refused with its name, and the whole checkpoint
// beside it is pointed out.
func TestDamageIsRefused(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"cut short":   func(b []byte) []byte { return b[:len(b)-1] },
		"emptied":     func([]byte) []byte { return nil },
		"grown":       func(b []byte) []byte { return append(b, ' ') },
		"flipped bit": func(b []byte) []byte { b[len(b)-2] ^= 4; return b },
	} {
		for _, target := range []string{modelFile, configFile, trainerFile} {
			dir := t.TempDir()
			whole := mustSave(t, dir, sample(1), 2)
			path := filepath.Join(mustSave(t, dir, sample(2), 2), target)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Open(dir)
			if err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), target) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("%s %s: %v", target, name, err)
			} else if !strings.Contains(err.Error(), whole+" is whole") {
				t.Errorf("%s %s: %q does not name the checkpoint before", target, name, err)
			}
		}
	}
}

func TestBrokenFoldersAreExplained(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir, step string)
		want   string
	}{
		{"model missing", func(t *testing.T, _, step string) { remove(t, filepath.Join(step, modelFile)) }, "model.safetensors is missing"},
		{"manifest missing", func(t *testing.T, _, step string) { remove(t, filepath.Join(step, manifestFile)) }, "checkpoint.json is missing"},
		{"pointer outside", func(t *testing.T, dir, _ string) { write(t, filepath.Join(dir, latestFile), "../elsewhere") }, "not the name of a step folder"},
		{"pointer empty", func(t *testing.T, dir, _ string) { write(t, filepath.Join(dir, latestFile), "") }, "not the name of a step folder"},
		{"pointer dangling", func(t *testing.T, dir, _ string) { write(t, filepath.Join(dir, latestFile), "step-000000009") }, "checkpoint.json is missing"},
		{"pointer huge", func(t *testing.T, dir, _ string) {
			write(t, filepath.Join(dir, latestFile), strings.Repeat("x", 100))
		}, "more than 64 bytes"},
		{"newer format", func(t *testing.T, _, step string) {
			write(t, filepath.Join(step, manifestFile), `{"format":2}`)
		}, "format 2"},
		{"manifest not JSON", func(t *testing.T, _, step string) { write(t, filepath.Join(step, manifestFile), `{`) }, "checkpoint.json"},
		{"manifest without model", func(t *testing.T, _, step string) {
			write(t, filepath.Join(step, manifestFile), `{"format":1,"files":{}}`)
		}, "does not list"},
		{"manifest with a path", func(t *testing.T, _, step string) {
			write(t, filepath.Join(step, manifestFile), `{"format":1,"files":{"model.safetensors":{},"config.json":{},"../../x":{}}}`)
		}, "no part of a checkpoint"},
	} {
		dir := t.TempDir()
		c.damage(t, dir, mustSave(t, dir, sample(1), 1))
		_, err := Open(dir)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %q", c.name, err, c.want)
		}
	}
}

func TestStepNames(t *testing.T) {
	for name, want := range map[string]bool{
		"step-000000001": true, "step-000000001.2": true, "step-1234567890123": true,
		"step-1": false, "step-": false, "step-000000001.": false, "step-000000001.02": false,
		"step-000000001.+2": false, "step-+00000001": false, "step-000000001/..": false, "..": false, "": false,
		"step-18446744073709551616": false,
	} {
		if _, ok := parseStepName(name); ok != want {
			t.Errorf("%q: %v", name, ok)
		}
	}
}

func TestWriteErrorIsReported(t *testing.T) {
	if err := Write(failing{}, sample(1).Model, nil); !errors.Is(err, io.ErrShortWrite) {
		t.Fatal(err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
