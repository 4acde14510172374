package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"dunlin/compute"
	"dunlin/cuda/driver"
)

// memory hands out the card's memory and keeps what comes back for requests of
// the same size.
type memory struct {
	context driver.Context
	sizes   map[driver.Pointer]int   // bytes of everything handed out
	free    map[int][]driver.Pointer // what came back, by bytes
}

// granule is what sizes are rounded up to: alignment of the driver's memory.
const granule = 256

func (m *memory) take(bytes int) (driver.Pointer, error) {
	bytes = (bytes + granule - 1) / granule * granule
	if list := m.free[bytes]; len(list) > 0 {
		p := list[len(list)-1]
		m.free[bytes] = list[:len(list)-1]
		m.sizes[p] = bytes
		return p, nil
	}
	p, err := m.context.Alloc(bytes)
	if errors.Is(err, driver.ErrOutOfMemory) && m.trim() {
		p, err = m.context.Alloc(bytes)
	}
	if err != nil {
		if free, all, e := m.context.Memory(); e == nil {
			return 0, fmt.Errorf("allocate %d MB on the card, which has %d of %d MB free: %w", bytes/1e6, free/1e6, all/1e6, err)
		}
		return 0, fmt.Errorf("allocate %d MB on the card: %w", bytes/1e6, err)
	}
	m.sizes[p] = bytes
	return p, nil
}

func (m *memory) give(p driver.Pointer) {
	bytes, ok := m.sizes[p]
	if !ok {
		panic(fmt.Sprintf("cuda: free of address %#x, which was not allocated", uint64(p)))
	}
	delete(m.sizes, p)
	m.free[bytes] = append(m.free[bytes], p)
}

// idle returns the bytes that nobody uses.
func (m *memory) idle() (bytes int64) {
	for size, list := range m.free {
		bytes += int64(size) * int64(len(list))
	}
	return bytes
}

// trim returns what nobody uses to the driver, and whether there was any.
func (m *memory) trim() bool {
	any := false
	for bytes, list := range m.free {
		for _, p := range list {
			any = m.context.Free(p) == nil || any
		}
		delete(m.free, bytes)
	}
	return any
}

// scratch is memory that an operation needs while it runs. It grows to the
// largest request; the work of one stream uses it in turn.
type scratch struct {
	address driver.Pointer
	bytes   int
}

// scratch returns the address of so many bytes, or 0 after an error.
func (d *Device) scratch(s *scratch, bytes int) uint64 {
	if bytes <= s.bytes || d.err != nil {
		return uint64(s.address)
	}
	d.flush() // what waits may use the former memory
	if s.address != 0 {
		d.memory.give(s.address)
		*s = scratch{}
	}
	p, err := d.memory.take(bytes)
	if err != nil {
		d.note("scratch", err)
		return 0
	}
	*s = scratch{p, bytes}
	return uint64(p)
}

// Scratch returns about the bytes of the card that a device takes for itself when
// it trains: sums over chunks of rows, a value for each query and, with operands
// of 16 bits, packed copies of the largest two: activations or logits, and weights
// that are a quarter as wide as the widest activations, as in GPT-2.
func (d *Device) Scratch(s compute.Sizes) int64 {
	chunks := min(64, int(blocks(s.Rows, 64)))
	bytes := 4*(chunks*2*s.Width+s.Rows*s.Width/s.Head) + 4*granule
	if d.precision != compute.FP32 {
		longest := max(s.Rows, s.Width, s.Vocab)
		left := max(s.Rows*s.Width, min(s.Rows*s.Vocab, 1<<24))
		right := max(s.Rows*s.Width, max(s.Width, s.Vocab)*s.Width/4)
		filled := 128*max(s.Rows, s.Width) + panel*longest // up to whole tiles, each
		bytes += 2 * (left + right + 2*filled)
	}
	return int64(bytes)
}

// Alloc implements compute.Device.
func (d *Device) Alloc(n int) (compute.Buffer, error) {
	p, err := d.alloc(n)
	return compute.Buffer{Addr: p, N: n}, err
}

// AllocInts implements compute.Device.
func (d *Device) AllocInts(n int) (compute.Ints, error) {
	p, err := d.alloc(n)
	return compute.Ints{Addr: p, N: n}, err
}

func (d *Device) alloc(n int) (uint64, error) {
	if n < 0 || n > compute.MaxElements {
		return 0, fmt.Errorf("allocate %d values: allowed are 0 to %d", n, compute.MaxElements)
	}
	d.flush()
	if d.err != nil {
		return 0, d.take()
	}
	p, err := d.memory.take(max(1, n) * 4) // an address even for nothing, which tells device memory from the host's
	if err != nil {
		d.note("allocate", err) // a lost card must not be asked again
		return 0, d.take()
	}
	d.note("clear memory", d.context.Set32(p, 0, max(1, n), d.work))
	return uint64(p), d.take()
}

// Free implements compute.Device. The memory serves the next Alloc, whose work
// comes after all that was queued before.
func (d *Device) Free(b compute.Buffer) { d.release(b.Addr) }

// FreeInts implements compute.Device.
func (d *Device) FreeInts(b compute.Ints) { d.release(b.Addr) }

func (d *Device) release(address uint64) {
	if address != 0 && d.context != nil {
		d.memory.give(driver.Pointer(address))
	}
}

// staging is pinned memory through which values pass between host and card: two
// parts, so that one is copied while the other is filled or emptied.
type staging struct {
	part [2][]byte
	done [2]driver.Event // the card's copy of the part
	next int
}

// stagingBytes are those of one part: enough for the bus to reach its speed.
const stagingBytes = 4 << 20

func (s *staging) open(context driver.Context) error {
	for i := range s.part {
		var err error
		if s.part[i], err = context.AllocPinned(stagingBytes); err != nil {
			return fmt.Errorf("allocate pinned memory: %w", err)
		}
		if s.done[i], err = context.NewEvent(); err != nil {
			return fmt.Errorf("make an event: %w", err)
		}
	}
	return nil
}

// Upload implements compute.Device.
func (d *Device) Upload(dst compute.Buffer, src []float32) {
	d.upload(need("upload", dst, len(src)), bytesOf(src))
}

// UploadInts implements compute.Device.
func (d *Device) UploadInts(dst compute.Ints, src []int32) {
	d.upload(needInts("upload", dst, len(src)), bytesOf(src))
}

// bytesOf views values as the card has them: all its hosts are little-endian.
func bytesOf[T float32 | int32 | int64](values []T) []byte {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0])))
}

func (d *Device) upload(dst uint64, src []byte) {
	d.flush()
	s := &d.staging
	for len(src) > 0 && d.err == nil {
		i := s.next
		s.next = 1 - i
		d.note("upload", d.context.SyncEvent(s.done[i])) // the former copy out of this part
		n := copy(s.part[i], src)
		if d.err == nil {
			d.note("upload", d.context.CopyToDevice(driver.Pointer(dst), s.part[i][:n], d.work))
		}
		if d.err == nil {
			d.note("upload", d.context.Record(s.done[i], d.work))
		}
		src, dst = src[n:], dst+uint64(n)
	}
}

// Download implements compute.Device.
func (d *Device) Download(dst []float32, src compute.Buffer) error {
	d.download(bytesOf(dst), need("download", src, len(dst)))
	return d.take()
}

func (d *Device) download(dst []byte, src uint64) {
	d.flush()
	s := &d.staging
	var waiting []byte // what comes through the other part
	for (len(dst) > 0 || len(waiting) > 0) && d.err == nil {
		i := s.next
		s.next = 1 - i
		n := min(len(dst), stagingBytes)
		if n > 0 {
			// The stream's order puts this copy behind the part's former one.
			d.note("download", d.context.CopyFromDevice(s.part[i][:n], driver.Pointer(src), d.work))
			if d.err == nil {
				d.note("download", d.context.Record(s.done[i], d.work))
			}
		}
		if len(waiting) > 0 && d.err == nil {
			d.note("download", d.context.SyncEvent(s.done[1-i]))
			copy(waiting, s.part[1-i])
		}
		waiting, dst, src = dst[:n], dst[n:], src+uint64(n)
	}
}

// readFloat64 waits for one value.
func (d *Device) readFloat64(src uint64) float64 {
	var raw [8]byte
	d.download(raw[:], src)
	if d.err != nil {
		return math.NaN()
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(raw[:]))
}
