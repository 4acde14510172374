package cpu

import (
	"os"
	"syscall"
	"unsafe"
)

// fewest is the least number of values for which the kernel is asked.
const fewest = 1 << 16

// largePages asks the kernel to lay x in pages of 2 MiB where it can, which many
// systems do for who asks only. Products walk over rows that are pages apart, and in
// a virtual machine each miss of the table of pages costs twice; with small ones it
// is also a matter of luck which rows meet in one set of the cache. A refusal costs
// speed only.
func largePages(x []float32) {
	if len(x) < fewest {
		return
	}
	page := uintptr(os.Getpagesize())
	from := uintptr(unsafe.Pointer(&x[0])) &^ (page - 1)
	to := (uintptr(unsafe.Pointer(&x[0])) + 4*uintptr(len(x)) + page - 1) &^ (page - 1)
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_HUGEPAGE)
}
