package computetest

import (
	"math"
	"strings"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu"
)

// off is a device whose products and attention are a little off, or leave their last value as it was.
type off struct {
	compute.Device
	keeps bool
}

func (o off) spoil(b compute.Buffer) {
	if o.keeps {
		b.Host[b.Len()-1] = float32(math.NaN())
		return
	}
	o.Scale(b, 1.001)
}

func (o off) MatMul(op compute.MatMul) {
	o.Device.MatMul(op)
	o.spoil(op.C)
}

func (o off) Attention(op compute.Attention) {
	o.Device.Attention(op)
	o.spoil(op.Out)
}

// TestLargeFinds runs the large cases, at a size that a test can wait for, on a device that is right and on two that are not.
func TestLargeFinds(t *testing.T) {
	sizes := compute.Sizes{Rows: 96, Width: 64, Vocab: 300, Positions: 48, Head: 16}
	for _, p := range []compute.Precision{compute.FP32, compute.BF16} {
		for _, c := range Large(p, sizes) {
			for name, wrap := range map[string]func(compute.Device) compute.Device{
				"right":         func(d compute.Device) compute.Device { return d },
				"a little off":  func(d compute.Device) compute.Device { return off{d, false} },
				"one forgotten": func(d compute.Device) compute.Device { return off{d, true} },
			} {
				d, err := cpu.New(cpu.Options{Threads: 1, Precision: p})
				if err != nil {
					t.Fatal(err)
				}
				err = c.Check(wrap(d))
				spoilt := name != "right" && !strings.HasPrefix(c.Name, "cross-entropy")
				if (err != nil) != spoilt {
					t.Errorf("%s %s, %s: %v", p, c.Name, name, err)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}
