package main

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/cuda"
	"dunlin/cuda/driver"
	"dunlin/cuda/ptxemu"
)

// Devices that --device names beside cuda:N.
const (
	deviceAuto     = "auto"
	deviceCPU      = "cpu"
	deviceAllCards = "cuda:all"
	deviceEmulated = "emulated-cuda"
)

// devicePlaces is how people write what --device takes.
const devicePlaces = "auto, cpu, cuda:N, cuda:all, emulated-cuda"

// computer is the choice of what computes.
func (c *Config) computer(fallback string) option {
	return option{"device", "what computes; auto takes the first GPU that it can use, else the CPU", "name", fallback, devicePlaces, func(text string) error {
		if text != deviceAuto && text != deviceCPU && text != deviceAllCards && text != deviceEmulated && !cardNumber.MatchString(text) {
			return errors.New("unknown")
		}
		c.Device = text
		return nil
	}}
}

// cardNumber is how one card is named.
var cardNumber = regexp.MustCompile(`^cuda:[0-9]{1,3}$`)

// device is what computes for a command.
type device struct {
	on   compute.Device
	why  string       // it was chosen, for people; "" when it was named
	card *driver.Info // nil on the CPU

	counters func() []ptxemu.Counters // of an emulated card, else nil
}

func (d *device) Close() error { return d.on.Close() }

// leastCapability is what the kernels need: GeForce 10 and later.
const leastCapability = 61

// selection is what --device comes to on this machine.
type selection struct {
	cards []int  // by index; none is the CPU
	why   string // for people; "" when it was named
}

// choose decides what computes. cards is what the driver lists, failed why it lists none.
func choose(want string, cards []driver.Info, failed error) (selection, error) {
	usable := slices.DeleteFunc(slices.Clone(cards), func(i driver.Info) bool { return i.Capability() < leastCapability })
	switch {
	case want == deviceCPU:
		return selection{}, nil
	case want == deviceEmulated:
		return selection{cards: []int{0}, why: "a slow emulation, for tests"}, failed
	case want == deviceAuto && failed != nil:
		return selection{why: "no GPU: " + shortFailure(failed)}, nil
	case want == deviceAuto && len(cards) == 0:
		return selection{why: "no NVIDIA GPU here"}, nil
	case want == deviceAuto && len(usable) == 0:
		return selection{why: tooOld(cards[0])}, nil
	case want == deviceAuto:
		return selection{cards: []int{usable[0].Index}, why: fmt.Sprintf("the first of %d usable", len(usable))}, nil
	case failed != nil:
		return selection{}, failed
	case want == deviceAllCards && len(usable) == 0:
		return selection{}, errors.New("device cuda:all: there is no usable GPU; use --device cpu")
	case want == deviceAllCards:
		var all selection
		for _, i := range usable {
			all.cards = append(all.cards, i.Index)
		}
		return all, nil
	}
	n, _ := strconv.Atoi(strings.TrimPrefix(want, "cuda:")) // it was checked
	switch {
	case n >= len(cards):
		return selection{}, fmt.Errorf("device %s: this machine has %d; `dunlin doctor --gpu` lists them", want, len(cards))
	case cards[n].Capability() < leastCapability:
		return selection{}, fmt.Errorf("device %s: %s; use --device cpu", want, tooOld(cards[n]))
	}
	return selection{cards: []int{n}}, nil
}

func tooOld(card driver.Info) string {
	return fmt.Sprintf("%s has compute capability %d.%d, the kernels need %d.%d", card.Name, card.Major, card.Minor, leastCapability/10, leastCapability%10)
}

// shortFailure is what a line has room for; doctor says the rest.
func shortFailure(err error) string {
	var failed *driver.Error
	switch {
	case !errors.As(err, &failed):
		return err.Error()
	case failed.Code == driver.NoLibrary || failed.Code == driver.NoCUDA:
		return failed.Text()
	}
	return failed.Text() + " (dunlin doctor --gpu says what to do)"
}

// namesOf lists what computes, for people.
func namesOf(devices []*device) string {
	var names []string
	for _, d := range devices {
		names = append(names, d.on.Name())
	}
	return strings.Join(names, " + ")
}

// devices opens what computes, all cards of it. compiling hears of slow first starts and may be nil.
func (c *Config) devices(compiling *progress) ([]*device, error) {
	var backend driver.Driver
	var cards []driver.Info
	var err error
	switch c.Device {
	case deviceCPU:
	case deviceEmulated:
		backend, err = ptxemu.New(ptxemu.Config{Workers: c.Threads, Uninitialised: true})
	default:
		backend = driver.System()
	}
	if backend != nil && err == nil {
		cards, err = backend.Devices()
	}
	chosen, err := choose(c.Device, cards, err)
	if err != nil {
		return nil, err
	}
	var opened []*device
	for _, i := range chosen.cards {
		d, err := c.openCard(backend, cards[i], compiling)
		if err == nil {
			d.why = chosen.why
			opened = append(opened, d)
			continue
		}
		if c.Device != deviceAuto {
			for _, d := range opened {
				err = errors.Join(err, d.Close())
			}
			return nil, err
		}
		chosen.why = fmt.Sprintf("%s cannot be used: %s", cards[i].Name, shortFailure(err))
	}
	if len(opened) > 0 {
		return opened, nil
	}
	d, err := cpu.New(cpu.Options{Threads: c.Threads, Path: c.Kernels, Precision: compute.Precision(c.Precision)})
	if err != nil {
		return nil, err
	}
	return []*device{{on: d, why: chosen.why}}, nil
}

// device opens what computes for a command that takes one device.
func (c *Config) device(compiling *progress) (*device, error) {
	if c.Device == deviceAllCards {
		return nil, fmt.Errorf("device %s: this command takes one card; allowed: auto, cpu, cuda:N, emulated-cuda. All of them train as one peer of a run: dunlin join --device %s", c.Device, c.Device)
	}
	all, err := c.devices(compiling)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// openCard opens a card and loads the kernels.
func (c *Config) openCard(backend driver.Driver, card driver.Info, compiling *progress) (*device, error) {
	open := func() (driver.Context, error) { return backend.Open(card.Index) }
	context, err := open()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", card.Name, err)
	}
	loads, end := compiling.compiles()
	d, err := cuda.New(context, cuda.Options{Precision: compute.Precision(c.Precision), Reopen: open, Progress: loads})
	end()
	if err != nil {
		return nil, err
	}
	opened := &device{on: d, card: &card}
	if emulated, ok := context.(*ptxemu.Context); ok {
		opened.counters = emulated.Counters
	}
	return opened, nil
}

// slowLoad is how long loading kernels may take before people hear of it: longer means that they are compiled.
const slowLoad = 2 * time.Second

// compiles tells of kernels that the driver compiles, which it does once and keeps in a cache, as they load until end.
func (p *progress) compiles() (loads func(name string, done, all int), end func()) {
	if p == nil {
		return nil, func() {}
	}
	var mu sync.Mutex
	var tell func() // of the module that loads now; nil when none does
	slow, over := false, false
	// The first module may be the one that takes long.
	wait := time.AfterFunc(slowLoad, func() {
		mu.Lock()
		defer mu.Unlock()
		if slow = true; tell != nil {
			tell()
		}
	})
	loads = func(name string, done, all int) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return // the card was lost and opens again: what was compiled is kept
		}
		tell = func() {
			p.say(fmt.Sprintf("kernels        the driver compiles %s, %d of %d; it keeps them in its cache (%s), the next start is fast", name, done+1, all, kernelCache()),
				"compiling kernels", slog.String("module", name), slog.Int("done", done), slog.Int("all", all))
		}
		if slow {
			tell()
		}
	}
	return loads, func() {
		wait.Stop()
		mu.Lock()
		defer mu.Unlock()
		tell, over = nil, true
	}
}

// kernelCache is where NVIDIA's driver keeps what it compiled.
func kernelCache() string {
	if runtime.GOOS == "windows" {
		return `%APPDATA%\NVIDIA\ComputeCache`
	}
	return "~/.nv/ComputeCache"
}

// emulates is what people should know about a precision that their processor lacks.
const emulates = "this CPU does not multiply bf16: it rounds in software, which is slower than fp32"

// machine tells what computes and, unless it was named, why.
func (p *progress) machine(d *device, more string, attrs ...slog.Attr) {
	because := ""
	if d.why != "" {
		because = " (" + d.why + ")"
	}
	p.say("this machine   "+d.on.Name()+because+more, "machine", append([]slog.Attr{slog.String("device", d.on.Name()), slog.String("because", d.why)}, attrs...)...)
	if d, ok := d.on.(*cpu.Device); ok && d.Emulates() {
		p.say("precision      "+emulates, "precision", slog.Bool("emulated", true))
	}
}

// worked tells what a card did.
func (p *progress) worked(d *device) {
	card, ok := d.on.(*cuda.Device)
	if !ok {
		return
	}
	line := fmt.Sprintf("work           %s kernels launched", grouped(card.Launches()))
	attrs := []slog.Attr{slog.Uint64("kernels", card.Launches())}
	if d.counters != nil {
		var instructions uint64 // of threads
		for _, k := range d.counters() {
			instructions += k.Lanes
		}
		line += fmt.Sprintf(", %s PTX instructions executed", grouped(instructions))
		attrs = append(attrs, slog.Uint64("ptx_instructions", instructions))
	}
	p.say(line, "work", attrs...)
}
