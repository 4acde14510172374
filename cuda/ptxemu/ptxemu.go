package ptxemu

import (
	"errors"
	"fmt"
	"runtime"

	"dunlin/cuda/driver"
)

// Driver is a driver of one emulated card.
type Driver struct {
	config Config
}

// Config says what card to emulate and how mean to be. The zero value is a
// card of compute capability 8.6 with 1 GiB that rounds its approximations
// correctly.
type Config struct {
	Capability      int    // 10·major + minor, 86 by default; kernels for later cards are refused
	Multiprocessors int    // that the card claims to have, 4 by default; programs choose the size of blocks by it
	MemoryBytes     uint64 // 1 GiB by default
	Workers         int    // goroutines that run blocks, all processors by default

	Seed               uint64  // of the errors of approximate instructions and the order of blocks and streams
	ApproximationError float64 // of the documented bound, from 0 to 1
	Accumulation       Accumulation
	Order              Order
	Uninitialised      bool  // report reads of global memory that nothing wrote
	Limit              int64 // instructions of warps that one launch may run, 1<<32 by default

	// Fault is asked before each call of a context, with the driver's name for
	// it and how many calls came before; an error is what the call returns, and
	// one that is driver.ErrDeviceLost ends the context.
	Fault func(call string, n int) error
}

// Order says when queued work runs.
type Order uint8

// The orders of work on streams. Every order that the program's events and
// waits allow may happen on a card.
const (
	Lazy     Order = iota // nothing runs before somebody waits for it, and then nothing but that
	Eager                 // at once
	Shuffled              // a seeded mix
)

// New returns the driver of an emulated card. It fails with all that is wrong with the configuration.
func New(config Config) (*Driver, error) {
	if config.Capability == 0 {
		config.Capability = 86
	}
	if config.Multiprocessors == 0 {
		config.Multiprocessors = 4
	}
	if config.MemoryBytes == 0 {
		config.MemoryBytes = 1 << 30
	}
	if config.Workers == 0 {
		config.Workers = runtime.GOMAXPROCS(0)
	}
	if config.Limit == 0 {
		config.Limit = 1 << 32
	}
	var faults []error
	if config.Capability < 50 || config.Capability > 120 {
		faults = append(faults, fmt.Errorf("compute capability %d, want 50 to 120", config.Capability))
	}
	if config.MemoryBytes > 1<<40 {
		faults = append(faults, fmt.Errorf("%d bytes of memory, at most 1 TiB", config.MemoryBytes))
	}
	if config.Multiprocessors < 0 {
		faults = append(faults, fmt.Errorf("%d multiprocessors", config.Multiprocessors))
	}
	if config.Workers < 1 || config.Workers > 1024 {
		faults = append(faults, fmt.Errorf("%d workers, want 1 to 1024", config.Workers))
	}
	if !(config.ApproximationError >= 0 && config.ApproximationError <= 1) {
		faults = append(faults, fmt.Errorf("an approximation error of %g, want 0 to 1", config.ApproximationError))
	}
	if config.Accumulation > Reversed || config.Order > Shuffled || config.Limit < 0 {
		faults = append(faults, errors.New("an unknown accumulation or order, or a negative limit"))
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("emulated card: %w", errors.Join(faults...))
	}
	return &Driver{config}, nil
}

// Version returns the version of CUDA whose PTX the emulator reads: 11.8.
func (*Driver) Version() (int, error) { return 11080, nil }

// Devices returns the one card.
func (d *Driver) Devices() ([]driver.Info, error) { return []driver.Info{d.info()}, nil }

// info describes the card with the limits of its generation.
func (d *Driver) info() driver.Info {
	shared := 99 << 10
	switch c := d.config.Capability; {
	case c < 70:
		shared = 48 << 10
	case c < 80:
		shared = 64 << 10
	case c == 80:
		shared = 163 << 10
	case c >= 90:
		shared = 227 << 10
	}
	return driver.Info{
		Name:  fmt.Sprintf("emulated sm_%d", d.config.Capability),
		Major: d.config.Capability / 10, Minor: d.config.Capability % 10,
		MemoryBytes: d.config.MemoryBytes, Multiprocessors: d.config.Multiprocessors, WarpSize: 32,
		ThreadsPerBlock: maxThreads, ThreadsPerProcessor: 1536, RegistersPerProcessor: 1 << 16,
		SharedPerBlockBytes: shared, SharedPerProcessorBytes: shared + 1<<10,
	}
}

// maxThreads is the most threads of a block.
const maxThreads = 1024

// Open returns a new context of the card, with memory of its own.
func (d *Driver) Open(index int) (driver.Context, error) {
	c, err := d.OpenContext(index)
	if err != nil {
		return nil, err // a nil *Context would be no nil driver.Context
	}
	return c, nil
}

// OpenContext is Open with what only an emulated card can tell.
func (d *Driver) OpenContext(index int) (*Context, error) {
	if index != 0 {
		return nil, &driver.Error{Code: invalidDevice, Call: "cuDeviceGet", Detail: fmt.Sprintf("card %d of 1", index)}
	}
	return newContext(d), nil
}
