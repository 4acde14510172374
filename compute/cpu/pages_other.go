//go:build !linux

package cpu

// largePages does nothing: this system decides by itself.
func largePages([]float32) {}
