//go:build !linux && !darwin && !freebsd && !windows

package machine

import "fmt"

// Disk is not told here.
func Disk(folder string) (total, free uint64, err error) {
	return 0, 0, fmt.Errorf("disk of %s: %w", folder, ErrUntold)
}
