package driver

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// maxArgs bounds the parameters of a kernel.
const maxArgs = 64

// systemContext is a card opened through the driver.
type systemContext struct {
	lib    *library
	info   Info
	handle uintptr // 0 once it is closed
	lost   error   // what killed it
	pinner runtime.Pinner
	*frame
}

// frame is memory that calls point into, so that none of them allocates.
type frame struct {
	out      [2]uint64        // what a call returns
	self     [1]uintptr       // the context's handle
	words    [11]uintptr      // a call's arguments
	args     [maxArgs]uint64  // a kernel's parameters
	pointers [maxArgs]uintptr // to each of args
}

// pin keeps the frame where it is and notes its addresses.
func (c *systemContext) pin() {
	c.pinner.Pin(c.frame)
	c.self[0] = c.handle
	for i := range c.args {
		c.pointers[i] = uintptr(unsafe.Pointer(&c.args[i]))
	}
}

// do makes a call with this context current on the thread.
//
//go:uintptrescapes
func (c *systemContext) do(n call, args ...uintptr) error {
	code, err := c.result(n, args...)
	if err != nil || code == 0 {
		return err
	}
	return c.failed(n, code, "")
}

// queue is do without an allocation. Pointers among words are to the frame or to pinned memory.
func (c *systemContext) queue(n call, words ...uintptr) error {
	return c.do(n, c.words[:copy(c.words[:], words)]...)
}

// result makes a call with this context current on the thread and returns its code, or an error without a call.
//
//go:uintptrescapes
func (c *systemContext) result(n call, args ...uintptr) (Code, error) {
	switch {
	case c.lost != nil:
		return 0, c.lost
	case c.handle == 0:
		return 0, &Error{Code: 201, Call: names()[n], Detail: "the card is closed"}
	case c.lib.address[n] == 0:
		return 0, &Error{Code: NotSupported, Call: names()[n], Detail: "the driver lacks it"}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if code := c.lib.result(callSetContext, c.self[:]...); code != 0 {
		return 0, c.failed(callSetContext, code, "")
	}
	return c.lib.result(n, args...), nil
}

// failed notes a loss of the card.
func (c *systemContext) failed(n call, code Code, detail string) error {
	err := c.lib.fail(n, code, detail)
	if errors.Is(err, ErrDeviceLost) {
		c.lost = err
	}
	return err
}

// create makes a call whose first argument receives a value of 8 bytes.
func (c *systemContext) create(n call, args ...uintptr) (uint64, error) {
	c.out[0] = 0
	all := append([]uintptr{uintptr(unsafe.Pointer(&c.out[0]))}, args...) // the frame is pinned
	err := c.do(n, all...)
	return c.out[0], err
}

func (c *systemContext) Info() Info { return c.info }

func (c *systemContext) Memory() (free, total uint64, err error) {
	err = c.do(callMemory, uintptr(unsafe.Pointer(&c.out[0])), uintptr(unsafe.Pointer(&c.out[1])))
	return c.out[0], c.out[1], err
}

func (c *systemContext) Close() error {
	if c.handle == 0 {
		return nil
	}
	err := c.lost
	if err == nil {
		err = c.do(callSyncContext)
	}
	// A context that lost its card gives back what it can; what killed it is known already.
	if failed := c.lib.do(callDestroyContext, c.handle); err == nil {
		err = failed
	}
	c.handle = 0
	c.pinner.Unpin()
	return err
}

// jitLogBytes is room for what the driver's compiler says.
const jitLogBytes = 8 << 10

func (c *systemContext) LoadModule(ptx []byte) (Module, error) {
	source := make([]byte, len(ptx)+1) // the driver wants a C string
	copy(source, ptx)
	log := make([]byte, jitLogBytes)
	options := []int32{jitErrorLog, jitErrorLogBytes}
	var pinner runtime.Pinner
	pinner.Pin(&log[0])
	defer pinner.Unpin()
	values := []uintptr{uintptr(unsafe.Pointer(&log[0])), jitLogBytes}
	code, err := c.result(callLoadModule, uintptr(unsafe.Pointer(&c.out[0])), uintptr(unsafe.Pointer(&source[0])),
		uintptr(len(options)), uintptr(unsafe.Pointer(&options[0])), uintptr(unsafe.Pointer(&values[0])))
	if err != nil {
		return 0, err
	}
	if code != 0 {
		return 0, c.failed(callLoadModule, code, text(log))
	}
	return Module(c.out[0]), nil
}

func (c *systemContext) Function(m Module, name string) (Function, error) {
	text := append([]byte(name), 0)
	code, err := c.result(callFunction, uintptr(unsafe.Pointer(&c.out[0])), uintptr(m), uintptr(unsafe.Pointer(&text[0])))
	if err == nil && code != 0 {
		err = c.failed(callFunction, code, name)
	}
	if err != nil {
		return 0, err
	}
	return Function(c.out[0]), nil
}

func (c *systemContext) Alloc(bytes int) (Pointer, error) {
	p, err := c.alloc(callAlloc, bytes)
	return Pointer(p), err
}

// alloc says how much was asked for when there is none.
func (c *systemContext) alloc(n call, bytes int, flags ...uintptr) (uint64, error) {
	if bytes <= 0 {
		return 0, &Error{Code: InvalidValue, Call: names()[n], Detail: fmt.Sprintf("%d bytes", bytes)}
	}
	p, err := c.create(n, append([]uintptr{uintptr(bytes)}, flags...)...)
	if failure := (*Error)(nil); errors.As(err, &failure) && failure.Code == OutOfMemory {
		failure.Detail = fmt.Sprintf("%d bytes asked for", bytes)
		if free, total, unknown := c.Memory(); unknown == nil {
			failure.Detail += fmt.Sprintf(", %d of %d free", free, total)
		}
	}
	return p, err
}

func (c *systemContext) Free(p Pointer) error { return c.do(callFree, uintptr(p)) }

func (c *systemContext) AllocPinned(bytes int) ([]byte, error) {
	if _, err := c.alloc(callAllocHost, bytes, 0); err != nil {
		return nil, err
	}
	// The address is read as a pointer from where the driver wrote it: it is not Go's memory.
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&c.out[0])), bytes), nil
}

func (c *systemContext) FreePinned(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	return c.do(callFreeHost, uintptr(unsafe.Pointer(&p[0])))
}

func (c *systemContext) NewStream() (Stream, error) {
	s, err := c.create(callCreateStream, streamNonBlocking)
	return Stream(s), err
}

func (c *systemContext) FreeStream(s Stream) error { return c.do(callDestroyStream, uintptr(s)) }

func (c *systemContext) NewEvent() (Event, error) {
	e, err := c.create(callCreateEvent, eventBlockingSync|eventNoTiming)
	return Event(e), err
}

func (c *systemContext) FreeEvent(e Event) error { return c.do(callDestroyEvent, uintptr(e)) }

func (c *systemContext) Record(e Event, s Stream) error {
	return c.queue(callRecord, uintptr(e), uintptr(s))
}

func (c *systemContext) Wait(s Stream, e Event) error {
	return c.queue(callWait, uintptr(s), uintptr(e), 0)
}

func (c *systemContext) SyncStream(s Stream) error { return c.queue(callSyncStream, uintptr(s)) }

func (c *systemContext) SyncEvent(e Event) error { return c.queue(callSyncEvent, uintptr(e)) }

func (c *systemContext) Done(e Event) (bool, error) {
	c.words[0] = uintptr(e)
	code, err := c.result(callQuery, c.words[:1]...)
	switch {
	case err != nil:
		return false, err
	case code == NotReady:
		return false, nil
	}
	return code == 0, c.failed(callQuery, code, "")
}

func (c *systemContext) CopyToDevice(dst Pointer, src []byte, s Stream) error {
	if len(src) == 0 {
		return nil
	}
	return c.queue(callToDevice, uintptr(dst), uintptr(unsafe.Pointer(&src[0])), uintptr(len(src)), uintptr(s))
}

func (c *systemContext) CopyFromDevice(dst []byte, src Pointer, s Stream) error {
	if len(dst) == 0 {
		return nil
	}
	return c.queue(callFromDevice, uintptr(unsafe.Pointer(&dst[0])), uintptr(src), uintptr(len(dst)), uintptr(s))
}

func (c *systemContext) CopyOnDevice(dst, src Pointer, bytes int, s Stream) error {
	if bytes == 0 {
		return nil
	}
	return c.queue(callOnDevice, uintptr(dst), uintptr(src), uintptr(bytes), uintptr(s))
}

func (c *systemContext) Set32(dst Pointer, value uint32, n int, s Stream) error {
	if n == 0 {
		return nil
	}
	return c.queue(callSet32, uintptr(dst), uintptr(value), uintptr(n), uintptr(s))
}

func (c *systemContext) Launch(f Function, grid, block [3]uint32, shared int, s Stream, args []uint64) error {
	if len(args) > maxArgs {
		return &Error{Code: InvalidValue, Call: names()[callLaunch], Detail: fmt.Sprintf("%d parameters, at most %d", len(args), maxArgs)}
	}
	copy(c.args[:], args)
	return c.queue(callLaunch, uintptr(f), uintptr(grid[0]), uintptr(grid[1]), uintptr(grid[2]), uintptr(block[0]), uintptr(block[1]), uintptr(block[2]),
		uintptr(shared), uintptr(s), uintptr(unsafe.Pointer(&c.pointers[0])), 0)
}

func (c *systemContext) BeginCapture(s Stream) error {
	return c.do(callBeginCapture, uintptr(s), captureRelaxed)
}

func (c *systemContext) EndCapture(s Stream) (Graph, error) {
	c.out[0] = 0
	if err := c.do(callEndCapture, uintptr(s), uintptr(unsafe.Pointer(&c.out[0]))); err != nil {
		return 0, err
	}
	captured := uintptr(c.out[0])
	graph, err := c.create(callInstantiate, captured, 0)
	return Graph(graph), errors.Join(err, c.do(callFreeCapture, captured))
}

func (c *systemContext) LaunchGraph(g Graph, s Stream) error {
	return c.queue(callLaunchGraph, uintptr(g), uintptr(s))
}

func (c *systemContext) FreeGraph(g Graph) error { return c.do(callFreeGraph, uintptr(g)) }
