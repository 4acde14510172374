//go:build unix

package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// processSeconds is the processor time of this process.
func processSeconds() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("processor use: %w", err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, nil
}
