package compute

import "errors"

var (
	// ErrLost says that a device is gone: its memory and what ran on it are lost.
	// Whatever is asked of it afterwards fails likewise, but Free and Close are
	// harmless, and a Reopener may come back.
	ErrLost = errors.New("device lost")
	// ErrMemory says that a device has no memory for what was asked.
	ErrMemory = errors.New("out of device memory")
)

// Reopener is a device that can come back after ErrLost.
type Reopener interface {
	// Reopen opens the device again. Every buffer from before is invalid. An
	// error leaves it lost; a later Reopen may succeed.
	Reopen() error
}

// Meter is a device with memory of its own, apart from the host's.
type Meter interface {
	// FreeMemory returns how many bytes may still be allocated, as of now.
	FreeMemory() (int64, error)
}
