//go:build unix && !linux

package machine

// ownSeconds is what busySeconds counts of this process.
func ownSeconds() (float64, error) { return processSeconds() }
