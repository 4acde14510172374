package compute

import "fmt"

// Tally is a device that counts instead of computing: what is allocated on it
// takes no memory and adds to Bytes. Whatever allocates can so tell beforehand
// what it will need. Operations are not there: calling one panics.
type Tally struct {
	Device // none: only the methods below may be called
	Bytes  int64
}

const (
	nowhere   = 1 << 40 // an address, so that buffers have a length and can be cut
	pageBytes = 8192    // to which Go rounds large allocations up
)

func (t *Tally) add(n int) error {
	if n < 0 || n > MaxElements {
		return fmt.Errorf("count %d values: allowed are 0 to %d", n, MaxElements)
	}
	bytes := 4 * int64(n)
	if bytes > pageBytes {
		bytes = (bytes + pageBytes - 1) / pageBytes * pageBytes
	}
	t.Bytes += bytes
	return nil
}

// Name implements Device.
func (t *Tally) Name() string { return "tally" }

// Precision returns FP32, with which nothing more is allocated than with others.
func (t *Tally) Precision() Precision { return FP32 }

// Alloc implements Device.
func (t *Tally) Alloc(n int) (Buffer, error) { return Buffer{Addr: nowhere, N: n}, t.add(n) }

// AllocInts implements Device.
func (t *Tally) AllocInts(n int) (Ints, error) { return Ints{Addr: nowhere, N: n}, t.add(n) }

// Free does nothing: Bytes stays.
func (t *Tally) Free(Buffer) {}

// FreeInts does nothing: Bytes stays.
func (t *Tally) FreeInts(Ints) {}

// Upload does nothing.
func (t *Tally) Upload(Buffer, []float32) {}

// Sync implements Device.
func (t *Tally) Sync() error { return nil }
