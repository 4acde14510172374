package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/compute"
	"dunlin/cuda/driver"
	"dunlin/training"
)

func TestChoose(t *testing.T) {
	old := driver.Info{Index: 0, Name: "GTX 960", Major: 5, Minor: 2}
	first := driver.Info{Index: 1, Name: "RTX 3060", Major: 8, Minor: 6}
	second := driver.Info{Index: 2, Name: "GTX 1080", Major: 6, Minor: 1}
	all := []driver.Info{old, first, second}
	missing := &driver.Error{Code: driver.NoLibrary, Call: "find driver", Detail: "libcuda.so.1: cannot open"}
	for _, c := range []struct {
		want   string
		cards  []driver.Info
		failed error
		chosen []int  // nil: the CPU
		says   string // in why, or in the error when that begins with "!"
	}{
		{"cpu", all, nil, nil, ""},
		{"auto", all, nil, []int{1}, "the first of 2 usable"},
		{"auto", nil, missing, nil, "no GPU: NVIDIA's driver is not installed"},
		{"auto", nil, &driver.Error{Code: driver.OldLibrary}, nil, "no GPU: NVIDIA's driver is too old (dunlin doctor"},
		{"auto", nil, nil, nil, "no NVIDIA GPU here"},
		{"auto", all[:1], nil, nil, "GTX 960 has compute capability 5.2, the kernels need 6.1"},
		{"cuda:all", all, nil, []int{1, 2}, ""},
		{"cuda:all", all[:1], nil, nil, "!no usable GPU"},
		{"cuda:1", all, nil, []int{1}, ""},
		{"cuda:0", all, nil, nil, "!GTX 960 has compute capability 5.2"},
		{"cuda:3", all, nil, nil, "!this machine has 3"},
		{"cuda:0", nil, missing, nil, "!install NVIDIA's driver"},
	} {
		got, err := choose(c.want, c.cards, c.failed)
		says, text := c.says, got.why
		if rest, fails := strings.CutPrefix(says, "!"); fails {
			if says, text = rest, fmt.Sprint(err); err == nil {
				t.Errorf("%s of %d: no error", c.want, len(c.cards))
			}
		} else if err != nil {
			t.Errorf("%s of %d: %v", c.want, len(c.cards), err)
		}
		if fmt.Sprint(got.cards) != fmt.Sprint(c.chosen) || !strings.Contains(text, says) || says == "" && text != "" {
			t.Errorf("%s of %d: cards %v, %q; want %v, %q", c.want, len(c.cards), got.cards, text, c.chosen, c.says)
		}
	}
}

func TestDeviceOption(t *testing.T) {
	var c Config
	o := c.computer(deviceAuto)
	for _, text := range []string{"auto", "cpu", "cuda:0", "cuda:12", "cuda:all"} {
		if err := o.set(text); err != nil || c.Device != text {
			t.Errorf("%q: %q, %v", text, c.Device, err)
		}
	}
	for _, text := range []string{"", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:1234", "cuda:0 ", "CPU"} {
		if o.set(text) == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// A device that has less memory than it told gets smaller plans until one fits, or none does.
func TestWithinHalves(t *testing.T) {
	for _, real := range []int64{1000, 300, 10} {
		var planned, halvings []int64
		err := within(0, func(limit int64) (training.Plan, error) {
			if limit == 0 {
				limit = 900
			}
			if limit < 100 {
				return training.Plan{}, &training.MemoryError{Limit: limit, Least: 100}
			}
			return training.Plan{Bytes: limit}, nil
		}, func(p training.Plan) error {
			if planned = append(planned, p.Bytes); p.Bytes > real {
				return fmt.Errorf("make a model: %w", compute.ErrMemory)
			}
			return nil
		}, func(limit int64, _ error) { halvings = append(halvings, limit) })
		var short *training.MemoryError
		switch {
		case real == 1000 && (err != nil || len(planned) != 1):
			t.Errorf("enough memory: %v, plans of %v", err, planned)
		case real == 300 && (err != nil || fmt.Sprint(planned) != "[900 450 225]" || fmt.Sprint(halvings) != "[450 225]"):
			t.Errorf("a third of the memory: %v, plans of %v, halved to %v", err, planned, halvings)
		case real == 10 && !errors.As(err, &short):
			t.Errorf("no memory: %v, plans of %v", err, planned)
		}
	}
}

// Kernels that load at once are not worth a word; those that the driver compiles are, from the first on.
func TestSlowKernelsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := &progress{out: &out}
		told := func() string {
			synctest.Wait()
			defer out.Reset()
			return out.String()
		}
		loads, end := p.compiles()
		loads("attention", 0, 3)
		time.Sleep(slowLoad / 2)
		loads("matmul", 1, 3)
		end()
		time.Sleep(slowLoad)
		if text := told(); text != "" {
			t.Errorf("kernels out of the cache: %q", text)
		}
		loads, end = p.compiles()
		loads("attention", 0, 3)
		time.Sleep(2 * slowLoad)
		if text := told(); !strings.Contains(text, "compiles attention, 1 of 3;") {
			t.Errorf("the first module: %q", text)
		}
		loads("matmul", 1, 3)
		if text := told(); !strings.Contains(text, "compiles matmul, 2 of 3;") {
			t.Errorf("the second module: %q", text)
		}
		end()
		loads("attention", 0, 3)
		if text := told(); text != "" {
			t.Errorf("opened again: %q", text)
		}
	})
}
