package cuda

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"dunlin/compute"
	"dunlin/cuda/driver"
	"dunlin/cuda/kernels"
)

// Device is a card as a compute.Device. Make one with New, use it from one
// goroutine at a time, and Close it.
type Device struct {
	context   driver.Context
	info      driver.Info
	precision compute.Precision
	options   Options
	functions [kernelCount]driver.Function
	work      driver.Stream
	err       error // the first since the last Sync
	launches  uint64
	longest   float64 // operations of a launch
	replay    replay
	memory    memory
	staging   staging
	partial   scratch    // sums of the first stage of a reduction
	delta     scratch    // of an attention's gradient
	packed    [2]scratch // operands of a product of 16 bits
	largest   scratch    // their greatest magnitudes
	tables    []decayTable
}

var (
	_ compute.Device  = (*Device)(nil)
	_ compute.Bounded = (*Device)(nil)
)

// Options choose how a Device computes.
type Options struct {
	// Precision is "" or compute.FP32, or another one of Precisions(card).
	Precision compute.Precision
	// Progress, if any, hears before each module of kernels is loaded: a driver
	// compiles it when it meets it for the first time, which can take a minute.
	Progress func(name string, done, all int)
	// Reopen opens the card again after it was lost; without it a lost card stays
	// lost.
	Reopen func() (driver.Context, error)
}

// Precisions returns what a card multiplies matrices in, float32 first.
func Precisions(card driver.Info) []compute.Precision {
	list := []compute.Precision{compute.FP32}
	if card.Capability() >= 75 {
		list = append(list, compute.FP16)
	}
	if card.Capability() >= 80 {
		list = append(list, compute.BF16)
	}
	return list
}

// New makes a Device of an opened card, which is the Device's from then on, even
// after an error.
func New(context driver.Context, o Options) (*Device, error) {
	d := &Device{context: context, info: context.Info(), precision: o.Precision, options: o, longest: longestProduct}
	d.memory = memory{context: context, sizes: map[driver.Pointer]int{}, free: map[int][]driver.Pointer{}}
	if err := d.open(o); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", d.info.Name, err), d.Close())
	}
	return d, nil
}

func (d *Device) open(o Options) error {
	if d.precision == "" {
		d.precision = compute.FP32
	}
	if !slices.Contains(Precisions(d.info), d.precision) {
		return fmt.Errorf("precision %s: this card has %v", d.precision, Precisions(d.info))
	}
	modules := kernels.Modules(d.info.Capability())
	if len(modules) == 0 {
		return fmt.Errorf("compute capability %d.%d: the kernels need 6.1 or newer", d.info.Major, d.info.Minor)
	}
	for i, m := range modules {
		if o.Progress != nil {
			o.Progress(m.Name, i, len(modules))
		}
		module, err := d.context.LoadModule(m.PTX)
		if err != nil {
			return fmt.Errorf("load kernels of %s: %w", m.Name, err)
		}
		if err := d.find(m, module); err != nil {
			return err
		}
	}
	var err error
	if d.work, err = d.context.NewStream(); err != nil {
		return fmt.Errorf("make a stream: %w", err)
	}
	return d.staging.open(d.context)
}

// find looks up the kernels of a module.
func (d *Device) find(m kernels.Module, module driver.Module) error {
	for k, entry := range entries() {
		if entry.module != m.Name || entry.capability > m.Capability {
			continue
		}
		function, err := d.context.Function(module, entry.name)
		if err != nil {
			return fmt.Errorf("find kernel %s: %w", entry.name, err)
		}
		d.functions[k] = function
	}
	return nil
}

// Name says the card and the precision unless it is fp32: "cuda:0 NVIDIA GeForce RTX 3060".
func (d *Device) Name() string {
	name := fmt.Sprintf("cuda:%d %s", d.info.Index, d.info.Name)
	if d.precision != compute.FP32 {
		name += " " + string(d.precision)
	}
	return name
}

// Precision returns how matrices are multiplied.
func (d *Device) Precision() compute.Precision { return d.precision }

// Info describes the card.
func (d *Device) Info() driver.Info { return d.info }

// Launches returns how many kernels were queued.
func (d *Device) Launches() uint64 { return d.launches }

// Sync implements compute.Device.
func (d *Device) Sync() error {
	d.flush()
	if d.err == nil {
		d.note("wait for the card", d.context.SyncStream(d.work))
	}
	return d.take()
}

// Close implements compute.Device.
func (d *Device) Close() error {
	if d.context == nil {
		return nil
	}
	var err error
	if d.work != 0 {
		err = d.Sync()
	}
	err = errors.Join(err, d.context.Close())
	d.context = nil
	d.err = fmt.Errorf("use %s: it is closed", d.info.Name)
	return err
}

// note keeps the first error.
func (d *Device) note(what string, err error) {
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("%s: %w", what, err)
	}
}

// take returns the error that was kept. A lost card stays lost, a closed one closed.
func (d *Device) take() error {
	err := d.err
	if d.context != nil && !errors.Is(err, driver.ErrDeviceLost) {
		d.err = nil
	}
	return known(err)
}

// launch queues a kernel. Nothing happens after an error.
func (d *Device) launch(k kernel, grid, block [3]uint32, args ...uint64) {
	if d.err != nil || grid[0] == 0 || grid[1] == 0 || grid[2] == 0 {
		return
	}
	w := work{kernel: k, grid: grid, block: block}
	w.count = copy(w.args[:], args)
	d.queue(w)
	d.launches++
}

// set queues setting n values of 32 bits.
func (d *Device) set(address uint64, value uint32, n int) {
	d.queue(work{kernel: workSet, args: [maxArgs]uint64{address, uint64(value), uint64(n)}, count: 3})
}

// bits is a float32 as a kernel's argument.
func bits(x float32) uint64 { return uint64(math.Float32bits(x)) }

// blocks returns how many parts of a size make n.
func blocks(n, size int) uint32 { return uint32((n + size - 1) / size) }

// need returns the address of the first n values of b and panics when there are
// fewer: a mistake in the calling program.
func need(operation string, b compute.Buffer, n int) uint64 {
	if n < 0 || b.Host != nil || b.N < n {
		panic(fmt.Sprintf("cuda: %s needs a buffer of %d values on the card, has %d", operation, n, b.N))
	}
	return b.Addr
}

func needInts(operation string, b compute.Ints, n int) uint64 {
	if n < 0 || b.Host != nil || b.N < n {
		panic(fmt.Sprintf("cuda: %s needs a buffer of %d token numbers on the card, has %d", operation, n, b.N))
	}
	return b.Addr
}

func needOptional(operation string, b compute.Buffer, n int) uint64 {
	if b.Len() == 0 {
		return 0
	}
	return need(operation, b, n)
}
