package cpu

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

// TestLargePages reads in the kernel's account of this process that large pages were asked for where a buffer lies. Not
// on arm64: qemu's user emulation takes the request and forgets it.
func TestLargePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("this kernel has no large pages")
	}
	d := newDevice(t, Options{Threads: 1})
	defer d.Close()
	b, err := d.Alloc(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	middle := uint64(uintptr(unsafe.Pointer(&b.Host[b.Len()/2])))
	account, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	inside := false
	for line := range strings.Lines(string(account)) {
		span, _, _ := strings.Cut(line, " ")
		if from, to, ok := strings.Cut(span, "-"); ok {
			low, err1 := strconv.ParseUint(from, 16, 64)
			high, err2 := strconv.ParseUint(to, 16, 64)
			inside = err1 == nil && err2 == nil && low <= middle && middle < high
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			if !strings.Contains(flags, " hg") {
				t.Errorf("a buffer of 4 MiB lies where flags are%s", flags)
			}
			return
		}
	}
	t.Error("no account of the memory where the buffer lies")
}
