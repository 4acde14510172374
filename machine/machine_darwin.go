package machine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a system's own tool may take.
const patience = 3 * time.Second

func ask(tool string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, tool, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", tool, err)
	}
	return out, nil
}

// busySeconds is the time that the processes of this machine have taken. Those that ended are missing, so that a look
// right after a long one ended may find less than there was.
func busySeconds() (float64, error) {
	out, err := ask("ps", "-A", "-o", "time=")
	if err != nil {
		return 0, fmt.Errorf("processor use: %w", err)
	}
	var sum float64
	for line := range strings.Lines(string(out)) {
		seconds := 0.0
		for part := range strings.SplitSeq(strings.TrimSpace(line), ":") {
			x, err := strconv.ParseFloat(part, 64)
			if err != nil {
				return 0, fmt.Errorf("processor use: ps says %q", strings.TrimSpace(line))
			}
			seconds = seconds*60 + x
		}
		sum += seconds
	}
	return sum, nil
}

func onBattery() (bool, error) {
	out, err := ask("pmset", "-g", "batt")
	if err != nil {
		return false, fmt.Errorf("power supply: %w", err)
	}
	return bytes.Contains(out, []byte("'Battery Power'")), nil
}

// Memory returns bytes that the machine has, and that programs can still take: free, inactive and purgeable pages.
func Memory() (total, free uint64, err error) {
	if total, err = unix.SysctlUint64("hw.memsize"); err != nil {
		return 0, 0, fmt.Errorf("memory: %w", err)
	}
	out, err := ask("vm_stat")
	if err != nil {
		return total, 0, fmt.Errorf("memory: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "Pages free", "Pages inactive", "Pages purgeable":
			if n, err := strconv.ParseUint(strings.Trim(value, " .\n"), 10, 64); err == nil {
				free += n * uint64(os.Getpagesize())
			}
		}
	}
	return total, free, nil
}
