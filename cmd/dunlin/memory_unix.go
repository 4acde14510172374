//go:build unix && !linux

package main

import (
	"runtime"
	"syscall"
)

// maxResidentBytes returns the most memory this process has had resident, or 0 when the system does not tell.
func maxResidentBytes() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(usage.Maxrss) // bytes there, kB elsewhere
	}
	return int64(usage.Maxrss) * 1024
}

// residentBytes returns the most so far: what is resident now takes more than a system call to know here.
func residentBytes() int64 { return maxResidentBytes() }

// anonymousBytes is no other: nothing lies in files on these systems.
func anonymousBytes() int64 { return residentBytes() }
