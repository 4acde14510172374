package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ticksPerSecond is the unit of /proc/stat on every Linux that Go runs on.
const ticksPerSecond = 100

// busySeconds is the time that processors of this machine have worked at ordinary priority.
func busySeconds() (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("processor use: %w", err)
	}
	return parseStat(b)
}

// parseStat adds up user, system, irq and softirq of the first line: nice, idle and iowait are not work that
// training takes anything from.
func parseStat(b []byte) (float64, error) {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, errors.New("processor use: /proc/stat has another form")
	}
	var sum float64
	for _, i := range []int{1, 3, 6, 7} {
		ticks, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor use: /proc/stat: %w", err)
		}
		sum += float64(ticks)
	}
	return sum / ticksPerSecond, nil
}

// ownSeconds is what busySeconds counts of this process: nothing when it runs at low priority itself, as a service does.
func ownSeconds() (float64, error) {
	if p, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && p < 20 { // the kernel says 20 less the nice value
		return 0, nil
	}
	return processSeconds()
}

// onBattery reads what the kernel knows of power supplies.
func onBattery() (bool, error) { return discharging(os.DirFS("/sys/class/power_supply")) }

// discharging tells whether no mains adapter is on while a battery of the machine gives power. A mouse's battery does
// not count.
func discharging(supplies fs.FS) (bool, error) {
	entries, err := fs.ReadDir(supplies, ".")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // no power supplies: a server or a container
	}
	if err != nil {
		return false, fmt.Errorf("power supply: %w", err)
	}
	read := func(dir, name string) string {
		b, err := fs.ReadFile(supplies, path.Join(dir, name))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	drained := false
	for _, e := range entries {
		switch read(e.Name(), "type") {
		case "Mains", "USB":
			if read(e.Name(), "online") == "1" {
				return false, nil
			}
		case "Battery":
			drained = drained || read(e.Name(), "scope") != "Device" && read(e.Name(), "status") == "Discharging"
		}
	}
	return drained, nil
}

// Memory returns bytes that the machine has, and that programs can still take.
func Memory() (total, free uint64, err error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("memory: %w", err)
	}
	value := func(key string) (uint64, error) {
		_, rest, _ := bytes.Cut(append([]byte("\n"), b...), []byte("\n"+key+":"))
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			return 0, fmt.Errorf("memory: /proc/meminfo has no %s", key)
		}
		kB, err := strconv.ParseUint(string(fields[0]), 10, 64)
		return kB << 10, err
	}
	total, err = value("MemTotal")
	if err != nil {
		return 0, 0, err
	}
	free, err = value("MemAvailable")
	return total, free, err
}
