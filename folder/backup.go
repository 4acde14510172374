package folder

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"dunlin/store"
	"dunlin/wire"
)

// A backup is a tar file: every file of a data folder under its name there, then backupSums with the SHA-256 of each. What
// belongs to one process alone (lock, page, orders, files being written) stays out.

// backupSums is the last file of a backup.
const backupSums = "dunlin-backup.json"

// Bounds on a backup that is restored.
const (
	maxBackupFiles = 10_000_000
	maxBackupSums  = 1 << 30
)

// ErrBackup is wrapped by every error about a backup that cannot be restored.
var ErrBackup = errors.New("bad backup")

// sums is what a backup says of itself.
type sums struct {
	Format int               `json:"format"`
	Run    wire.Hash         `json:"run"`
	Files  map[string]string `json:"files"` // SHA-256 in hex by name
}

const backupFormat = 1

// Backup writes a data folder, its keys and secrets too, to w. Nobody may use the folder meanwhile; of one in use, Freeze
// makes a copy first.
func (f Folder) Backup(w io.Writer) (files int, size int64, err error) {
	run, err := f.Current()
	if err != nil {
		return 0, 0, err
	}
	out := tar.NewWriter(w)
	all := sums{Format: backupFormat, Run: run, Files: map[string]string{}}
	err = filepath.WalkDir(f.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(f.Dir, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() && passing(rel) {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || passing(rel) {
			return nil
		}
		sum, n, err := pack(out, name, rel)
		all.Files[rel] = sum
		size += n
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("back up %s: %w", f.Dir, err)
	}
	body, err := json.Marshal(all)
	if err != nil {
		return 0, 0, err
	}
	if err := out.WriteHeader(&tar.Header{Name: backupSums, Mode: 0o600, Size: int64(len(body))}); err != nil {
		return 0, 0, fmt.Errorf("write backup: %w", err)
	}
	if _, err := out.Write(body); err != nil {
		return 0, 0, fmt.Errorf("write backup: %w", err)
	}
	return len(all.Files), size, out.Close()
}

// passing reports whether a name in a data folder is one process's alone.
func passing(name string) bool {
	return name == "lock" || name == "page" || name == "orders" || path.Base(name) == "tmp" || path.Base(name) != "." && strings.HasPrefix(path.Base(name), ".")
}

// pack writes one file and returns its sum and size.
func pack(out *tar.Writer, name, as string) (string, int64, error) {
	in, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return "", 0, err
	}
	if err := out.WriteHeader(&tar.Header{Name: as, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime()}); err != nil {
		return "", 0, err
	}
	sum := sha256.New()
	// Of a file that is appended to, what was there when its size was read.
	if _, err := io.CopyN(io.MultiWriter(out, sum), in, info.Size()); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(sum.Sum(nil)), info.Size(), nil
}

// Restore makes a data folder, which must be new or empty, from a backup. The folder is there only once every file is, with
// the sum that the backup says.
func Restore(r io.Reader, dir string) (run wire.Hash, files int, err error) {
	if rest, err := os.ReadDir(dir); err == nil && len(rest) > 0 {
		return run, 0, fmt.Errorf("restore into %s: it holds files: choose a new folder, or move that one away", dir)
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return run, 0, fmt.Errorf("restore: %w", err)
	}
	aside, err := os.MkdirTemp(parent, ".restore-*")
	if err != nil {
		return run, 0, fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	all, err := unpack(r, aside)
	if err != nil {
		return run, 0, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is empty
		return run, 0, fmt.Errorf("restore: %w", err)
	}
	if err := os.Rename(aside, dir); err != nil {
		return run, 0, fmt.Errorf("restore: %w", err)
	}
	return all.Run, len(all.Files), store.SyncDir(parent)
}

// unpack writes a backup's files below dir and checks them against its sums.
func unpack(r io.Reader, dir string) (*sums, error) {
	in := tar.NewReader(r)
	have := map[string]string{}
	for {
		h, err := in.Next()
		if err != nil {
			return nil, fmt.Errorf("%w: it is cut off or no backup of dunlin: %w", ErrBackup, err)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(filepath.FromSlash(h.Name)) || path.Clean(h.Name) != h.Name || h.Size < 0 {
			return nil, fmt.Errorf("%w: %.100q is no file of a data folder", ErrBackup, h.Name)
		}
		if h.Name == backupSums {
			return checkSums(in, h.Size, have)
		}
		if _, twice := have[h.Name]; twice || len(have) >= maxBackupFiles {
			return nil, fmt.Errorf("%w: %.100q comes twice, or there are more than %d files", ErrBackup, h.Name, maxBackupFiles)
		}
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
		sum := sha256.New()
		if err := store.WriteStream(name, 0o600, func(w io.Writer) error {
			_, err := io.Copy(io.MultiWriter(w, sum), in)
			return err
		}); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("%w: it is cut off: %w", ErrBackup, err)
			}
			return nil, fmt.Errorf("restore %.100q: %w", h.Name, err)
		}
		have[h.Name] = hex.EncodeToString(sum.Sum(nil))
	}
}

func checkSums(r io.Reader, size int64, have map[string]string) (*sums, error) {
	if size > maxBackupSums {
		return nil, fmt.Errorf("%w: a list of %d bytes", ErrBackup, size)
	}
	var all sums
	if err := json.NewDecoder(r).Decode(&all); err != nil {
		return nil, fmt.Errorf("%w: its list of files: %w", ErrBackup, err)
	}
	if all.Format != backupFormat {
		return nil, fmt.Errorf("%w: format %d, this release reads %d: use the release that made it", ErrBackup, all.Format, backupFormat)
	}
	if len(have) != len(all.Files) {
		return nil, fmt.Errorf("%w: %d files of %d", ErrBackup, len(have), len(all.Files))
	}
	for name, sum := range all.Files {
		if have[name] != sum {
			return nil, fmt.Errorf("%w: %.100q is not what was backed up: take another copy of the backup", ErrBackup, name)
		}
	}
	return &all, nil
}
