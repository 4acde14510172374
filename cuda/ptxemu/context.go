package ptxemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"unsafe"

	"dunlin/cuda/driver"
)

// Context is an emulated card with its memory, code and streams. It implements
// driver.Context and tells what its kernels did.
type Context struct {
	info    driver.Info
	config  Config
	memory  memory
	random  *rand.Rand
	dead    error // what ended the context
	calls   int
	handles uint64
	closed  bool

	modules   map[driver.Module]map[string]driver.Function
	functions map[driver.Function]*kernel
	streams   map[driver.Stream]*stream
	events    map[driver.Event]*event
	graphs    map[driver.Graph][]task
	pinned    map[*byte][]byte
	inOrder   []*stream

	workers  []*worker
	base     uint32 // tags of blocks that were given out
	counters map[string]*Counters
	lines    map[*kernel][]uint64 // instructions of threads, by place in the code
}

// mostShared is how much shared memory a block has without asking for more, which no kernel does.
const mostShared = 48 << 10

var _ driver.Context = (*Context)(nil)

func newContext(d *Driver) *Context {
	c := &Context{
		info: d.info(), config: d.config, random: rand.New(rand.NewPCG(d.config.Seed, 0)), base: 1,
		memory:  memory{next: globalBase, total: d.config.MemoryBytes, track: d.config.Uninitialised},
		modules: map[driver.Module]map[string]driver.Function{}, functions: map[driver.Function]*kernel{},
		streams: map[driver.Stream]*stream{}, events: map[driver.Event]*event{}, graphs: map[driver.Graph][]task{},
		pinned: map[*byte][]byte{}, counters: map[string]*Counters{}, lines: map[*kernel][]uint64{},
	}
	for range d.config.Workers {
		w := &worker{trails: map[*allocation]*trail{}, footprints: map[footprint][]uint64{}}
		w.current.worker = w
		c.workers = append(c.workers, w)
	}
	return c
}

// Counters returns what each kernel did so far, by name. Work that still waits on a stream did nothing yet.
func (c *Context) Counters() []Counters { return sorted(c.counters) }

// ResetCounters begins to count anew.
func (c *Context) ResetCounters() { clear(c.counters) }

// enter begins every call: a dead context answers with what ended it, and faults are injected.
func (c *Context) enter(call string) error {
	if c.closed {
		return &driver.Error{Code: invalidContext, Call: call, Detail: "the context is closed"}
	}
	if c.dead != nil {
		return c.dead
	}
	c.calls++
	if c.config.Fault != nil {
		if err := c.config.Fault(call, c.calls-1); err != nil {
			if errors.Is(err, driver.ErrDeviceLost) {
				c.dead = err
			}
			return err
		}
	}
	return nil
}

// Codes of cuda.h beside those that the driver package names.
const (
	invalidDevice  driver.Code = 101
	invalidContext driver.Code = 201
	invalidHandle  driver.Code = 400
	tooLarge       driver.Code = 701
	timeout        driver.Code = 702
	misaligned     driver.Code = 716
	capturing      driver.Code = 900
)

// die ends the context with a finding.
func (c *Context) die(f *Finding) error {
	code := driver.IllegalRead
	switch f.Kind {
	case Misaligned:
		code = misaligned
	case Divergence, Trap:
		code = driver.LaunchFailed
	case Endless:
		code = timeout
	case Outside, Freed, Uninitialised, Race, Unwaited:
	}
	c.dead = fmt.Errorf("%w: %w", &driver.Error{Code: code, Call: "cuLaunchKernel"}, f)
	return c.dead
}

func (c *Context) handle() uint64 {
	c.handles++
	return c.handles
}

func invalid(call, format string, args ...any) error {
	return &driver.Error{Code: driver.InvalidValue, Call: call, Detail: fmt.Sprintf(format, args...)}
}

// Info describes the card.
func (c *Context) Info() driver.Info { return c.info }

// Memory returns free and all memory in bytes.
func (c *Context) Memory() (free, total uint64, err error) {
	return c.memory.total - c.memory.used, c.memory.total, c.enter("cuMemGetInfo")
}

// Close runs what still waits and gives everything back; a second Close is harmless.
func (c *Context) Close() error {
	if c.closed {
		return nil
	}
	err := c.dead
	if err == nil {
		err = c.drain()
	}
	*c = Context{info: c.info, config: c.config, counters: c.counters, lines: c.lines, closed: true}
	return err
}

// LoadModule reads and compiles PTX. Text that a card of the configuration or
// the emulator cannot run is refused.
func (c *Context) LoadModule(ptx []byte) (driver.Module, error) {
	const call = "cuModuleLoadDataEx"
	if err := c.enter(call); err != nil {
		return 0, err
	}
	source := string(ptx)
	program, err := Parse(source)
	if err != nil {
		return 0, &driver.Error{Code: driver.InvalidPTX, Call: call, Detail: err.Error()}
	}
	var capability int
	if _, err := fmt.Sscanf(program.Target, "sm_%d", &capability); err != nil || capability > c.info.Capability() {
		return 0, &driver.Error{Code: driver.InvalidPTX, Call: call, Detail: fmt.Sprintf("PTX for %s on %s", program.Target, c.info.Name)}
	}
	symbols := map[string]symbol{}
	var static []Variable
	for _, v := range program.Variables {
		switch {
		case v.Space == Shared && v.Bytes > 0:
			static = append(static, v)
			continue
		case v.Space == Shared:
			symbols[v.Name] = symbol{Shared, dynamicShared}
			continue
		}
		a := c.memory.alloc(uint64(max(v.Bytes, 1)))
		if a == nil {
			return 0, &driver.Error{Code: driver.OutOfMemory, Call: call, Detail: "variable " + v.Name}
		}
		clear(a.data)
		copy(a.data, v.Data)
		a.fill(0, len(a.data))
		a.name, a.constant = v.Name, v.Space == Const
		symbols[v.Name] = symbol{v.Space, a.base}
	}
	functions := map[string]driver.Function{}
	for _, e := range program.Entries {
		e.Variables = append(e.Variables, static...)
		k, err := compile(source, e, symbols, &c.config)
		if err != nil {
			return 0, &driver.Error{Code: driver.InvalidPTX, Call: call, Detail: err.Error()}
		}
		if k.shared > mostShared {
			return 0, &driver.Error{Code: driver.InvalidPTX, Call: call, Detail: fmt.Sprintf("kernel %s has %d bytes of static shared memory, at most %d", e.Name, k.shared, mostShared)}
		}
		f := driver.Function(c.handle())
		functions[e.Name], c.functions[f] = f, k
	}
	m := driver.Module(c.handle())
	c.modules[m] = functions
	return m, nil
}

// Function finds a kernel by its name.
func (c *Context) Function(m driver.Module, name string) (driver.Function, error) {
	const call = "cuModuleGetFunction"
	if err := c.enter(call); err != nil {
		return 0, err
	}
	f, ok := c.modules[m][name]
	if !ok {
		return 0, &driver.Error{Code: driver.NotFound, Call: call, Detail: name}
	}
	return f, nil
}

// Alloc returns fresh memory, full of values that are no numbers.
func (c *Context) Alloc(bytes int) (driver.Pointer, error) {
	const call = "cuMemAlloc"
	if err := c.enter(call); err != nil {
		return 0, err
	}
	if bytes <= 0 {
		return 0, invalid(call, "%d bytes", bytes)
	}
	a := c.memory.alloc(uint64(bytes))
	if a == nil {
		return 0, &driver.Error{Code: driver.OutOfMemory, Call: call, Detail: fmt.Sprintf("%d bytes where %d of %d are free", bytes, c.memory.total-c.memory.used, c.memory.total)}
	}
	return driver.Pointer(a.base), nil
}

// Free runs all work that waits, as a card's driver does, and gives memory back.
func (c *Context) Free(p driver.Pointer) error {
	const call = "cuMemFree"
	if err := c.enter(call); err != nil {
		return err
	}
	if err := c.drain(); err != nil {
		return err
	}
	a := c.memory.find(uint64(p))
	if !c.memory.free(uint64(p)) {
		return invalid(call, "%#x is not what Alloc returned, or was given back before", uint64(p))
	}
	for _, w := range c.workers {
		delete(w.trails, a)
	}
	return nil
}

// AllocPinned returns memory of the host.
func (c *Context) AllocPinned(bytes int) ([]byte, error) {
	const call = "cuMemHostAlloc"
	if err := c.enter(call); err != nil {
		return nil, err
	}
	if bytes <= 0 {
		return nil, invalid(call, "%d bytes", bytes)
	}
	// Words of 64 bits, so that the memory is aligned for all that is read from it.
	words := make([]uint64, (bytes+7)/8)
	p := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), bytes)
	c.pinned[&p[0]] = p
	return p, nil
}

// FreePinned gives memory of the host back once nothing uses it.
func (c *Context) FreePinned(p []byte) error {
	const call = "cuMemFreeHost"
	if err := c.enter(call); err != nil {
		return err
	}
	if err := c.drain(); err != nil {
		return err
	}
	if len(p) == 0 || c.pinned[&p[0]] == nil {
		return invalid(call, "not what AllocPinned returned, or given back before")
	}
	for i := range p {
		p[i] = poison
	}
	delete(c.pinned, &p[0])
	return nil
}

// isPinned reports whether a slice is part of pinned memory.
func (c *Context) isPinned(p []byte) bool {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	for _, whole := range c.pinned {
		if from := uintptr(unsafe.Pointer(unsafe.SliceData(whole))); at >= from && at+uintptr(len(p)) <= from+uintptr(len(whole)) {
			return true
		}
	}
	return false
}

// CopyToDevice queues a copy from pinned memory.
func (c *Context) CopyToDevice(dst driver.Pointer, src []byte, s driver.Stream) error {
	const call = "cuMemcpyHtoDAsync"
	return c.transfer(call, s, src, []span{{dst, len(src)}}, func(parts [][]byte) { copy(parts[0], src) })
}

// CopyFromDevice queues a copy to pinned memory.
func (c *Context) CopyFromDevice(dst []byte, src driver.Pointer, s driver.Stream) error {
	const call = "cuMemcpyDtoHAsync"
	return c.transfer(call, s, dst, []span{{src, len(dst)}}, func(parts [][]byte) { copy(dst, parts[0]) })
}

// CopyOnDevice queues a copy within the card.
func (c *Context) CopyOnDevice(dst, src driver.Pointer, bytes int, s driver.Stream) error {
	const call = "cuMemcpyDtoDAsync"
	if dst < src+driver.Pointer(bytes) && src < dst+driver.Pointer(bytes) {
		return invalid(call, "the two ranges overlap")
	}
	return c.transfer(call, s, nil, []span{{dst, bytes}, {src, bytes}}, func(parts [][]byte) { copy(parts[0], parts[1]) })
}

// Set32 queues setting n values of 32 bits.
func (c *Context) Set32(dst driver.Pointer, value uint32, n int, s driver.Stream) error {
	const call = "cuMemsetD32Async"
	if dst%4 != 0 || n < 0 {
		return invalid(call, "%d values at %#x", n, uint64(dst))
	}
	return c.transfer(call, s, nil, []span{{dst, 4 * n}}, func(parts [][]byte) {
		for i := 0; i < len(parts[0]); i += 4 {
			binary.LittleEndian.PutUint32(parts[0][i:], value)
		}
	})
}

// span is a range of the card's memory.
type span struct {
	at    driver.Pointer
	bytes int
}

// transfer queues work on ranges of memory, the first of which is written
// except by copies to the host. Ranges are looked up now and again when the work runs.
func (c *Context) transfer(call string, to driver.Stream, host []byte, spans []span, run func(parts [][]byte)) error {
	if err := c.enter(call); err != nil {
		return err
	}
	find := func() ([][]byte, error) {
		parts := make([][]byte, len(spans))
		for i, s := range spans {
			part, a, err := c.memory.span(uint64(s.at), s.bytes)
			if err != nil {
				return nil, invalid(call, "%s", err)
			}
			if parts[i] = part; i == 0 && s.bytes > 0 && !strings.Contains(call, "DtoH") {
				a.fill(uint64(s.at)-a.base, s.bytes)
			}
		}
		return parts, nil
	}
	if _, err := find(); err != nil {
		return err
	}
	if host != nil && !c.isPinned(host) {
		return invalid(call, "the host's memory is not pinned")
	}
	return c.queue(call, to, task{run: func() error {
		parts, err := find()
		if err == nil {
			run(parts)
		}
		return err
	}})
}

// Launch queues a kernel.
func (c *Context) Launch(f driver.Function, grid, block [3]uint32, shared int, s driver.Stream, args []uint64) error {
	const call = "cuLaunchKernel"
	if err := c.enter(call); err != nil {
		return err
	}
	k, ok := c.functions[f]
	if !ok {
		return &driver.Error{Code: invalidHandle, Call: call, Detail: "no such function"}
	}
	threads, blocks := uint64(1), uint64(1)
	for i := range 3 {
		if grid[i] == 0 || block[i] == 0 || block[i] > maxThreads || i > 0 && grid[i] > 65535 || grid[i] > 1<<31-1 {
			return invalid(call, "kernel %s: %v blocks of %v threads", k.name, grid, block)
		}
		threads *= uint64(block[i])
		blocks = min(blocks*uint64(grid[i]), 1<<32)
	}
	if threads > maxThreads || k.entry.MaxThreads > 0 && threads > uint64(k.entry.MaxThreads) {
		return &driver.Error{Code: tooLarge, Call: call, Detail: fmt.Sprintf("kernel %s: %d threads in a block, at most %d", k.name, threads, min(maxThreads, max(k.entry.MaxThreads, 1)))}
	}
	if shared < 0 || shared > mostShared-k.shared {
		return invalid(call, "kernel %s: %d bytes of dynamic shared memory, at most %d beside its own", k.name, shared, mostShared-k.shared)
	}
	if blocks > 1<<31 {
		return invalid(call, "kernel %s: %d blocks are more than the emulator runs", k.name, blocks)
	}
	if len(args) != len(k.entry.Params) {
		return invalid(call, "kernel %s: %d arguments for %d parameters", k.name, len(args), len(k.entry.Params))
	}
	params := make([]byte, k.params)
	for i, p := range k.entry.Params {
		var value [8]byte
		binary.LittleEndian.PutUint64(value[:], args[i])
		if p.Bytes > len(value) {
			return invalid(call, "kernel %s: parameter %d has %d bytes", k.name, i, p.Bytes)
		}
		copy(params[p.Offset:p.Offset+p.Bytes], value[:])
	}
	return c.queue(call, s, task{run: func() error { return c.execute(k, grid, block, shared, params) }})
}

// execute runs a kernel now.
func (c *Context) execute(k *kernel, grid, block [3]uint32, shared int, params []byte) error {
	blocks := grid[0] * grid[1] * grid[2]
	if c.base > 1<<32-2-blocks { // tags begin anew
		for _, w := range c.workers {
			clear(w.trails)
		}
		c.base = 1
	}
	l := &launch{kernel: k, grid: grid, block: block, shared: shared, params: params, memory: &c.memory, limit: c.config.Limit, base: c.base}
	c.base += blocks + 1
	finding := l.run(c.workers, c.random)
	sum := c.counters[k.name]
	if sum == nil {
		sum = &Counters{Kernel: k.name}
		c.counters[k.name] = sum
	}
	sum.Launches++
	ran := c.workers[:min(len(c.workers), int(blocks))]
	if c.lines[k] == nil {
		c.lines[k] = make([]uint64, len(k.code))
	}
	for _, w := range ran {
		w.total(sum)
		for pc, n := range w.lanes {
			c.lines[k][pc] += n
		}
	}
	sum.Footprint += touched(ran)
	if finding != nil {
		return c.die(finding)
	}
	return nil
}
