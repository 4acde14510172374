package optimizer

import (
	"fmt"

	"dunlin/compute"
)

// State is what an optimizer must keep to go on as if never stopped.
type State struct {
	Steps   int              // made so far
	Tensors []compute.Tensor // named after the kind and the parameter: "adamw.m.<name>"
}

// Save implements Inner.
func (c *core) Save() (State, error) {
	s := State{Steps: c.steps}
	for _, k := range c.kept {
		t, err := compute.View(c.device, k.name, k.shape, k.buffer)
		if err != nil {
			return State{}, fmt.Errorf("save optimizer state: %w", err)
		}
		s.Tensors = append(s.Tensors, t)
	}
	return s, nil
}

// Load implements Inner.
func (c *core) Load(s State) error {
	byName, err := c.check(s)
	if err != nil {
		return err
	}
	for _, k := range c.kept {
		c.device.Upload(k.buffer, byName[k.name].Data)
	}
	c.steps = s.Steps
	return nil
}

// check refuses a state that does not fit, before anything of it is taken.
func (c *core) check(s State) (map[string]compute.Tensor, error) {
	if s.Steps < 0 {
		return nil, fmt.Errorf("load optimizer state: %w: %d steps", ErrState, s.Steps)
	}
	byName := make(map[string]compute.Tensor, len(s.Tensors))
	for _, t := range s.Tensors {
		if _, twice := byName[t.Name]; twice {
			return nil, fmt.Errorf("load optimizer state: %w: %s is there twice", ErrState, t.Name)
		}
		byName[t.Name] = t
	}
	for _, k := range c.kept {
		if n := len(byName[k.name].Data); n != k.buffer.Len() {
			return nil, fmt.Errorf("load optimizer state: %w: %s has %d values, want %d", ErrState, k.name, n, k.buffer.Len())
		}
	}
	return byName, nil
}
