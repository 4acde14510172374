package checkpoint

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/compute"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// trained is a checkpoint with all kinds of state.
func trained(step uint64) *Checkpoint {
	c := &Checkpoint{
		Step: step, Config: []byte(`{"n_layer": 2}`), Tokenizer: []byte(`{"model": {}}`),
		Model:   []compute.Tensor{numbered("wte.weight", 5, 4), numbered("h.0.weight", 6, 3), numbered("h.0.bias", 7), numbered("h.1.weight", 4, 8)},
		Trainer: &Trainer{Tensors: []compute.Tensor{numbered("adagrad.sum", 2)}, Meta: map[string]string{"step": fmt.Sprint(step), "windows": "40"}},
	}
	for _, kind := range []string{"adamw.m", "adamw.v", "average", "feedback"} {
		for i, t := range c.Model {
			moment := numbered(kind+"."+t.Name, t.Shape...)
			for j := range moment.Data {
				moment.Data[j] += float32(len(kind)*100 + int(kind[len(kind)-1]) + i)
			}
			c.Trainer.Tensors = append(c.Trainer.Tensors, moment)
		}
	}
	return c
}

// small is a checkpoint for tests that write many, since every file is flushed.
func small(step uint64) *Checkpoint {
	c := trained(step)
	c.Model, c.Trainer.Tensors = c.Model[1:3], append(c.Trainer.Tensors[:1], c.Trainer.Tensors[2:4]...)
	return c
}

// tree returns the content of every file below a folder.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func sameTree(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s: %s has other bytes or is missing", what, name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d files, want %d", what, len(got), len(want))
	}
}

func TestUniversalKeepsACheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "u")
	want := trained(7)
	if err := SaveUniversal(dir, want); err != nil {
		t.Fatal(err)
	}
	u, err := OpenUniversal(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := u.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if got.Step != 7 || string(got.Config) != string(want.Config) || string(got.Tokenizer) != string(want.Tokenizer) || fmt.Sprint(got.Trainer.Meta) != fmt.Sprint(want.Trainer.Meta) {
		t.Errorf("%+v", got)
	}
	for _, both := range [][2][]compute.Tensor{{want.Model, got.Model}, {want.Trainer.Tensors, got.Trainer.Tensors}} {
		if d, err := Compare(both[0], both[1]); err != nil || total(d) != 0 {
			t.Errorf("%v, %v", d, err)
		}
	}
	kinds := map[string]int{}
	for _, b := range u.Blobs {
		kinds[b.Kind]++
	}
	if fmt.Sprint(kinds) != "map[adagrad.sum:1 adamw.m:4 adamw.v:4 average:4 config:1 counters:1 feedback:4 tokenizer:1 weights:4]" {
		t.Errorf("kinds %v", kinds)
	}
	bare := &Checkpoint{Config: want.Config, Model: want.Model}
	if err := SaveUniversal(dir, bare); err != nil {
		t.Fatal(err)
	}
	if u, err = OpenUniversal(dir); err != nil {
		t.Fatal(err)
	}
	if got, err = u.Checkpoint(); err != nil || got.Trainer != nil || got.Tokenizer != nil {
		t.Errorf("a model alone: %+v, %v", got, err)
	}
}

// divide deals a checkpoint to writers: whole parameters by turns, or portions of
// each along an axis, where it is long enough.
func divide(t *testing.T, c *Checkpoint, writers int, how string) []*Part {
	t.Helper()
	all, err := c.part()
	if err != nil {
		t.Fatal(err)
	}
	parts := make([]*Part, writers)
	for i := range parts {
		parts[i] = &Part{Step: c.Step, Bytes: all.Bytes} // each knows the counters
	}
	for i, p := range all.Portions {
		axis := map[string]int{"rows": 0, "columns": 1}[how]
		if how == "stages" || axis >= len(p.Shape) || p.Shape[axis] < writers {
			parts[i%writers].Portions = append(parts[i%writers].Portions, p)
			if len(p.Shape) == 1 && writers > 1 { // norms and biases are on every stage
				parts[(i+1)%writers].Portions = append(parts[(i+1)%writers].Portions, p)
			}
			continue
		}
		for k := range writers {
			from, to := k*p.Shape[axis]/writers, (k+1)*p.Shape[axis]/writers
			part, err := cut(p.Tensor, axis, from, to)
			if err != nil {
				t.Fatal(err)
			}
			parts[k].Portions = append(parts[k].Portions, Portion{Tensor: part, Kind: p.Kind, Axis: axis, From: from, Whole: p.Shape[axis]})
		}
	}
	return parts
}

func writeParts(t *testing.T, dir string, parts []*Part) {
	t.Helper()
	for i := range slices.Backward(parts) { // in no particular order
		if err := WritePart(dir, i+1, len(parts), parts[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := FinishUniversal(dir); err != nil {
		t.Fatal(err)
	}
}

// TestAnyNumberWritesAndReads has 1, 2 and 3 writers divide the state in three
// ways: the folders are the same, byte for byte, and so is what 1, 2 and 3 readers
// make of them, who write it again.
func TestAnyNumberWritesAndReads(t *testing.T) {
	c := small(9)
	one := t.TempDir()
	writeParts(t, one, divide(t, c, 1, "stages"))
	want := tree(t, one)
	if len(want) != 9 { // 2 weights, 3 of the trainer, 3 that are no numbers, the manifest
		t.Fatalf("only %d files", len(want))
	}
	for _, how := range []string{"stages", "rows", "columns"} {
		for writers := 1; writers <= 3; writers++ {
			dir := t.TempDir()
			writeParts(t, dir, divide(t, c, writers, how))
			sameTree(t, fmt.Sprintf("%d writers by %s", writers, how), want, tree(t, dir))
			for readers := 1; readers <= 3 && how == "columns"; readers++ {
				again := t.TempDir()
				writeParts(t, again, readParted(t, dir, readers))
				sameTree(t, fmt.Sprintf("%d writers by %s, %d readers", writers, how, readers), want, tree(t, again))
			}
		}
	}
}

// readParted reads a folder as so many readers would, each its rows.
func readParted(t *testing.T, dir string, readers int) []*Part {
	t.Helper()
	u, err := OpenUniversal(dir)
	if err != nil {
		t.Fatal(err)
	}
	parts := make([]*Part, readers)
	for k := range parts {
		parts[k] = &Part{Step: u.Step, Bytes: map[string][]byte{}}
		for _, b := range u.Blobs {
			if b.Type == typeBytes {
				if parts[k].Bytes[b.Kind], err = u.Bytes(b.Kind); err != nil {
					t.Fatal(err)
				}
				continue
			}
			rows := b.Shape[0]
			if from, to := k*rows/readers, (k+1)*rows/readers; from < to {
				p, err := u.Portion(b.Kind, b.Parameter, 0, from, to)
				if err != nil {
					t.Fatal(err)
				}
				parts[k].Portions = append(parts[k].Portions, p)
			}
		}
	}
	return parts
}

// TestUnchangedBlobsStay saves a later step over an earlier one.
func TestUnchangedBlobsStay(t *testing.T) {
	dir := t.TempDir()
	c := trained(1)
	if err := SaveUniversal(dir, c); err != nil {
		t.Fatal(err)
	}
	before := stats(t, dir)
	c.Step = 2
	c.Model[1].Data[0]++
	c.Trainer.Meta["step"] = "2"
	if err := SaveUniversal(dir, c); err != nil {
		t.Fatal(err)
	}
	after := stats(t, dir)
	fresh := 0
	for name, info := range after {
		if was, ok := before[name]; !ok || !os.SameFile(was, info) {
			fresh++
		}
	}
	if fresh != 3 || len(after) != len(before) { // a weight, the counters, the manifest
		t.Errorf("%d files are new, %d in all, %d before", fresh, len(after), len(before))
	}
	// Writers that have not finished change nothing, and what they left is taken away.
	c.Step = 3
	c.Model[1].Data[0]++
	if err := WritePart(dir, 1, 2, divide(t, c, 2, "rows")[0]); err != nil {
		t.Fatal(err)
	}
	if u, err := OpenUniversal(dir); err != nil || u.Step != 2 {
		t.Errorf("an unfinished checkpoint is read: %v", err)
	} else if _, err := u.Checkpoint(); err != nil {
		t.Error(err)
	}
	c = trained(4)
	if err := SaveUniversal(dir, c); err != nil {
		t.Fatal(err)
	}
	if now := stats(t, dir); len(now) != len(before) {
		t.Errorf("%d files, want %d", len(now), len(before))
	}
}

func stats(t *testing.T, dir string) map[string]fs.FileInfo {
	t.Helper()
	infos := make(map[string]fs.FileInfo)
	for name := range tree(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		infos[name] = info
	}
	return infos
}

// TestDamagedBlobsAreRefused harms each file of a folder in turn.
func TestDamagedBlobsAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := SaveUniversal(dir, trained(1)); err != nil {
		t.Fatal(err)
	}
	open := func() error {
		u, err := OpenUniversal(dir)
		if err != nil {
			return err
		}
		_, err = u.Checkpoint()
		return err
	}
	for name, content := range tree(t, dir) {
		path := filepath.Join(dir, name)
		for _, harmed := range []string{content[:len(content)/2], content + "x", flip(content, len(content)/3), flip(content, len(content)-2)} {
			write(t, path, harmed)
			if err := open(); err == nil || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s of %d bytes, now %d: %v", name, len(content), len(harmed), err)
			}
		}
		remove(t, path)
		if err := open(); err == nil || name == universalFile != errors.Is(err, ErrNone) {
			t.Errorf("%s is gone: %v", name, err)
		}
		write(t, path, content)
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	// A damaged blob is written again, not taken for the one that is needed.
	for name, content := range tree(t, dir) {
		if name != universalFile {
			write(t, filepath.Join(dir, name), content[1:])
		}
	}
	if err := errors.Join(SaveUniversal(dir, trained(1)), open()); err != nil {
		t.Fatal(err)
	}
}

func flip(content string, at int) string {
	b := []byte(content)
	b[at] ^= 1
	return string(b)
}

func TestPartsThatDoNotFit(t *testing.T) {
	for says, change := range map[string]func(p []*Part){
		"part 2 is of step 6":                func(p []*Part) { p[1].Step++ },
		"the values from 3 to 6 are missing": func(p []*Part) { p[1].Portions = p[1].Portions[1:] },
		"after the values to 0 come":         func(p []*Part) { p[0].Portions = p[0].Portions[1:] },
		"after the values to 3 come":         func(p []*Part) { p[1].Portions[0].From = 1 },
		"different values":                   func(p []*Part) { p[1].Bytes = map[string][]byte{KindCounters: []byte("{}")} },
		"in different ways":                  func(p []*Part) { p[1].Portions[0].Whole = 7 },
		"no such part":                       func(p []*Part) { p[0].Portions[0].From = -1 },
		"twice":                              func(p []*Part) { p[0].Portions = append(p[0].Portions, p[0].Portions[0]) },
		"kind of 1 to":                       func(p []*Part) { p[0].Portions[0].Kind = "" },
		"values":                             func(p []*Part) { p[0].Portions[0].Data = nil },
	} {
		dir := t.TempDir()
		parts := divide(t, small(5), 2, "rows")
		change(parts)
		err := errors.Join(WritePart(dir, 1, 2, parts[0]), WritePart(dir, 2, 2, parts[1]))
		if err == nil {
			err = FinishUniversal(dir)
		}
		if err == nil || !strings.Contains(err.Error(), says) || HoldsUniversal(dir) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
	dir := t.TempDir()
	if err := FinishUniversal(dir); err == nil || !strings.Contains(err.Error(), "no part") {
		t.Errorf("no parts: %v", err)
	}
	parts := divide(t, small(5), 2, "rows")
	if err := errors.Join(WritePart(dir, 2, 2, parts[1])); err != nil {
		t.Fatal(err)
	}
	if err := FinishUniversal(dir); err == nil || !strings.Contains(err.Error(), "part 1 of 2 has not been written") {
		t.Errorf("one part: %v", err)
	}
	if err := errors.Join(WritePart(dir, 1, 3, parts[0])); err != nil {
		t.Fatal(err)
	}
	if err := FinishUniversal(dir); err == nil || !strings.Contains(err.Error(), "parts of 3 and parts of 2") {
		t.Errorf("parts of different numbers: %v", err)
	}
	if err := WritePart(dir, 3, 2, parts[0]); err == nil {
		t.Error("part 3 of 2 was written")
	}
	if err := SaveUniversal(dir, small(1)); err != nil {
		t.Errorf("after others that did not finish: %v", err)
	}
	write(t, filepath.Join(dir, "notes"), "of mine")
	if err := SaveUniversal(dir, small(1)); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("over another's files: %v", err)
	}
}

// TestGoldenUniversal opens a folder that an earlier release has written, and
// writes the same bytes.
func TestGoldenUniversal(t *testing.T) {
	c := &Checkpoint{
		Step: 3, Config: []byte(`{"n_layer": 1}`), Model: []compute.Tensor{tensor("w", []int{2, 2}, 1, -2, 0.5, 3e-40), tensor("b", []int{1}, 7)},
		Trainer: &Trainer{Tensors: []compute.Tensor{tensor("adamw.m.w", []int{2, 2}, 0, 1, 2, 3)}, Meta: map[string]string{"step": "3"}},
	}
	const golden = "testdata/universal"
	if *update {
		if err := errors.Join(os.RemoveAll(golden), SaveUniversal(golden, c)); err != nil {
			t.Fatal(err)
		}
	}
	u, err := OpenUniversal(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, err := u.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	for _, both := range [][2][]compute.Tensor{{c.Model, got.Model}, {c.Trainer.Tensors, got.Trainer.Tensors}} {
		if d, err := Compare(both[0], both[1]); err != nil || total(d) != 0 {
			t.Errorf("%v, %v", d, err)
		}
	}
	if got.Step != 3 || got.Trainer.Meta["step"] != "3" || string(got.Config) != string(c.Config) {
		t.Errorf("%+v", got)
	}
	dir := t.TempDir()
	if err := SaveUniversal(dir, got); err != nil {
		t.Fatal(err)
	}
	sameTree(t, "written again", tree(t, golden), tree(t, dir))
}

// FuzzBlobManifest reads arbitrary bytes: what is accepted names files inside the
// folder, is as long as its shape says, and survives a round trip.
func FuzzBlobManifest(f *testing.F) {
	hash := strings.Repeat("0a", 32)
	f.Add([]byte(`{"format":1,"step":3,"blobs":[{"kind":"weights","parameter":"w","dtype":"F32","shape":[2,3],"bytes":24,"sha256":"` + hash + `"}]}`))
	f.Add([]byte(`{"format":1,"blobs":[{"kind":"weights","parameter":"w","dtype":"F32","shape":[2,3],"bytes":24,"axis":1,"from":1,"whole":9,"sha256":"` + hash + `"}]}`))
	f.Add([]byte(`{"format":1,"blobs":[{"kind":"counters","dtype":"BYTES","bytes":2,"sha256":"` + hash + `"}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := parseBlobManifest(in)
		if err != nil {
			return
		}
		for _, b := range m.Blobs {
			if path := b.path("dir"); filepath.Dir(filepath.Dir(path)) != filepath.Join("dir", blobFolder) || b.Bytes < 0 {
				t.Fatalf("accepted %q of %d bytes", path, b.Bytes)
			}
		}
		text, err := m.encode()
		if err != nil {
			t.Fatalf("accepted what cannot be written: %v", err)
		}
		again, err := parseBlobManifest(text)
		if err != nil || again.verify() != nil || len(again.Blobs) != len(m.Blobs) || again.Step != m.Step {
			t.Fatalf("round trip: %v", err)
		}
	})
}
