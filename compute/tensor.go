package compute

import "fmt"

// MaxElements bounds the values of one tensor: above it a shape is taken for
// damage, not for a model.
const MaxElements = 1 << 36

// Tensor is a named array on the host: len(Data) is the product of Shape, row
// major. A Tensor may view a part of a larger slice.
type Tensor struct {
	Name  string
	Shape []int
	Data  []float32
}

// Elements returns the product of shape's extents, each at least 1, or an error
// when an extent is not positive or the product passes MaxElements.
func Elements(shape []int) (int, error) {
	n := 1
	for _, extent := range shape {
		if extent < 1 {
			return 0, fmt.Errorf("shape %v: extent %d is not positive", shape, extent)
		}
		if n > MaxElements/extent {
			return 0, fmt.Errorf("shape %v: more than %d values", shape, MaxElements)
		}
		n *= extent
	}
	return n, nil
}

// NewTensor returns a tensor of zeros.
func NewTensor(name string, shape ...int) (Tensor, error) {
	n, err := Elements(shape)
	if err != nil {
		return Tensor{}, fmt.Errorf("tensor %q: %w", name, err)
	}
	return Tensor{Name: name, Shape: append([]int(nil), shape...), Data: make([]float32, n)}, nil
}

// Validate reports a shape that is impossible or does not match Data.
func (t Tensor) Validate() error {
	n, err := Elements(t.Shape)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	if n != len(t.Data) {
		return fmt.Errorf("tensor %q: shape %v needs %d values, has %d", t.Name, t.Shape, n, len(t.Data))
	}
	return nil
}

// View returns the values of b, a buffer of d. Where d shares the host's memory
// they are that memory and last until an operation writes there; elsewhere they
// are a copy.
func View(d Device, name string, shape []int, b Buffer) (Tensor, error) {
	t := Tensor{Name: name, Shape: shape, Data: b.Host}
	if b.Host == nil {
		t.Data = make([]float32, b.Len())
		if err := d.Download(t.Data, b); err != nil {
			return Tensor{}, fmt.Errorf("read %q from %s: %w", name, d.Name(), err)
		}
	}
	return t, t.Validate()
}
