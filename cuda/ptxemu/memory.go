package ptxemu

import (
	"fmt"
	"slices"
)

// Where things lie in the generic address space. Global memory begins above 0
// so that small numbers are no addresses.
const (
	globalBase    = 1 << 32
	sharedWindow  = 1 << 48
	localWindow   = 1 << 49
	windowBytes   = 1 << 32
	redZone       = 4096
	dynamicShared = 1 << 63 // stands for the place of dynamic shared memory until a kernel has one
	poison        = 0xff    // bytes of fresh memory: floats that are not numbers
)

// allocation is memory of the device. Addresses are never given out twice, so
// that use after free is told from other faults.
type allocation struct {
	base, size uint64
	data       []byte
	written    []bool // for each 2 bytes whether they were written, nil when nobody asks
	name       string // of a variable of a module
	constant   bool
	freed      bool
}

// memory is all allocations of a device in the order of their addresses.
type memory struct {
	allocations []*allocation
	next        uint64
	used, total uint64
	track       bool // uninitialised reads
}

// alloc returns nil when there is no room.
func (m *memory) alloc(bytes uint64) *allocation {
	if bytes > m.total-m.used {
		return nil
	}
	a := &allocation{base: m.next, size: bytes, data: make([]byte, bytes)}
	for i := range a.data {
		a.data[i] = poison
	}
	if m.track {
		a.written = make([]bool, (bytes+1)/2)
	}
	m.used += bytes
	m.next += (bytes + redZone + 255) / 256 * 256
	m.allocations = append(m.allocations, a)
	return a
}

// free reports whether base was the beginning of living memory.
func (m *memory) free(base uint64) bool {
	a := m.find(base)
	if a == nil || a.base != base || a.freed || a.name != "" {
		return false
	}
	m.used -= a.size
	a.freed, a.data, a.written = true, nil, nil
	return true
}

// find returns the last allocation at or below an address, nil when there is none.
func (m *memory) find(address uint64) *allocation {
	i, exact := slices.BinarySearchFunc(m.allocations, address, func(a *allocation, address uint64) int {
		switch {
		case a.base < address:
			return -1
		case a.base > address:
			return 1
		}
		return 0
	})
	if !exact {
		i--
	}
	if i < 0 {
		return nil
	}
	return m.allocations[i]
}

// span returns the bytes of a range for a copy by the host.
func (m *memory) span(address uint64, bytes int) ([]byte, *allocation, error) {
	a := m.find(address)
	if a == nil || !a.holds(address, bytes) {
		_, detail := m.explain(a, address, bytes)
		return nil, nil, fmt.Errorf("%s", detail)
	}
	from := address - a.base
	return a.data[from : from+uint64(bytes) : from+uint64(bytes)], a, nil
}

// holds reports whether a range lies inside living memory.
func (a *allocation) holds(address uint64, bytes int) bool {
	return !a.freed && address >= a.base && address-a.base <= a.size && uint64(bytes) <= a.size-(address-a.base)
}

// explain says what is wrong with an address; a is what lies below it.
func (m *memory) explain(a *allocation, address uint64, bytes int) (Kind, string) {
	switch {
	case a == nil:
		return Outside, fmt.Sprintf("%d bytes at %#x, below all memory", bytes, address)
	case address-a.base < a.size && a.freed:
		return Freed, fmt.Sprintf("%d bytes at byte %d of %d that were given back", bytes, address-a.base, a.size)
	}
	what := "an allocation"
	if a.name != "" {
		what = "variable " + a.name
	}
	return Outside, fmt.Sprintf("%d bytes at byte %d of %s of %d bytes", bytes, address-a.base, what, a.size)
}

// fill notes that the host writes a range, while no kernel runs.
func (a *allocation) fill(from uint64, bytes int) {
	if a.mark(from, bytes); uint64(bytes) == a.size {
		a.written = nil // all of it: nobody need ask any more
	}
}

// mark notes that a range was written.
func (a *allocation) mark(from uint64, bytes int) {
	if a.written == nil {
		return
	}
	for i := from / 2; i <= (from+uint64(bytes)-1)/2; i++ {
		a.written[i] = true
	}
}

// unwritten reports whether part of a range was never written.
func (a *allocation) unwritten(from uint64, bytes int) bool {
	if a.written == nil {
		return false
	}
	return slices.Contains(a.written[from/2:(from+uint64(bytes)+1)/2], false)
}
