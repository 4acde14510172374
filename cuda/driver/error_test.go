package driver

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		code Code
		is   error
		says string
	}{
		{NoLibrary, ErrNoDriver, "install NVIDIA's driver"},
		{OldLibrary, ErrNoDriver, "update NVIDIA's driver"},
		{NoCUDA, ErrNoDriver, "--device cpu"},
		{OutOfMemory, ErrOutOfMemory, "lower --memory"},
		{NoDevice, ErrNoDevice, "nvidia-smi"},
		{36, ErrNoDriver, "update"},
		{101, ErrNoDevice, "doctor --gpu"},
		{209, ErrUnsupported, "--device cpu"},
		{214, ErrDeviceLost, "temperature"},
		{222, ErrNoDriver, "update"},
		{304, ErrNoDriver, "/dev/nvidia"},
		{IllegalRead, ErrDeviceLost, "report"},
		{702, ErrDeviceLost, "display"},
		{LaunchFailed, ErrDeviceLost, "temperature"},
		{709, ErrDeviceLost, "report"},
		{718, ErrDeviceLost, "start dunlin again"},
		{810, ErrDeviceLost, "start dunlin again"},
		{800, ErrNoDevice, "groups"},
		{803, ErrNoDriver, "restart the machine"},
		{999, ErrDeviceLost, "restart"},
		{12345, nil, "error 12345"},
	} {
		err := fmt.Errorf("step 3: %w", &Error{Code: c.code, Call: "cuTest", Detail: "detail"})
		for _, kind := range []error{ErrNoDriver, ErrNoDevice, ErrOutOfMemory, ErrDeviceLost, ErrUnsupported} {
			if want := c.is != nil && kind.Error() == c.is.Error(); errors.Is(err, kind) != want {
				t.Errorf("code %d is %q: %v", c.code, kind, errors.Is(err, kind))
			}
		}
		for _, want := range []string{"cuTest", "detail", c.says} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("code %d: %q is not in %q", c.code, want, err)
			}
		}
	}
	for code := range Code(1000) {
		e := &Error{Code: code}
		if e.Text() == "" || e.Mend() == "" {
			t.Errorf("code %d has no words", code)
		}
	}
}
