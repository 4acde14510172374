package folder

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"dunlin/replica"
)

// Paged returns room for a replica's momenta in files of a folder that have no names, so that nothing is left of them after
// a crash. The system writes them out, and drops them from memory, when others need that. Where the disk has no
// room values lie in the program's memory, as without it.
func Paged(dir string) (replica.Room, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("momentum on disk: %w", err)
	}
	probe, err := mapped(dir, os.Getpagesize())
	if err != nil {
		return nil, fmt.Errorf("momentum on disk: %w", err)
	}
	_ = unix.Munmap(probe)
	return paged(dir), nil
}

type paged string

// Floats implements replica.Room.
func (p paged) Floats(n int) *replica.Floats {
	if n == 0 {
		return &replica.Floats{}
	}
	memory, err := mapped(string(p), 4*n)
	if err != nil {
		return &replica.Floats{Values: make([]float32, n)}
	}
	f := &replica.Floats{Values: unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(memory))), n)}
	runtime.AddCleanup(f, func(memory []byte) { _ = unix.Munmap(memory) }, memory)
	return f
}

// mapped returns zeros that lie in a file. Its blocks are taken beforehand: to write to memory whose file finds no room
// later would end the program.
func mapped(dir string, size int) (memory []byte, err error) {
	f, err := os.CreateTemp(dir, ".momentum-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil {
		return nil, fmt.Errorf("take %d bytes in %s: %w", size, dir, err)
	}
	return unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}
