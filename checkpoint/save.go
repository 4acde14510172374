package checkpoint

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dunlin/store"
)

// Save writes c as a new step folder below dir, makes it the latest and removes
// all but the keep newest (at least 1), and returns the step folder's path.
// Once it returns the checkpoint survives a crash of the machine; until then
// dir holds the one before. One process saves into a folder at a time.
func Save(dir string, c *Checkpoint, keep int) (string, error) {
	s := saver{dir: dir, before: func(string) {}}
	folder, err := s.save(c, keep)
	if err != nil {
		return "", fmt.Errorf("save checkpoint into %s: %w", dir, err)
	}
	return folder, nil
}

// saver is one Save. Before is called ahead of each change on disk; tests crash
// there.
type saver struct {
	dir    string
	before func(change string)
}

// aside begins the names of folders that are being written.
const aside = ".saving-"

func (s *saver) save(c *Checkpoint, keep int) (string, error) {
	if err := checkConfig(c.Config); err != nil {
		return "", err
	}
	if len(c.Config) > maxConfig {
		return "", fmt.Errorf("%s of %d bytes, at most %d are allowed", configFile, len(c.Config), maxConfig)
	}
	if len(c.Tokenizer) > maxTokenizer {
		return "", fmt.Errorf("%s of %d bytes, at most %d are allowed", tokenizerFile, len(c.Tokenizer), maxTokenizer)
	}
	s.before("make folder")
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return "", err
	}
	if err := s.removeAbandoned(); err != nil {
		return "", err
	}
	s.before("make folder aside")
	tmp, err := os.MkdirTemp(s.dir, aside)
	if err != nil {
		return "", err
	}
	name, err := s.fill(tmp, c)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	s.before("move pointer")
	if err := store.WriteFile(filepath.Join(s.dir, latestFile), []byte(name+"\n"), 0o644); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, name), s.prune(name, keep)
}

// fill writes everything into folder tmp, flushes it and renames it to the
// first free name of its step.
func (s *saver) fill(tmp string, c *Checkpoint) (name string, err error) {
	m := manifest{Format: manifestFormat, Step: c.Step, Files: make(map[string]fileRecord)}
	add := func(name string, body func(io.Writer) error) error {
		s.before("write " + name)
		r, err := writeFile(filepath.Join(tmp, name), body)
		m.Files[name] = r
		return err
	}
	// Other tools refuse a file that does not say which framework's layout it has.
	format := map[string]string{"format": "pt"}
	if err := add(modelFile, func(w io.Writer) error { return Write(w, c.Model, format) }); err != nil {
		return "", err
	}
	if err := add(configFile, func(w io.Writer) error { return writeAll(w, c.Config) }); err != nil {
		return "", err
	}
	if c.Tokenizer != nil {
		if err := add(tokenizerFile, func(w io.Writer) error { return writeAll(w, c.Tokenizer) }); err != nil {
			return "", err
		}
	}
	if t := c.Trainer; t != nil {
		if err := add(trainerFile, func(w io.Writer) error { return Write(w, t.Tensors, t.Meta) }); err != nil {
			return "", err
		}
	}
	record, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return "", err
	}
	s.before("write " + manifestFile)
	if _, err := writeFile(filepath.Join(tmp, manifestFile), func(w io.Writer) error { return writeAll(w, append(record, '\n')) }); err != nil {
		return "", err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	if err := store.SyncDir(tmp); err != nil {
		return "", err
	}
	name = s.freeName(c.Step)
	s.before("rename folder")
	if err := os.Rename(tmp, filepath.Join(s.dir, name)); err != nil {
		return "", err
	}
	s.before("flush folder")
	return name, store.SyncDir(s.dir)
}

// writeFile makes a file durable and returns what the manifest says of it.
func writeFile(path string, body func(io.Writer) error) (fileRecord, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fileRecord{}, err
	}
	d := sha256.New()
	err = body(io.MultiWriter(f, d))
	if err == nil {
		err = f.Sync()
	}
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return fileRecord{}, err
	}
	return fileRecord{Bytes: info.Size(), SHA256: hex.EncodeToString(d.Sum(nil))}, nil
}

// freeName avoids the folder of an earlier save of the same step, which may be
// the latest and must stay whole until the pointer has moved.
func (s *saver) freeName(step uint64) string {
	name := stepName(step)
	for again := 1; ; again++ {
		if _, err := os.Lstat(filepath.Join(s.dir, name)); errors.Is(err, fs.ErrNotExist) {
			return name
		}
		name = fmt.Sprintf("%s.%d", stepName(step), again)
	}
}

func stepName(step uint64) string { return fmt.Sprintf("step-%09d", step) }

// parseStepName is strict: the pointer names a folder beside it and nothing else.
func parseStepName(name string) (step uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	if !ok {
		return 0, false
	}
	number, again, repeated := strings.Cut(digits, ".")
	if repeated {
		if n, err := strconv.ParseUint(again, 10, 32); err != nil || strconv.FormatUint(n, 10) != again {
			return 0, false
		}
	}
	step, err := strconv.ParseUint(number, 10, 64)
	return step, err == nil && stepName(step) == "step-"+number
}

// removeAbandoned clears what crashes have left aside.
func (s *saver) removeAbandoned() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), aside) || strings.HasPrefix(e.Name(), "."+latestFile+"-") {
			s.before("remove abandoned")
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

type stepFolder struct {
	name    string
	step    uint64
	written time.Time
}

// stepFolders lists the checkpoints of dir, the last written first.
func stepFolders(dir string) ([]stepFolder, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var steps []stepFolder
	for _, e := range entries {
		step, ok := parseStepName(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		steps = append(steps, stepFolder{name: e.Name(), step: step, written: info.ModTime()})
	}
	slices.SortFunc(steps, func(a, b stepFolder) int {
		return cmp.Or(b.written.Compare(a.written), cmp.Compare(b.step, a.step), strings.Compare(b.name, a.name))
	})
	return steps, nil
}

// prune removes all but the keep newest checkpoints; latest is one of them. The
// manifest goes first, so that a half removed folder never passes for whole.
func (s *saver) prune(latest string, keep int) error {
	steps, err := stepFolders(s.dir)
	if err != nil {
		return err
	}
	left := max(keep, 1) - 1 // beside the latest
	for _, f := range steps {
		if f.name == latest {
			continue
		}
		if left > 0 {
			left--
			continue
		}
		folder := filepath.Join(s.dir, f.name)
		s.before("remove old manifest")
		if err := os.Remove(filepath.Join(folder, manifestFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.before("remove old folder")
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
	}
	return nil
}
