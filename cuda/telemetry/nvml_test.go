//go:build linux && cgo && !nocuda

package telemetry

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
)

// card is a mock that tells everything.
func card() *mock.Device {
	return &mock.Device{
		GetNameFunc: func() (string, nvml.Return) { return "NVIDIA GeForce RTX 3060", nvml.SUCCESS },
		GetPciInfoFunc: func() (nvml.PciInfo, nvml.Return) {
			return nvml.PciInfo{Domain: 0, Bus: 0x2b, Device: 1}, nvml.SUCCESS
		},
		GetUtilizationRatesFunc: func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 97, Memory: 60}, nvml.SUCCESS },
		GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
			return nvml.Memory{Total: 12 << 30, Free: 2 << 30, Used: 10 << 30}, nvml.SUCCESS
		},
		GetTemperatureFunc:        func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 71, nvml.SUCCESS },
		GetPowerUsageFunc:         func() (uint32, nvml.Return) { return 168_500, nvml.SUCCESS },
		GetEnforcedPowerLimitFunc: func() (uint32, nvml.Return) { return 170_000, nvml.SUCCESS },
		GetCurrentClocksThrottleReasonsFunc: func() (uint64, nvml.Return) {
			return nvml.ClocksEventReasonSwPowerCap | nvml.ClocksThrottleReasonHwThermalSlowdown | nvml.ClocksEventReasonGpuIdle, nvml.SUCCESS
		},
	}
}

func TestReadsCards(t *testing.T) {
	silent := &mock.Device{ // a card that tells its name only
		GetNameFunc:                         func() (string, nvml.Return) { return "old", nvml.SUCCESS },
		GetPciInfoFunc:                      func() (nvml.PciInfo, nvml.Return) { return nvml.PciInfo{}, nvml.ERROR_NOT_SUPPORTED },
		GetUtilizationRatesFunc:             func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 1}, nvml.ERROR_NOT_SUPPORTED },
		GetMemoryInfoFunc:                   func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 1}, nvml.ERROR_NOT_SUPPORTED },
		GetTemperatureFunc:                  func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 1, nvml.ERROR_NOT_SUPPORTED },
		GetPowerUsageFunc:                   func() (uint32, nvml.Return) { return 1, nvml.ERROR_NOT_SUPPORTED },
		GetEnforcedPowerLimitFunc:           func() (uint32, nvml.Return) { return 1, nvml.ERROR_NOT_SUPPORTED },
		GetCurrentClocksThrottleReasonsFunc: func() (uint64, nvml.Return) { return 8, nvml.ERROR_NOT_SUPPORTED },
	}
	closed := false
	s, err := start(&mock.Interface{
		InitFunc:           func() nvml.Return { return nvml.SUCCESS },
		ShutdownFunc:       func() nvml.Return { closed = true; return nvml.SUCCESS },
		DeviceGetCountFunc: func() (int, nvml.Return) { return 2, nvml.SUCCESS },
		DeviceGetHandleByIndexFunc: func(i int) (nvml.Device, nvml.Return) {
			return []nvml.Device{card(), silent}[i], nvml.SUCCESS
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	want := []Reading{
		{
			Name: "NVIDIA GeForce RTX 3060", PCI: "0000:2b:01.0", Utilisation: 0.97, Used: 10 << 30, Total: 12 << 30,
			Temperature: 71, Power: 168.5, PowerLimit: 170, Throttled: []string{"power limit", "heat"},
		},
		{Name: "old"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := s.Close(); err != nil || !closed {
		t.Errorf("closed %v, %v", closed, err)
	}
}

func TestFailuresOfNVML(t *testing.T) {
	lib := &mock.Interface{
		InitFunc:        func() nvml.Return { return nvml.ERROR_DRIVER_NOT_LOADED },
		ErrorStringFunc: func(r nvml.Return) string { return "said by NVML" },
	}
	if _, err := start(lib); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "said by NVML") {
		t.Errorf("no driver: %v", err)
	}
	lib.InitFunc = func() nvml.Return { return nvml.SUCCESS }
	lib.DeviceGetCountFunc = func() (int, nvml.Return) { return 1, nvml.SUCCESS }
	lib.DeviceGetHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_GPU_IS_LOST }
	s, err := start(lib)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(); err == nil || !strings.Contains(err.Error(), "look at card 0: said by NVML") {
		t.Errorf("a lost card: %v", err)
	}
}

// This machine may have cards or none; either way Open says so.
func TestOpen(t *testing.T) {
	s, err := Open()
	if err != nil {
		if !errors.Is(err, ErrNone) {
			t.Error(err)
		}
		return
	}
	if _, err := s.Read(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
