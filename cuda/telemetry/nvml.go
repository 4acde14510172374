//go:build linux && cgo && !nocuda

package telemetry

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

func open() (Source, error) { return start(nvml.New()) }

// library is NVML.
type library struct{ nvml.Interface }

func start(lib nvml.Interface) (Source, error) {
	if r := lib.Init(); r != nvml.SUCCESS {
		return nil, fmt.Errorf("%w: NVML does not start: %s", ErrNone, lib.ErrorString(r))
	}
	return library{lib}, nil
}

func (l library) Close() error {
	if r := l.Shutdown(); r != nvml.SUCCESS {
		return fmt.Errorf("stop NVML: %s", l.ErrorString(r))
	}
	return nil
}

func (l library) Read() ([]Reading, error) {
	n, r := l.DeviceGetCount()
	if r != nvml.SUCCESS {
		return nil, fmt.Errorf("count cards: %s", l.ErrorString(r))
	}
	readings := make([]Reading, n)
	for i := range readings {
		card, r := l.DeviceGetHandleByIndex(i)
		if r != nvml.SUCCESS {
			return nil, fmt.Errorf("look at card %d: %s", i, l.ErrorString(r))
		}
		readings[i] = read(card)
	}
	return readings, nil
}

// read leaves out what a card does not tell: few consumer cards tell everything.
func read(card nvml.Device) Reading {
	var out Reading
	if name, r := card.GetName(); r == nvml.SUCCESS {
		out.Name = name
	}
	if p, r := card.GetPciInfo(); r == nvml.SUCCESS {
		out.PCI = fmt.Sprintf("%04x:%02x:%02x.0", p.Domain, p.Bus, p.Device)
	}
	if u, r := card.GetUtilizationRates(); r == nvml.SUCCESS {
		out.Utilisation = float64(u.Gpu) / 100
	}
	if m, r := card.GetMemoryInfo(); r == nvml.SUCCESS {
		out.Used, out.Total = m.Used, m.Total
	}
	if t, r := card.GetTemperature(nvml.TEMPERATURE_GPU); r == nvml.SUCCESS {
		out.Temperature = float64(t)
	}
	if p, r := card.GetPowerUsage(); r == nvml.SUCCESS {
		out.Power = float64(p) / 1000
	}
	if p, r := card.GetEnforcedPowerLimit(); r == nvml.SUCCESS {
		out.PowerLimit = float64(p) / 1000
	}
	if reasons, r := card.GetCurrentClocksThrottleReasons(); r == nvml.SUCCESS {
		out.Throttled = throttled(reasons)
	}
	return out
}

// throttled puts NVML's reasons into words.
func throttled(reasons uint64) []string {
	var out []string
	for _, r := range []struct {
		bits uint64
		text string
	}{
		{nvml.ClocksEventReasonSwPowerCap, "power limit"},
		{nvml.ClocksEventReasonSwThermalSlowdown | nvml.ClocksThrottleReasonHwThermalSlowdown, "heat"},
		{nvml.ClocksThrottleReasonHwPowerBrakeSlowdown, "power supply"},
		{nvml.ClocksThrottleReasonHwSlowdown, "hardware slowdown"},
		{nvml.ClocksEventReasonApplicationsClocksSetting | nvml.ClocksEventReasonDisplayClockSetting, "clock settings"},
	} {
		if reasons&r.bits != 0 {
			out = append(out, r.text)
		}
	}
	return out
}
