package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"dunlin/cuda/loader"
)

// card is NVML's handle of one.
type card uintptr

// nvml is what is called of NVML, nvml.h of CUDA 11 and later. Results go where the last argument points.
type nvml struct {
	start, stop func() code
	count       func(*uint32) code
	card        func(index uint32, _ *card) code
	name        func(card, *cardName) code
	bus         func(card, *cardBus) code
	use         func(card, *cardUse) code
	memory      func(card, *cardMemory) code
	temperature func(card, *uint32) code // °C
	power       func(card, *uint32) code // mW
	powerLimit  func(card, *uint32) code // mW
	throttling  func(card, *uint64) code
}

// Structures of nvml.h.
type (
	cardName [96]byte
	cardBus  struct {
		_                         [16]byte
		domain, bus, device, _, _ uint32
		_                         [32]byte
	}
	cardUse    struct{ kernels, memory uint32 } // per cent of the last moment
	cardMemory struct{ total, free, used uint64 }
)

func open() (Source, error) { return load(loader.Places("libnvidia-ml.so.1", "nvml.dll")) }

func load(paths []string) (Source, error) {
	lib, err := loader.Open(paths)
	if err != nil {
		return nil, fmt.Errorf("%w: NVML, which comes with NVIDIA's driver, cannot be loaded: %w", ErrNone, err)
	}
	return begin(bind(lib))
}

// bind finds the functions. _v2 and _v3 mark those whose structures have grown.
func bind(lib loader.Library) *nvml {
	start, stop := lib.Function("nvmlInit_v2"), lib.Function("nvmlShutdown")
	count, at := lib.Function("nvmlDeviceGetCount_v2"), lib.Function("nvmlDeviceGetHandleByIndex_v2")
	name, temperature := lib.Function("nvmlDeviceGetName"), lib.Function("nvmlDeviceGetTemperature")
	return &nvml{
		start: func() code { return result(start) },
		stop:  func() code { return result(stop) },
		count: func(n *uint32) code { return result(count, uintptr(unsafe.Pointer(n))) },
		card:  func(index uint32, c *card) code { return result(at, uintptr(index), uintptr(unsafe.Pointer(c))) },
		name: func(c card, text *cardName) code {
			return result(name, uintptr(c), uintptr(unsafe.Pointer(text)), unsafe.Sizeof(*text))
		},
		temperature: func(c card, degrees *uint32) code {
			const ofTheGPU = 0
			return result(temperature, uintptr(c), ofTheGPU, uintptr(unsafe.Pointer(degrees)))
		},
		bus:        of[cardBus](lib.Function("nvmlDeviceGetPciInfo_v3")),
		use:        of[cardUse](lib.Function("nvmlDeviceGetUtilizationRates")),
		memory:     of[cardMemory](lib.Function("nvmlDeviceGetMemoryInfo")),
		power:      of[uint32](lib.Function("nvmlDeviceGetPowerUsage")),
		powerLimit: of[uint32](lib.Function("nvmlDeviceGetEnforcedPowerLimit")),
		throttling: of[uint64](lib.Function("nvmlDeviceGetCurrentClocksThrottleReasons")),
	}
}

// of is a function that tells one thing of a card.
func of[T any](f loader.Function) func(card, *T) code {
	return func(c card, to *T) code { return result(f, uintptr(c), uintptr(unsafe.Pointer(to))) }
}

// result calls a function and returns its code.
//
//go:uintptrescapes
func result(f loader.Function, args ...uintptr) code {
	if f == 0 {
		return notThere
	}
	return code(uint32(f.Call(args...)))
}

// code is an nvmlReturn_t.
type code uint32

const notThere code = 13

// Error says what a volunteer can do about the codes that one may meet.
func (c code) Error() string {
	switch c {
	case 4, 17:
		return "this user may not look at the cards"
	case 9:
		return "NVIDIA's driver is not loaded; look whether nvidia-smi works"
	case notThere:
		return "NVIDIA's driver is too old"
	case 15, 16:
		return "the card was lost; restart the machine"
	case 18:
		return "NVIDIA's driver was updated; restart the machine"
	default:
		return fmt.Sprintf("NVML reports error %d; look whether nvidia-smi works", uint32(c))
	}
}

// failed is nil for success.
func (c code) failed(what string) error {
	if c == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", what, c)
}

func begin(lib *nvml) (Source, error) {
	if err := lib.start().failed("start NVML"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	return lib, nil
}

// Close implements Source.
func (l *nvml) Close() error { return l.stop().failed("stop NVML") }

// Read implements Source.
func (l *nvml) Read() ([]Reading, error) {
	var n uint32
	if err := l.count(&n).failed("count cards"); err != nil {
		return nil, err
	}
	var readings []Reading
	var faults []error
	for i := range n {
		var c card
		if err := l.card(i, &c).failed(fmt.Sprintf("look at card %d", i)); err != nil {
			faults = append(faults, err)
			continue
		}
		readings = append(readings, l.read(c))
	}
	if len(readings) == 0 {
		return nil, errors.Join(faults...)
	}
	return readings, nil
}

// read leaves out what a card does not tell: few consumer cards tell everything.
func (l *nvml) read(c card) Reading {
	var out Reading
	if v := tell(l.name, c); v != nil {
		text, _, _ := bytes.Cut(v[:], []byte{0})
		out.Name = string(text)
	}
	if v := tell(l.bus, c); v != nil {
		out.PCI = fmt.Sprintf("%04x:%02x:%02x.0", v.domain, v.bus, v.device)
	}
	if v := tell(l.use, c); v != nil {
		out.Utilisation = float64(v.kernels) / 100
	}
	if v := tell(l.memory, c); v != nil {
		out.Used, out.Total = v.used, v.total
	}
	if v := tell(l.temperature, c); v != nil {
		out.Temperature = float64(*v)
	}
	if v := tell(l.power, c); v != nil {
		out.Power = float64(*v) / 1000
	}
	if v := tell(l.powerLimit, c); v != nil {
		out.PowerLimit = float64(*v) / 1000
	}
	if v := tell(l.throttling, c); v != nil {
		out.Throttled = throttled(*v)
	}
	return out
}

// tell asks a card for one thing, nil when it does not tell.
func tell[T any](ask func(card, *T) code, c card) *T {
	v := new(T)
	if ask(c, v) != 0 {
		return nil
	}
	return v
}

// throttled puts the bits of NVML's reasons into words.
func throttled(reasons uint64) []string {
	var out []string
	for _, r := range []struct {
		bits uint64
		text string
	}{
		{0x4, "power limit"},
		{0x20 | 0x40, "heat"}, // as the driver and as the hardware sees it
		{0x80, "power supply"},
		{0x8, "hardware slowdown"},
		{0x2 | 0x100, "clock settings"}, // of programs and of the display
	} {
		if reasons&r.bits != 0 {
			out = append(out, r.text)
		}
	}
	return out
}
