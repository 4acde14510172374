//go:build !unix

package main

// cpuSeconds returns 0: this system does not tell the CPU time of a process so simply.
func cpuSeconds() float64 { return 0 }
