//go:build linux || darwin || freebsd

package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Disk returns bytes of the file system that holds a folder, and those that this user can still write.
func Disk(folder string) (total, free uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, 0, fmt.Errorf("disk of %s: %w", folder, err)
	}
	return uint64(s.Blocks) * uint64(s.Bsize), uint64(s.Bavail) * uint64(s.Bsize), nil
}
