//go:build !unix

package main

// maxResidentBytes returns 0: this system does not tell the most memory a process has had resident.
func maxResidentBytes() int64 { return 0 }

// residentBytes returns 0 likewise.
func residentBytes() int64 { return 0 }

// anonymousBytes too.
func anonymousBytes() int64 { return 0 }
