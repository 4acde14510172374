package machine

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// kernel is where Windows keeps what it tells of the machine.
func kernel(name string) *windows.LazyProc {
	return windows.NewLazySystemDLL("kernel32.dll").NewProc(name)
}

func seconds(t windows.Filetime) float64 {
	return float64(uint64(t.HighDateTime)<<32|uint64(t.LowDateTime)) / 1e7
}

// busySeconds is the time that processors of this machine have worked.
func busySeconds() (float64, error) {
	var idle, system, user windows.Filetime
	if ok, _, err := kernel("GetSystemTimes").Call(uintptr(unsafe.Pointer(&idle)), uintptr(unsafe.Pointer(&system)), uintptr(unsafe.Pointer(&user))); ok == 0 {
		return 0, fmt.Errorf("processor use: %w", err)
	}
	return seconds(system) + seconds(user) - seconds(idle), nil // idle time is within the system's
}

// ownSeconds is the processor time of this process.
func ownSeconds() (float64, error) {
	var created, ended, system, user windows.Filetime
	if err := windows.GetProcessTimes(windows.CurrentProcess(), &created, &ended, &system, &user); err != nil {
		return 0, fmt.Errorf("processor use: %w", err)
	}
	return seconds(system) + seconds(user), nil
}

func onBattery() (bool, error) {
	var power struct {
		line, battery, percent, saver byte
		left, full                    uint32
	}
	if ok, _, err := kernel("GetSystemPowerStatus").Call(uintptr(unsafe.Pointer(&power))); ok == 0 {
		return false, fmt.Errorf("power supply: %w", err)
	}
	if power.line > 1 {
		return false, errors.Join(errors.New("power supply"), ErrUntold)
	}
	return power.line == 0, nil
}

// Memory returns bytes that the machine has, and that programs can still take.
func Memory() (total, free uint64, err error) {
	var m struct {
		length, load                      uint32
		total, free, _, _, _, _, extended uint64
	}
	m.length = uint32(unsafe.Sizeof(m))
	if ok, _, err := kernel("GlobalMemoryStatusEx").Call(uintptr(unsafe.Pointer(&m))); ok == 0 {
		return 0, 0, fmt.Errorf("memory: %w", err)
	}
	return m.total, m.free, nil
}

// Disk returns bytes of the volume that holds a folder, and those that this user can still write.
func Disk(folder string) (total, free uint64, err error) {
	name, err := windows.UTF16PtrFromString(folder)
	if err == nil {
		err = windows.GetDiskFreeSpaceEx(name, &free, &total, nil)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("disk of %s: %w", folder, err)
	}
	return total, free, nil
}
