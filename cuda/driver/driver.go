package driver

// Pointer is an address in a card's memory, in bytes; 0 is none.
type Pointer uint64

// Handles of what a Context made. 0 is none, and the card's default stream,
// which waits for all others, cannot be named.
type (
	Module   uint64
	Function uint64
	Stream   uint64
	Event    uint64
	Graph    uint64
)

// Driver finds cards and opens them.
type Driver interface {
	// Version returns the newest CUDA version that the driver speaks as
	// 1000·major + 10·minor: 12040 for CUDA 12.4.
	Version() (int, error)
	// Devices lists the cards in the driver's order. None is no error.
	Devices() ([]Info, error)
	// Open makes a context of its own on the card with that index.
	Open(index int) (Context, error)
}

// Info describes a card. Clocks are those the maker states, not those of now.
type Info struct {
	Index        int
	Name         string // "NVIDIA GeForce RTX 3060"
	PCI          string // bus address "0000:01:00.0", "" for an emulated card
	Major, Minor int    // compute capability: 8 and 6 for sm_86
	MemoryBytes  uint64 // all of it; Context.Memory knows what is free

	Multiprocessors          int
	ClockKHz, MemoryClockKHz int // 0 where the driver does not tell
	BusWidthBits             int
	L2Bytes                  int

	WarpSize                int
	ThreadsPerBlock         int // at most
	ThreadsPerProcessor     int // resident at once on a multiprocessor
	RegistersPerProcessor   int // of 32 bits
	SharedPerBlockBytes     int // at most, of which a kernel has up to 48 KiB without asking
	SharedPerProcessorBytes int
}

// Capability returns 10·Major + Minor: 86 for sm_86.
func (i Info) Capability() int { return 10*i.Major + i.Minor }

// Context is one opened card. It is used by one goroutine at a time.
type Context interface {
	// Info describes the card.
	Info() Info
	// Memory returns free and all memory of the card in bytes.
	Memory() (free, total uint64, err error)
	// Close waits for the card's work, gives everything back and stops; a second Close is harmless.
	Close() error

	// LoadModule compiles PTX for the card. A driver keeps what it compiled in
	// a cache on disk, so that only the first time is slow.
	LoadModule(ptx []byte) (Module, error)
	// Function finds an entry of a module by its name.
	Function(m Module, name string) (Function, error)

	// Alloc returns memory of the card, bytes > 0, aligned to 256 bytes, with undefined content.
	Alloc(bytes int) (Pointer, error)
	// Free gives back what Alloc returned. It waits for work that uses it.
	Free(p Pointer) error
	// AllocPinned returns memory of the host that the card can reach, bytes > 0.
	// It is not the garbage collector's and lives until FreePinned or Close.
	AllocPinned(bytes int) ([]byte, error)
	// FreePinned gives back what AllocPinned returned, not a slice of its middle.
	FreePinned(p []byte) error

	// NewStream makes a queue that runs beside all others.
	NewStream() (Stream, error)
	// FreeStream gives a stream back once its work is done.
	FreeStream(s Stream) error
	// NewEvent makes a mark that streams can pass and wait for.
	NewEvent() (Event, error)
	// FreeEvent gives an event back.
	FreeEvent(e Event) error
	// Record queues e on s: it is done once all earlier work of s is.
	Record(e Event, s Stream) error
	// Wait queues on s to wait for the last Record of e. An event that was never recorded is not waited for.
	Wait(s Stream, e Event) error
	// SyncStream blocks until all work of s is done.
	SyncStream(s Stream) error
	// SyncEvent blocks until the last Record of e is done.
	SyncEvent(e Event) error
	// Done reports whether the last Record of e is done, without blocking.
	Done(e Event) (bool, error)

	// CopyToDevice queues a copy of src, part of pinned memory that must not
	// change until the copy is done.
	CopyToDevice(dst Pointer, src []byte, s Stream) error
	// CopyFromDevice queues a copy to dst, part of pinned memory that must not
	// be read until the copy is done.
	CopyFromDevice(dst []byte, src Pointer, s Stream) error
	// CopyOnDevice queues a copy within the card; the two do not overlap.
	CopyOnDevice(dst, src Pointer, bytes int, s Stream) error
	// Set32 queues setting n values of 32 bits at dst, a multiple of 4.
	Set32(dst Pointer, value uint32, n int, s Stream) error

	// Launch queues f on grid × block threads with shared bytes of dynamic
	// shared memory. Each of args is one parameter of at most 8 bytes in its
	// low bytes: an address, an integer or the bits of a float32. It is read
	// before Launch returns.
	Launch(f Function, grid, block [3]uint32, shared int, s Stream, args []uint64) error

	// BeginCapture makes s note its work instead of doing it, until EndCapture.
	// Backends without graphs return ErrUnsupported, as do the three below.
	BeginCapture(s Stream) error
	// EndCapture returns what s noted, ready to launch any number of times.
	EndCapture(s Stream) (Graph, error)
	// LaunchGraph queues all work of a graph on s.
	LaunchGraph(g Graph, s Stream) error
	// FreeGraph gives a graph back.
	FreeGraph(g Graph) error
}
