package main

import (
	"runtime/debug"
	"testing"
)

func TestResidentBytes(t *testing.T) {
	const size = 64 << 20
	debug.FreeOSMemory() // or what earlier tests let go may be given back between the two readings
	before := residentBytes()
	held := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		held[i] = 1
	}
	now, most := residentBytes(), maxResidentBytes()
	// The kernel counts per processor, some hundred kB late, and may take back cold pages of ours in between.
	if now-before < size*3/4 || now-before > size*5/4 {
		t.Errorf("resident memory rose by %d bytes when %d were touched", now-before, size)
	}
	if most < now-size/4 {
		t.Errorf("the most is %d bytes, less than the %d now", most, now)
	}
	if held[0] != 1 {
		t.Error("the memory does not hold what was written")
	}
}
