package checkpoint

import (
	"fmt"
	"slices"

	gorgonia "gorgonia.org/tensor"

	"dunlin/compute"
)

// dense views t's values as a tensor of gorgonia.
func dense(t compute.Tensor) *gorgonia.Dense {
	return gorgonia.New(gorgonia.WithShape(t.Shape...), gorgonia.WithBacking(t.Data))
}

// transpose returns a copy of a tensor of rank 2 with rows and columns exchanged.
func transpose(t compute.Tensor) (compute.Tensor, error) {
	if len(t.Shape) != 2 {
		return t, fmt.Errorf("transpose tensor %q of shape %v: rank 2 is needed", t.Name, t.Shape)
	}
	d := dense(compute.Tensor{Shape: t.Shape, Data: slices.Clone(t.Data)})
	err := d.T()
	if err == nil {
		err = d.Transpose()
	}
	if err != nil {
		return t, fmt.Errorf("transpose tensor %q: %w", t.Name, err)
	}
	return compute.Tensor{Name: t.Name, Shape: []int{t.Shape[1], t.Shape[0]}, Data: d.Data().([]float32)}, nil
}

// cut returns a copy of the part [from, to) of t along an axis.
func cut(t compute.Tensor, axis, from, to int) (compute.Tensor, error) {
	if axis < 0 || axis >= len(t.Shape) || from < 0 || from >= to || to > t.Shape[axis] {
		return t, fmt.Errorf("cut tensor %q of shape %v at [%d, %d) of axis %d: it has no such part", t.Name, t.Shape, from, to, axis)
	}
	shape := slices.Clone(t.Shape)
	shape[axis] = to - from
	part := compute.Tensor{Name: t.Name, Shape: shape}
	ranges := make([]gorgonia.Slice, axis+1)
	ranges[axis] = gorgonia.S(from, to)
	view, err := dense(t).Slice(ranges...)
	if err != nil {
		return t, fmt.Errorf("cut tensor %q: %w", t.Name, err)
	}
	switch values := view.Materialize().Data().(type) {
	case []float32:
		part.Data = append([]float32(nil), values...)
	case float32: // what is left is one value
		part.Data = []float32{values}
	}
	return part, part.Validate()
}

// join puts parts behind one another along an axis; it undoes cut.
func join(name string, axis int, parts ...compute.Tensor) (compute.Tensor, error) {
	if len(parts) == 1 {
		return compute.Tensor{Name: name, Shape: parts[0].Shape, Data: parts[0].Data}, nil
	}
	rest := make([]*gorgonia.Dense, len(parts)-1)
	for i, p := range parts[1:] {
		rest[i] = dense(p)
	}
	whole, err := dense(parts[0]).Concat(axis, rest...)
	if err != nil {
		return compute.Tensor{}, fmt.Errorf("join %d parts of tensor %q: %w", len(parts), name, err)
	}
	t := compute.Tensor{Name: name, Shape: slices.Clone([]int(whole.Shape())), Data: whole.Data().([]float32)}
	return t, t.Validate()
}
