package swarm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// InUseError says that another process works in a data folder.
type InUseError struct {
	Folder  string
	Process int // its process id, 0 when not known
}

func (e *InUseError) Error() string {
	if e.Process == 0 {
		return fmt.Sprintf("data folder %s is in use by another process; stop it or choose another folder", e.Folder)
	}
	return fmt.Sprintf("data folder %s is in use by process %d; stop it or choose another folder", e.Folder, e.Process)
}

// errLocked is what lockFile returns for a file that another process holds.
var errLocked = errors.New("locked")

// FolderLock keeps other processes of this machine out of a data folder. The
// system drops it when the process ends, however that happens.
type FolderLock struct{ file *os.File }

// LockFolder makes the folder if needed and takes its lock, or fails at once:
// with *InUseError when another process, or this one, already holds it.
func LockFolder(folder string) (*FolderLock, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := lockFile(f); err != nil {
		defer f.Close()
		if errors.Is(err, errLocked) {
			return nil, &InUseError{Folder: folder, Process: lockHolder(f)}
		}
		return nil, fmt.Errorf("lock data folder %s: %w", folder, err)
	}
	// The number is for people only; the lock itself is the system's.
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock data folder %s: %w", folder, err)
		}
	}
	return &FolderLock{file: f}, nil
}

// Unlock lets others in. The file stays: removing it would let two processes hold two locks.
func (l *FolderLock) Unlock() error { return l.file.Close() }

func lockHolder(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
