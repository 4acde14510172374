package machine

import (
	"errors"
	"runtime"
	"syscall"
)

// What Windows calls a full disk: ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL. Elsewhere these numbers are other errors.
const (
	windowsHandleDiskFull syscall.Errno = 39
	windowsDiskFull       syscall.Errno = 112
)

// DiskFull tells whether an error says that a disk, or this user's share of it, has no room left.
func DiskFull(err error) bool {
	if runtime.GOOS == "windows" {
		return errors.Is(err, windowsDiskFull) || errors.Is(err, windowsHandleDiskFull)
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
