//go:build amd64 && !noasm

package replica

import "github.com/klauspost/cpuid/v2"

// pairs tells whether two messages can be hashed at once.
var pairs = cpuid.CPU.Supports(cpuid.SHA, cpuid.SSSE3, cpuid.SSE4)

func sha256Pair(states *[2][8]uint32, a, b []byte, blocks int) {
	sha256PairSHA(states, &a[0], &b[0], blocks)
}
