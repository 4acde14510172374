//go:build unix

package main

import (
	"runtime"
	"syscall"
)

// maxRSS returns the most memory this process has had resident, in bytes, or 0 when the system does not tell.
func maxRSS() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(usage.Maxrss) // bytes there, kB elsewhere
	}
	return int64(usage.Maxrss) * 1024
}
