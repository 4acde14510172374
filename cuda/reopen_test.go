package cuda

import (
	"errors"
	"testing"

	"dunlin/compute"
	"dunlin/cuda/driver"
)

// frail is a card that holds no values and breaks when it is told to.
type frail struct {
	driver.Context
	next   uint64
	broken error // what every call returns from now on
	closed int
}

func (f *frail) handle() uint64 {
	f.next += 1 << 20
	return f.next
}

func (f *frail) Info() driver.Info                        { return driver.Info{Name: "frail", Major: 8, Minor: 6} }
func (f *frail) Memory() (free, total uint64, err error)  { return 3 << 30, 4 << 30, f.broken }
func (f *frail) LoadModule([]byte) (driver.Module, error) { return driver.Module(f.handle()), f.broken }

func (f *frail) Function(driver.Module, string) (driver.Function, error) {
	return driver.Function(f.handle()), f.broken
}
func (f *frail) Alloc(int) (driver.Pointer, error) { return driver.Pointer(f.handle()), f.broken }
func (f *frail) Free(driver.Pointer) error         { return f.broken }
func (f *frail) AllocPinned(n int) ([]byte, error) { return make([]byte, n), f.broken }
func (f *frail) FreePinned([]byte) error           { return f.broken }
func (f *frail) NewStream() (driver.Stream, error) { return driver.Stream(f.handle()), f.broken }

func (f *frail) NewEvent() (driver.Event, error)                        { return driver.Event(f.handle()), f.broken }
func (f *frail) SyncStream(driver.Stream) error                         { return f.broken }
func (f *frail) Set32(driver.Pointer, uint32, int, driver.Stream) error { return f.broken }

func (f *frail) Close() error {
	f.closed++
	return f.broken
}

func TestDeviceComesBack(t *testing.T) {
	first, second := &frail{}, &frail{}
	gone := errors.New("the driver is not back")
	back := gone
	d, err := New(first, Options{Reopen: func() (driver.Context, error) { return second, back }})
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Alloc(100)
	if err != nil {
		t.Fatal(err)
	}
	if free, err := d.FreeMemory(); free != 3<<30 || err != nil {
		t.Errorf("free memory %d, %v", free, err)
	}
	first.broken = &driver.Error{Code: driver.LaunchFailed, Call: "cuTest"}
	for range 2 { // it stays lost
		if err := d.Sync(); !errors.Is(err, compute.ErrLost) || !errors.Is(err, driver.ErrDeviceLost) {
			t.Fatalf("a lost card: %v", err)
		}
	}
	if _, err := d.Alloc(1); !errors.Is(err, compute.ErrLost) {
		t.Errorf("a lost card allocates: %v", err)
	}
	d.Free(b)
	if err := d.Reopen(); !errors.Is(err, gone) {
		t.Errorf("opened again without a driver: %v", err)
	}
	back = nil
	if err := d.Reopen(); err != nil || first.closed != 1 {
		t.Fatalf("opened again: %v, the first context closed %d times", err, first.closed)
	}
	if _, err := d.Alloc(100); err != nil {
		t.Error(err)
	}
	second.broken = &driver.Error{Code: driver.OutOfMemory, Call: "cuTest"}
	if _, err := d.Alloc(1 << 20); !errors.Is(err, compute.ErrMemory) {
		t.Errorf("a full card: %v", err)
	}
	second.broken = nil
	if err := d.Close(); err != nil || second.closed != 1 {
		t.Errorf("closed: %v, %d times", err, second.closed)
	}
}

func TestDeviceOpenedForOnce(t *testing.T) {
	d, err := New(&frail{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Reopen(); err == nil {
		t.Error("opened again without a way to")
	}
}
