package cuda

import (
	"errors"
	"fmt"

	"dunlin/compute"
	"dunlin/cuda/driver"
)

var (
	_ compute.Reopener = (*Device)(nil)
	_ compute.Meter    = (*Device)(nil)
)

// known adds to a driver's error the kind that models and peers act on.
func known(err error) error {
	switch {
	case errors.Is(err, driver.ErrDeviceLost):
		return fmt.Errorf("%w: %w", compute.ErrLost, err)
	case errors.Is(err, driver.ErrOutOfMemory):
		return fmt.Errorf("%w: %w", compute.ErrMemory, err)
	}
	return err
}

// Reopen implements compute.Reopener.
func (d *Device) Reopen() error {
	if d.options.Reopen == nil {
		return fmt.Errorf("open %s again: it was opened for once", d.info.Name)
	}
	if d.context != nil {
		_ = d.context.Close() // what killed the card is known
		d.context = nil
	}
	context, err := d.options.Reopen()
	if err != nil {
		return fmt.Errorf("open %s again: %w", d.info.Name, err)
	}
	again, err := New(context, d.options)
	if err != nil {
		return err
	}
	launches := d.launches
	*d = *again
	d.launches += launches
	return nil
}

// FreeMemory implements compute.Meter. What came back and waits for requests of its size counts: it makes room for others
// when the card is full.
func (d *Device) FreeMemory() (int64, error) {
	if d.context == nil {
		return 0, fmt.Errorf("memory of %s: it is closed", d.info.Name)
	}
	free, _, err := d.context.Memory()
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", d.info.Name, known(err))
	}
	return int64(free) + d.memory.idle(), nil
}
