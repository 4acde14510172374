package folder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dunlin/store"
	"dunlin/wire"
)

// A folder that is in use is backed up from a frozen copy of it. Everything there but the databases is a file that is written
// once, replaced by renaming or, the newest bundle of small blobs, appended to; so a link to each, which costs no bytes, is a
// copy that holds still. The ledger is copied in one reading transaction. Raft's own files stay out: a coordinator without
// them gets its log from the others (docs/adr/0020).

const (
	frozenPrefix = ".frozen-" // of such copies, within the data folder; a name that backups pass over
	frozenFor    = 24 * time.Hour
)

// Freeze makes a frozen copy of a data folder whose run goes on; ledger writes a consistent copy of its ledger. The caller
// removes the copy; one that was left behind goes with the first Freeze a day later.
func (f Folder) Freeze(run wire.Hash, ledger func(io.Writer) error) (frozen Folder, err error) {
	f.Dir = filepath.Clean(f.Dir) // so that names compare
	if err := f.thaw(); err != nil {
		return frozen, err
	}
	dir, err := os.MkdirTemp(f.Dir, frozenPrefix+"*")
	if err != nil {
		return frozen, fmt.Errorf("freeze the data folder: %w", err)
	}
	frozen = Folder{Dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("freeze the data folder: %w", err), os.RemoveAll(dir))
		}
	}()
	changing := map[string]bool{}
	for _, name := range []string{LedgerFile, "raft.db", "snapshots"} {
		changing[filepath.Join(f.Run(run), name)] = true
	}
	stored := filepath.Join(f.Run(run), "store")
	kept := func() error { // bytes by their hashes
		return linkTree(f.Dir, dir, func(name string) bool { return !within(name, stored) && !within(stored, name) })
	}
	// The bytes come first, since they may be let go once newer ones are held; then the heads, which name a height; then the
	// ledger, which is at that height or above; then the bytes of what was appended meanwhile.
	if err := kept(); err != nil {
		return frozen, err
	}
	if err := linkTree(f.Dir, dir, func(name string) bool { return within(name, stored) || changing[name] }); err != nil {
		return frozen, err
	}
	if err := store.WriteStream(filepath.Join(frozen.Run(run), LedgerFile), 0o600, ledger); err != nil {
		return frozen, err
	}
	return frozen, kept()
}

// thaw removes copies that were left behind.
func (f Folder) thaw() error {
	left, err := filepath.Glob(filepath.Join(f.Dir, frozenPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > frozenFor {
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("remove an old copy: %w", err)
			}
		}
	}
	return nil
}

// within tells whether a path is another one or below it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, dir+string(filepath.Separator))
}

// linkTree links the files below a folder into another one, but for those that backups pass over and those to skip. A file
// that goes meanwhile is left out, one that is linked already stays.
func linkTree(from, to string, skip func(name string) bool) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		switch pass := passing(filepath.ToSlash(rel)) || skip(name); {
		case pass && d.IsDir():
			return fs.SkipDir
		case pass:
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		return linkOrCopy(name, filepath.Join(to, rel))
	})
}

// linkOrCopy copies where the file system has no links.
func linkOrCopy(name, to string) error {
	switch err := os.Link(name, to); {
	case err == nil, errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	in, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return store.WriteStream(to, 0o600, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}
