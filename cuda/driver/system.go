package driver

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"dunlin/cuda/loader"
)

// MinVersion is the oldest CUDA version whose driver compiles the kernels' PTX: 11.0, driver 450.
const MinVersion = 11000

// System returns the NVIDIA driver of this machine. Its library is looked for
// at the first use; a machine without one costs nothing else. Every method then
// returns an *Error that is ErrNoDriver.
func System() Driver { return &system{paths: loader.Places("libcuda.so.1", "nvcuda.dll")} }

// system is the driver's library, once it is found.
type system struct {
	paths []string // where to look, in order
	once  sync.Once
	lib   library
	err   error
}

// library is where the calls are; 0 for those that an old driver lacks.
type library struct{ address [calls]loader.Function }

// result makes a call and returns the driver's code. Pointers among args are converted in the caller's argument list,
// which keeps what they point to alive and in place.
//
//go:uintptrescapes
func (l *library) result(c call, args ...uintptr) Code {
	return Code(int32(l.address[c].Call(args...)))
}

// do makes a call and puts its code into words.
//
//go:uintptrescapes
func (l *library) do(c call, args ...uintptr) error {
	return l.fail(c, l.result(c, args...), "")
}

// fail is the error of a code, nil for success.
func (l *library) fail(c call, code Code, detail string) error {
	if code == 0 {
		return nil
	}
	if detail == "" && !code.known() {
		detail = l.driverText(code)
	}
	return &Error{Code: code, Call: names()[c], Detail: detail}
}

// driverText asks the driver for its words.
func (l *library) driverText(code Code) string {
	var text *[1 << 10]byte // the driver's, which lasts
	if l.result(callErrorString, uintptr(code), uintptr(unsafe.Pointer(&text))) != 0 || text == nil {
		return ""
	}
	for n := range text {
		if text[n] == 0 {
			return "the driver calls it " + string(text[:n])
		}
	}
	return ""
}

// open finds the library and initialises it, once.
func (s *system) open() error {
	s.once.Do(func() { s.err = s.load() })
	return s.err
}

func (s *system) load() error {
	lib, err := loader.Open(s.paths)
	if errors.Is(err, loader.ErrNone) {
		return &Error{Code: NoCUDA, Call: "find driver"}
	}
	if err != nil {
		return &Error{Code: NoLibrary, Call: "find driver", Detail: err.Error()}
	}
	for c, name := range names() {
		s.lib.address[c] = lib.Function(name)
		if s.lib.address[c] == 0 && call(c) < callBeginCapture {
			return &Error{Code: OldLibrary, Call: name, Detail: "the driver lacks it"}
		}
	}
	if err := s.lib.do(callInit, 0); err != nil {
		return err
	}
	version, err := s.version()
	if err == nil && version < MinVersion {
		err = &Error{Code: OldLibrary, Call: "cuDriverGetVersion", Detail: fmt.Sprintf("it speaks CUDA %s, %s is needed", versionText(version), versionText(MinVersion))}
	}
	return err
}

func versionText(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

func (s *system) Version() (int, error) {
	if err := s.open(); err != nil {
		return 0, err
	}
	return s.version()
}

func (s *system) version() (int, error) {
	var v int32
	err := s.lib.do(callVersion, uintptr(unsafe.Pointer(&v)))
	return int(v), err
}

func (s *system) Devices() ([]Info, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	var n int32
	if err := s.lib.do(callDeviceCount, uintptr(unsafe.Pointer(&n))); err != nil {
		return nil, err
	}
	cards := make([]Info, n)
	for i := range cards {
		var err error
		if _, cards[i], err = s.device(i); err != nil {
			return nil, err
		}
	}
	return cards, nil
}

// device returns the driver's number of a card and what it tells of it.
func (s *system) device(index int) (int32, Info, error) {
	lib := &s.lib
	var d int32
	if err := lib.do(callDevice, uintptr(unsafe.Pointer(&d)), uintptr(index)); err != nil {
		return 0, Info{}, err
	}
	i := Info{Index: index}
	name := make([]byte, 256)
	if err := lib.do(callDeviceName, uintptr(unsafe.Pointer(&name[0])), uintptr(len(name)), uintptr(d)); err != nil {
		return 0, i, err
	}
	i.Name = text(name)
	bus := make([]byte, 32)
	if err := lib.do(callDeviceBus, uintptr(unsafe.Pointer(&bus[0])), uintptr(len(bus)), uintptr(d)); err != nil {
		return 0, i, err
	}
	i.PCI = text(bus)
	if err := lib.do(callDeviceMemory, uintptr(unsafe.Pointer(&i.MemoryBytes)), uintptr(d)); err != nil {
		return 0, i, err
	}
	for _, a := range []struct {
		to        *int
		attribute uintptr
	}{
		{&i.Major, attributeMajor},
		{&i.Minor, attributeMinor},
		{&i.Multiprocessors, attributeProcessors},
		{&i.ClockKHz, attributeClock},
		{&i.MemoryClockKHz, attributeMemoryClock},
		{&i.BusWidthBits, attributeBus},
		{&i.L2Bytes, attributeL2},
		{&i.WarpSize, attributeWarp},
		{&i.ThreadsPerBlock, attributeThreads},
		{&i.ThreadsPerProcessor, attributeResident},
		{&i.RegistersPerProcessor, attributeRegisters},
		{&i.SharedPerBlockBytes, attributeSharedOptIn},
		{&i.SharedPerProcessorBytes, attributeSharedAll},
	} {
		var v int32
		switch err := lib.do(callDeviceAttribute, uintptr(unsafe.Pointer(&v)), a.attribute, uintptr(d)); {
		case err == nil:
			*a.to = int(v)
		case a.attribute != attributeClock && a.attribute != attributeMemoryClock: // which not every card tells
			return 0, i, err
		}
	}
	return d, i, nil
}

// text is a C string.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

func (s *system) Open(index int) (Context, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if index < 0 {
		return nil, &Error{Code: 101, Call: "open card", Detail: fmt.Sprintf("number %d", index)}
	}
	d, info, err := s.device(index)
	if err != nil {
		return nil, err
	}
	c := &systemContext{lib: &s.lib, info: info, frame: new(frame)}
	// A new context becomes the thread's current one, which others on it do not expect; they set their own at each call.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := s.lib.do(callCreateContext, uintptr(unsafe.Pointer(&c.handle)), contextBlockingSync, uintptr(d)); err != nil {
		return nil, err
	}
	c.pin()
	return c, nil
}
