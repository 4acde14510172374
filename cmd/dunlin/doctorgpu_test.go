package main

import (
	"io"
	"strings"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/cuda/driver"
	"dunlin/cuda/ptxemu"
	"dunlin/status"
)

// emulated is a driver of an emulated card with a fault.
func emulated(t *testing.T, fault func(call string, n int) error) (driver.Driver, driver.Info) {
	t.Helper()
	d, err := ptxemu.New(ptxemu.Config{Fault: fault})
	if err != nil {
		t.Fatal(err)
	}
	cards, err := d.Devices()
	if err != nil {
		t.Fatal(err)
	}
	return d, cards[0]
}

// What goes wrong on a card becomes a finding with the mend of its code.
func TestExamineFindsFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  func(call string, n int) error
		detail string
		mend   string
	}{
		{"kernels that do not compile", func(call string, _ int) error {
			if strings.Contains(call, "cuModuleLoad") {
				return &driver.Error{Code: 222, Call: call}
			}
			return nil
		}, "too old for the kernels", "update NVIDIA's driver"},
		{"a card that is lost", func(call string, n int) error {
			if call == "cuLaunchKernel" && n > 60 {
				return &driver.Error{Code: 214, Call: call}
			}
			return nil
		}, "device lost", "temperature"},
		{"a full card", func(call string, n int) error {
			if strings.Contains(call, "cuMemAlloc") {
				return &driver.Error{Code: driver.OutOfMemory, Call: call}
			}
			return nil
		}, "memory is full", "close other programs"},
		{"a wrong result, and a card that does not open again", onlyOnce(), "could not be corrected", "temperature"},
	} {
		backend, card := emulated(t, c.fault)
		found, _, err := examine(t.Context(), backend, card, compute.FP32, &progress{out: io.Discard})
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", c.name, found, err)
		}
		if f := found[0]; f.State != status.Fail || !strings.Contains(f.Detail, c.detail) || !strings.Contains(f.Mend, c.mend) {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

// onlyOnce is the fault of a card that refuses a launch, and to load kernels once it is opened again.
func onlyOnce() func(call string, n int) error {
	refused := false
	return func(call string, _ int) error {
		switch {
		case refused && strings.Contains(call, "cuModuleLoad"):
			return &driver.Error{Code: 214, Call: call}
		case call == "cuLaunchKernel" && !refused:
			refused = true
			return &driver.Error{Code: driver.InvalidValue, Call: call}
		}
		return nil
	}
}

func TestLookDriver(t *testing.T) {
	d, _ := emulated(t, nil)
	found, cards := lookDriver(d)
	if found[0].State != status.OK || len(cards) != 1 || found[0].Detail != "speaks CUDA 11.8, lists 1" {
		t.Errorf("%+v", found)
	}
	if f := lookCapability(driver.Info{Name: "GTX 960", Major: 5, Minor: 2}); f.State != status.Fail || f.Mend == "" {
		t.Errorf("an old card: %+v", f)
	}
}

// Operations are timed on shapes that fit; the processor stands in for a card.
func TestTimeOperations(t *testing.T) {
	d, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	times, err := timeOperations(t.Context(), d, benchSize{batch: 2, context: 16, width: 32, heads: 2, vocab: 300}, 1e15, 1e14)
	if err != nil || len(times) != 12 {
		t.Fatalf("%d timings, %v", len(times), err)
	}
	for _, x := range times {
		if x.Seconds <= 0 || x.Rate <= 0 || x.Share <= 0 || x.Share > 1 {
			t.Errorf("%+v", x)
		}
	}
	times[0].Card, times[0].Precision, times[0].Seconds, times[0].Rate, times[0].Share = "cuda:0", "fp32", 0.00123, 5.6e12, 0.44
	if table := timingTable(times); !strings.Contains(table, "cuda:0   fp32  matmul, up                         1.23     5.60 TFLOP/s       44 %\n") {
		t.Errorf("table:\n%s", table)
	}
	if timingTable(nil) != "" {
		t.Error("a table of nothing")
	}
}
