//go:build !unix

package main

// maxRSS returns 0: this system does not tell the most memory a process has had resident.
func maxRSS() int64 { return 0 }
