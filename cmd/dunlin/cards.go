package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dunlin/cuda/driver"
	"dunlin/cuda/telemetry"
	"dunlin/status"
	"dunlin/training"
)

// cardLimits lists what a volunteer lets the GPUs reach.
func (c *Config) cardLimits() []option {
	return []option{
		orZero(&c.Cards.Temperature, "gpu-max-temp", 40, 110, "°C of a GPU above which training slows down, before its fan speeds up; 0 is no limit"),
		orZero(&c.Cards.Power, "gpu-max-power", 20, 10_000, "watts that a GPU may take on the mean before training slows down; 0 is no limit"),
	}
}

// orZero is a real number from low to high, or 0.
func orZero(to *float64, key string, low, high float64, usage string) option {
	o := number(to, key, 0, 0, high, usage)
	o.allowed = fmt.Sprintf("0, or %v to %v", low, high)
	set := o.set
	o.set = func(text string) error {
		if err := set(text); err != nil {
			return err
		}
		if *to != 0 && *to < low {
			return errors.New("out of range")
		}
		return nil
	}
	return o
}

// watch starts to read the cards that train, and returns what ends that. reading is nil on the CPU, and without telemetry:
// untold then says why.
func watch(devices ...*device) (reading func() ([]status.Card, error), end func() error, untold error) {
	end = func() error { return nil }
	var used []driver.Info
	for _, d := range devices {
		if d.card != nil {
			used = append(used, *d.card)
		}
	}
	if len(used) == 0 {
		return nil, end, nil
	}
	source, untold := telemetry.Open()
	if untold != nil {
		return nil, end, untold
	}
	return func() ([]status.Card, error) { return readCards(source, used) }, source.Close, nil
}

// unkept says that a limit was set which cannot be kept without telemetry, or nil.
func (c *Config) unkept(untold error) error {
	if untold == nil || c.Cards == (training.CardLimits{}) {
		return nil
	}
	return fmt.Errorf("gpu-max-temp and gpu-max-power cannot be kept: %w; leave them out to train without", untold)
}

// readCards looks at the cards in use.
func readCards(source telemetry.Source, used []driver.Info) ([]status.Card, error) {
	all, err := source.Read()
	if err != nil {
		return nil, err
	}
	var out []status.Card
	for _, r := range all {
		if slices.ContainsFunc(used, func(i driver.Info) bool { return strings.EqualFold(i.PCI, r.PCI) }) {
			out = append(out, status.Card{
				Name: r.Name, Utilisation: r.Utilisation, Used: r.Used, Total: r.Total, Temperature: r.Temperature,
				Power: r.Power, PowerLimit: r.PowerLimit, Throttled: r.Throttled,
			})
		}
	}
	return out, nil
}
