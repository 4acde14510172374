package main

import (
	"testing"

	"dunlin/status"
	"dunlin/wire"
)

// TestExpectedTraffic: what join foretells follows the machine's speed, its duty and its limits.
func TestExpectedTraffic(t *testing.T) {
	spec := &wire.RunSpec{
		Tensors: []wire.TensorSpec{{Shape: []uint64{1000, 1000}}}, Data: wire.DataSpec{Batch: 2}, Model: wire.ModelSpec{Context: 64},
		H: 30, Contribution: "ternary-20", Result: "int4",
	}
	at := func(speed float64, change func(*Config)) *status.Traffic {
		c := Config{Duty: 1}
		change(&c)
		return c.expects(spec, speed)
	}
	none := func(*Config) {}
	whole := at(500, none)
	if whole == nil || whole.Sends <= 0 || whole.Sends != whole.Receives {
		t.Fatalf("%+v", whole)
	}
	if half := at(500, func(c *Config) { c.Duty = 0.5 }); half.Sends != whole.Sends/2 || *half != *at(250, none) {
		t.Errorf("with half the time %+v of %+v", half, whole)
	}
	if limited := at(500, func(c *Config) { c.Up, c.DownPerDay = 8, 1000 }); *limited != (status.Traffic{Sends: 86400, Receives: 1000}) {
		t.Errorf("within limits %+v", limited)
	}
	if said := (status.Traffic{Sends: 2.1e9, Receives: 2.1e9}).String(); said != "sends up to 2.10 GB and receives as much in a day of training" {
		t.Error(said)
	}
	if said := (status.Traffic{Sends: 2.1e9, Receives: 5e8}).String(); said != "sends up to 2.10 GB and receives 500 MB in a day of training" {
		t.Error(said)
	}
	staged := *spec
	staged.Stages = []uint64{0, 1}
	if (&Config{Duty: 1}).expects(&staged, 500) != nil || at(0, none) != nil {
		t.Error("something is expected of a stage, or of a machine that makes nothing")
	}
}
