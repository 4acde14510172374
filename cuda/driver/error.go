package driver

import (
	"errors"
	"fmt"
)

// The kinds of failure that a program acts on; use errors.Is.
var (
	ErrNoDriver    = errors.New("no usable NVIDIA driver")
	ErrNoDevice    = errors.New("no usable GPU")
	ErrOutOfMemory = errors.New("out of GPU memory")
	ErrDeviceLost  = errors.New("GPU lost")
	ErrUnsupported = errors.New("not supported by this driver")
)

// Code is a number that the driver returns, CUresult in cuda.h.
type Code int

// The codes that this program itself makes or looks at.
const (
	InvalidValue Code = 1
	OutOfMemory  Code = 2
	NoDevice     Code = 100
	InvalidPTX   Code = 218
	NotFound     Code = 500
	NotReady     Code = 600
	IllegalRead  Code = 700 // CUDA_ERROR_ILLEGAL_ADDRESS
	LaunchFailed Code = 719
	NotSupported Code = 801
	// Those below zero are not the driver's: its library is not there, or lacks a call, or this build calls none.
	NoLibrary  Code = -1
	OldLibrary Code = -2
	NoCUDA     Code = -3
)

// Error is a failure that the driver reported.
type Error struct {
	Code   Code
	Call   string // what was called: "cuMemAlloc"
	Detail string // what else is known: sizes, the compiler's log; may be empty
}

// Error says what happened, in which call, and what to do.
func (e *Error) Error() string {
	m := e.Code.meaning()
	text := fmt.Sprintf("%s: %s (%s)", e.Call, m.text, m.name)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text + "; " + m.mend
}

// Text says what the code means, for people.
func (e *Error) Text() string { return e.Code.meaning().text }

// Mend says what a volunteer can do about it.
func (e *Error) Mend() string { return e.Code.meaning().mend }

// Is tells the kind of failure.
func (e *Error) Is(target error) bool {
	kind := e.Code.meaning().kind
	return kind != nil && target == kind
}

// meaning is a code in words.
type meaning struct {
	name string // as in cuda.h, without CUDA_ERROR_
	text string
	mend string
	kind error // nil when programs do not act on it
}

// What people can do, where several codes have the same answer.
const (
	mendInstall = "install NVIDIA's driver for this card (Linux: your distribution's nvidia-driver package; Windows: nvidia.com/drivers) and restart, or use --device cpu"
	mendBuild   = "use --device cpu; GPUs are used on Linux and Windows, by builds without -tags nocuda"
	mendUpdate  = "update NVIDIA's driver (450 is the oldest that serves, 470 and later do more), restart the machine and try again"
	mendRestart = "stop other programs on the card and try again; if it comes back, restart the machine"
	mendReport  = "this is a fault of dunlin or of the card: run `dunlin doctor --gpu` and report what it prints"
	mendHealth  = "the card made an error: start dunlin again; if it comes back, look at the card's temperature and power supply, undo overclocking, restart the machine"
	mendMemory  = "close other programs that use the card, or lower --memory (dunlin train: or --batch)"
)

// known reports whether the code has words of its own.
func (c Code) known() bool { return c.meaning().text != unknownText }

// unknownText stands for codes without words of their own.
const unknownText = "the driver failed"

// meaning puts a code into words.
func (c Code) meaning() meaning {
	switch c {
	case NoLibrary:
		return meaning{"no library", "NVIDIA's driver is not installed", mendInstall, ErrNoDriver}
	case NoCUDA:
		return meaning{"no loader", "this build of dunlin has no CUDA", mendBuild, ErrNoDriver}
	case OldLibrary:
		return meaning{"old library", "NVIDIA's driver is too old", mendUpdate, ErrNoDriver}
	case 3:
		return meaning{"NOT_INITIALIZED", "the driver is not initialised", mendReport, nil}
	case 4:
		return meaning{"DEINITIALIZED", "the driver is shutting down", "start dunlin again", ErrDeviceLost}
	case 34:
		return meaning{"STUB_LIBRARY", "a stand-in for the driver was found instead of the driver", "remove the CUDA toolkit's stubs folder from LD_LIBRARY_PATH", ErrNoDriver}
	case 36:
		return meaning{"CALL_REQUIRES_NEWER_DRIVER", "NVIDIA's driver is too old for this library of it", mendUpdate, ErrNoDriver}
	case 46:
		return meaning{"DEVICE_UNAVAILABLE", "another program has the card for itself", "stop that program, or set the card's compute mode to default: nvidia-smi -c 0", ErrNoDevice}
	case NoDevice:
		return meaning{"NO_DEVICE", "the driver finds no card", "look whether nvidia-smi lists one and whether CUDA_VISIBLE_DEVICES hides it; in a container pass --gpus all", ErrNoDevice}
	case 101:
		return meaning{"INVALID_DEVICE", "there is no card of that number", "`dunlin doctor --gpu` lists the cards", ErrNoDevice}
	case 102:
		return meaning{"DEVICE_NOT_LICENSED", "the virtual GPU has no licence", "ask whoever runs this machine for a vGPU licence", ErrNoDevice}
	case InvalidValue:
		return meaning{"INVALID_VALUE", "the driver refuses an argument", mendReport, nil}
	case OutOfMemory:
		return meaning{"OUT_OF_MEMORY", "the card's memory is full", mendMemory, ErrOutOfMemory}
	case 200:
		return meaning{"INVALID_IMAGE", "the driver cannot read the kernels", mendReport, nil}
	case 201:
		return meaning{"INVALID_CONTEXT", "the card's context is gone", mendReport, ErrDeviceLost}
	case 209:
		return meaning{"NO_BINARY_FOR_GPU", "the kernels do not fit this card", "cards of compute capability 6.1 (GeForce 10) and later work; use --device cpu with an older one", ErrUnsupported}
	case 214:
		return meaning{"ECC_UNCORRECTABLE", "the card's memory has an error that could not be corrected", mendHealth, ErrDeviceLost}
	case InvalidPTX:
		return meaning{"INVALID_PTX", "the driver cannot compile the kernels", mendReport, nil}
	case 220:
		return meaning{"NVLINK_UNCORRECTABLE", "the link between cards made an error", mendHealth, ErrDeviceLost}
	case 221:
		return meaning{"JIT_COMPILER_NOT_FOUND", "the driver's compiler is missing", "install libnvidia-ptxjitcompiler.so.1, part of the driver, in the driver's own version", ErrNoDriver}
	case 222:
		return meaning{"UNSUPPORTED_PTX_VERSION", "the driver is too old for the kernels", mendUpdate, ErrNoDriver}
	case 223:
		return meaning{"JIT_COMPILATION_DISABLED", "compiling kernels is switched off", "unset CUDA_DISABLE_PTX_JIT", ErrUnsupported}
	case 226:
		return meaning{"CONTAINED", "the card's memory made an error that hit this program only", "start dunlin again", ErrDeviceLost}
	case 302, 303:
		return meaning{"SHARED_OBJECT", "a library of the driver cannot be loaded", mendInstall, ErrNoDriver}
	case 304:
		return meaning{"OPERATING_SYSTEM", "the operating system refused the driver", "look whether you may open /dev/nvidia* (group video) and whether the system's log names the card", ErrNoDriver}
	case 400:
		return meaning{"INVALID_HANDLE", "a handle is of another context", mendReport, nil}
	case NotFound:
		return meaning{"NOT_FOUND", "a kernel of that name is not there", mendReport, nil}
	case NotReady:
		return meaning{"NOT_READY", "the work is not done yet", "wait for it", nil}
	case IllegalRead:
		return meaning{"ILLEGAL_ADDRESS", "a kernel touched memory that is not its own", mendReport, ErrDeviceLost}
	case 701:
		return meaning{"LAUNCH_OUT_OF_RESOURCES", "a kernel needs more than the card has", mendReport, ErrUnsupported}
	case 702:
		return meaning{"LAUNCH_TIMEOUT", "the system stopped a kernel that ran too long", "use a card without a display, or lower --batch", ErrDeviceLost}
	case 709:
		return meaning{"CONTEXT_IS_DESTROYED", "the card's context is gone", mendReport, ErrDeviceLost}
	case 710:
		return meaning{"ASSERT", "a kernel found something wrong and stopped", mendReport, ErrDeviceLost}
	case 714:
		return meaning{"HARDWARE_STACK_ERROR", "the card's call stack broke", mendHealth, ErrDeviceLost}
	case 715:
		return meaning{"ILLEGAL_INSTRUCTION", "the card met an instruction that it does not know", mendHealth, ErrDeviceLost}
	case 716:
		return meaning{"MISALIGNED_ADDRESS", "a kernel used an address that is not aligned", mendReport, ErrDeviceLost}
	case 717:
		return meaning{"INVALID_ADDRESS_SPACE", "a kernel used an address of the wrong kind", mendReport, ErrDeviceLost}
	case 718:
		return meaning{"INVALID_PC", "the card lost its place in a kernel", mendHealth, ErrDeviceLost}
	case LaunchFailed:
		return meaning{"LAUNCH_FAILED", "a kernel failed on the card", mendHealth, ErrDeviceLost}
	case 800:
		return meaning{"NOT_PERMITTED", "you may not use the card", "add yourself to the groups video and render, or ask whoever runs this machine", ErrNoDevice}
	case NotSupported:
		return meaning{"NOT_SUPPORTED", "the driver or the card cannot do this", mendUpdate, ErrUnsupported}
	case 802:
		return meaning{"SYSTEM_NOT_READY", "the machine's GPU services do not run", "start nvidia-fabricmanager, or restart the machine", ErrNoDriver}
	case 803:
		return meaning{"SYSTEM_DRIVER_MISMATCH", "the driver was updated while it runs", "restart the machine", ErrNoDriver}
	case 804:
		return meaning{"COMPAT_NOT_SUPPORTED_ON_DEVICE", "the CUDA compatibility package does not work on this card", "remove cuda-compat from LD_LIBRARY_PATH, or update the driver", ErrNoDriver}
	case 805, 806, 807, 808, 809:
		return meaning{"MPS", "the service that shares the card between programs refused", "restart nvidia-cuda-mps-control or stop it", ErrNoDevice}
	case 810:
		return meaning{"MPS_CLIENT_TERMINATED", "the service that shares the card between programs ended this program's part", "start dunlin again", ErrDeviceLost}
	case 900, 901, 902, 903, 904, 905, 906, 907, 908:
		return meaning{"STREAM_CAPTURE", "a step cannot be kept as a graph", mendReport, ErrUnsupported}
	case 909:
		return meaning{"TIMEOUT", "the card did not answer in time", mendRestart, ErrDeviceLost}
	case 999:
		return meaning{"UNKNOWN", "the driver failed without a reason; this is common after sleep or an update", "restart the machine", ErrDeviceLost}
	}
	return meaning{fmt.Sprintf("error %d", int(c)), unknownText, mendReport, nil}
}
