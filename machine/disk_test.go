package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"syscall"
	"testing"
)

func TestDiskFull(t *testing.T) {
	full, other := syscall.ENOSPC, syscall.EIO
	if runtime.GOOS == "windows" {
		full = windowsDiskFull
	}
	within := func(err error) error {
		return fmt.Errorf("sync: %w", errors.Join(&fs.PathError{Op: "write", Path: "ledger.db", Err: err}, errors.New("more")))
	}
	if !DiskFull(within(full)) || DiskFull(within(other)) || DiskFull(nil) {
		t.Errorf("full: %v, other: %v, none: %v", DiskFull(within(full)), DiskFull(within(other)), DiskFull(nil))
	}
}
