package main

import (
	"bytes"
	"os"
	"strconv"
)

// maxResidentBytes returns the most memory this program has had resident, or 0 when the system does not tell. The kernel's
// count for getrusage will not do: it also remembers what the process held before it became this program, which is
// the parent's memory when the parent is large.
func maxResidentBytes() int64 { return statusBytes("VmHWM:") }

// residentBytes returns the memory that is resident now.
func residentBytes() int64 { return statusBytes("VmRSS:") }

// anonymousBytes returns that of it which lies in no file.
func anonymousBytes() int64 { return statusBytes("RssAnon:") }

// statusBytes returns a value of /proc/self/status, which is in kB there.
func statusBytes(key string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text, []byte("\n"+key))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kB, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kB << 10
}
