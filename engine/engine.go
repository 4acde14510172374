package engine

import "dunlin/optimizer"

// Engine makes inner steps on one device. One goroutine uses it.
type Engine interface {
	// Live returns the parameters in the order of the RunSpec's tensors. Between
	// two steps they may be read after Pull and count once they are pushed: a
	// device with memory of its own keeps them there.
	Live() [][]float32
	// Pull brings these tensors from the device to Live.
	Pull(tensors []int) error
	// Push brings these tensors from Live to the device.
	Push(tensors []int) error
	// Step trains one batch, the windows at these positions of the data stream,
	// with the rates of that progress, and returns the mean loss in nats a token.
	Step(positions []uint64, progress float64) (float64, error)
	// Remember keeps, durably, what a restart of this worker goes on from beside
	// the replica: the optimizer's moments.
	Remember() error
	// Reopen tries, after an error that is compute.ErrLost, to open the device
	// again. The weights there are undefined until Push, the moments those of the
	// last Remember.
	Reopen() error
	// Name says what computes, for people.
	Name() string
	// Close gives the device's memory back.
	Close() error
}

// ErrNotFinite is wrapped by the error of a step whose gradient is infinite or no number:
// it is not made, and what counted is cleared.
var ErrNotFinite = optimizer.ErrNotFinite
