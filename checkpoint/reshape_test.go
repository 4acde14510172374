package checkpoint

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dunlin/compute"
)

// numbered is a tensor whose values are all different.
func numbered(name string, shape ...int) compute.Tensor {
	t, err := compute.NewTensor(name, shape...)
	if err != nil {
		panic(err)
	}
	for i := range t.Data {
		t.Data[i] = float32(i) + 0.25
	}
	return t
}

func TestTranspose(t *testing.T) {
	for _, shape := range [][]int{{1, 1}, {1, 5}, {4, 1}, {3, 3}, {7, 4}} {
		in := numbered("w", shape...)
		kept := slices.Clone(in.Data)
		out, err := transpose(in)
		if err != nil || out.Shape[0] != shape[1] || out.Shape[1] != shape[0] || !slices.Equal(in.Data, kept) {
			t.Fatalf("%v: %v, %v", shape, out, err)
		}
		for r := range shape[0] {
			for c := range shape[1] {
				if out.Data[c*shape[0]+r] != in.Data[r*shape[1]+c] {
					t.Fatalf("%v: row %d column %d", shape, r, c)
				}
			}
		}
	}
	if _, err := transpose(numbered("w", 3)); err == nil {
		t.Error("a vector was transposed")
	}
}

// TestCutAndJoin cuts tensors at random places along each axis, checks every
// value against its place, and puts them together again.
func TestCutAndJoin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, shape := range [][]int{{1}, {6}, {5, 1}, {1, 5}, {6, 7}, {2, 3, 4}} {
		for axis := range shape {
			in := numbered("w", shape...)
			var parts []compute.Tensor
			for from := 0; from < shape[axis]; {
				to := from + 1 + rng.IntN(shape[axis]-from)
				part, err := cut(in, axis, from, to)
				if err != nil {
					t.Fatalf("%v axis %d [%d,%d): %v", shape, axis, from, to, err)
				}
				if err := holdsPart(in, part, axis, from); err != nil {
					t.Fatal(err)
				}
				parts = append(parts, part)
				from = to
			}
			out, err := join("w", axis, parts...)
			if err != nil || !sameTensor(in, out) {
				t.Fatalf("%v axis %d in %d parts: %v %v", shape, axis, len(parts), out, err)
			}
		}
	}
	for _, bad := range [][3]int{{1, 0, 1}, {-1, 0, 1}, {0, 2, 2}, {0, 1, 4}, {0, -1, 2}} {
		if _, err := cut(numbered("w", 3), bad[0], bad[1], bad[2]); err == nil || !strings.Contains(err.Error(), "no such part") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// holdsPart looks each value of a part up in the whole.
func holdsPart(whole, part compute.Tensor, axis, from int) error {
	place := make([]int, len(part.Shape))
	for i, got := range part.Data {
		for k, rest := len(place)-1, i; k >= 0; k-- {
			place[k], rest = rest%part.Shape[k], rest/part.Shape[k]
		}
		at := 0
		for k, p := range place {
			if k == axis {
				p += from
			}
			at = at*whole.Shape[k] + p
		}
		if got != whole.Data[at] {
			return fmt.Errorf("part %v from %d of axis %d: value %d is %v, want %v", part.Shape, from, axis, i, got, whole.Data[at])
		}
	}
	return nil
}
