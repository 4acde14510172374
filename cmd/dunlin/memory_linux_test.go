package main

import "testing"

func TestResidentBytes(t *testing.T) {
	const size = 64 << 20
	before := residentBytes()
	held := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		held[i] = 1
	}
	now, most := residentBytes(), maxResidentBytes()
	// The kernel counts per processor and may be some hundred kB late.
	if now-before < size-4<<20 || now-before > size+16<<20 {
		t.Errorf("resident memory rose by %d bytes when %d were touched", now-before, size)
	}
	if most < now-4<<20 {
		t.Errorf("the most is %d bytes, less than the %d now", most, now)
	}
	if held[0] != 1 {
		t.Error("the memory does not hold what was written")
	}
}
