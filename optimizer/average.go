package optimizer

import (
	"fmt"
	"math"
	"strings"

	"dunlin/compute"
)

// AverageConfig says how an average of the weights forgets.
type AverageConfig struct {
	Decay   float64 // share that is left of the past after Windows, above 0 and less than 1
	Windows int     // training windows of the batch that Decay was chosen for, at least 1
}

// Validate checks the ranges of the fields.
func (c AverageConfig) Validate() error {
	switch {
	case !(c.Decay > 0 && c.Decay < 1):
		return fmt.Errorf("average decay %g: allowed are values above 0 and less than 1", c.Decay)
	case c.Windows < 1:
		return fmt.Errorf("average over a batch of %d windows: at least 1 is needed", c.Windows)
	}
	return nil
}

// Average is an exponential moving average of the weights over the data that they
// were trained on: a step on kappa times the reference batch forgets with
// Decay^kappa (Busbridge et al., arXiv 2307.13813, definition 1.2), so that the
// average means the same for any batch, also one that changes. It is the exact
// weighted mean of the weights after every step so far: the zero start that an
// ordinary one has is corrected as Adam corrects its moments. Not safe for
// concurrent use.
type Average struct {
	cfg            AverageConfig
	device         compute.Device
	params, values compute.Buffer
	scratch        compute.Buffer // for Swap
	pieces         []piece
	windows        uint64 // averaged over so far
}

// swapValues is how many values change places at a time.
const swapValues = 1 << 16

// NewAverage makes an average of nothing of t's parameters.
func NewAverage(t Target, cfg AverageConfig) (*Average, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Average{cfg: cfg, device: t.Device, params: t.Params}
	at := 0
	for _, tensor := range t.Tensors {
		n, err := compute.Elements(tensor.Shape)
		if err != nil {
			return nil, fmt.Errorf("average: tensor %q: %w", tensor.Name, err)
		}
		a.pieces = append(a.pieces, piece{name: averagePrefix + tensor.Name, shape: tensor.Shape, from: at, to: at + n})
		at += n
	}
	if t.Params.Len() != at {
		return nil, fmt.Errorf("average: %d parameters, the tensors have %d values", t.Params.Len(), at)
	}
	var err error
	if a.values, err = t.Device.Alloc(at); err != nil {
		return nil, fmt.Errorf("average: %w", err)
	}
	if a.scratch, err = t.Device.Alloc(min(at, swapValues)); err != nil {
		t.Device.Free(a.values)
		return nil, fmt.Errorf("average: %w", err)
	}
	return a, nil
}

// Add takes the weights in that a step on so many windows has left.
func (a *Average) Add(windows int) {
	if windows < 1 {
		return
	}
	a.windows += uint64(windows)
	share := a.forgotten(uint64(windows)) / a.forgotten(a.windows)
	a.device.Combine(a.values, float32(1-share), a.values, float32(share), a.params)
}

// forgotten is 1 − Decay^(windows ÷ reference).
func (a *Average) forgotten(windows uint64) float64 {
	return -math.Expm1(math.Log(a.cfg.Decay) * float64(windows) / float64(a.cfg.Windows))
}

// Windows returns the number of windows averaged over.
func (a *Average) Windows() uint64 { return a.windows }

// Swap exchanges weights and average, so that what reads the weights reads the
// average until the next Swap. No step may come between the two.
func (a *Average) Swap() {
	for from := 0; from < a.params.Len(); from += a.scratch.Len() {
		to := min(a.params.Len(), from+a.scratch.Len())
		p, v, s := a.params.Slice(from, to), a.values.Slice(from, to), a.scratch.Slice(0, to-from)
		a.device.Copy(s, p)
		a.device.Copy(p, v)
		a.device.Copy(v, s)
	}
}

// Close gives the memory back to the device.
func (a *Average) Close() {
	a.device.Free(a.values)
	a.device.Free(a.scratch)
	a.values, a.scratch = compute.Buffer{}, compute.Buffer{}
}

// averagePrefix begins the names of averaged tensors in a state.
const averagePrefix = "average."

// AverageState is what an average must keep to go on.
type AverageState struct {
	Windows uint64           // averaged over
	Tensors []compute.Tensor // "average.<name>"
}

// Save returns the state, which lasts until the next Add or Swap: where the device
// shares the host's memory nothing is copied.
func (a *Average) Save() (AverageState, error) {
	s := AverageState{Windows: a.windows}
	for _, p := range a.pieces {
		t, err := compute.View(a.device, p.name, p.shape, p.of(a.values))
		if err != nil {
			return AverageState{}, fmt.Errorf("save average: %w", err)
		}
		s.Tensors = append(s.Tensors, t)
	}
	return s, nil
}

// Load takes a saved state: the tensors in any order, others ignored. An error wraps
// ErrState and leaves the average as it was.
func (a *Average) Load(s AverageState) error {
	byName := make(map[string][]float32, len(s.Tensors))
	for _, t := range s.Tensors {
		byName[t.Name] = t.Data
	}
	for _, p := range a.pieces {
		if n := len(byName[p.name]); n != p.to-p.from {
			return fmt.Errorf("load average: %w: %s has %d values, want %d", ErrState, p.name, n, p.to-p.from)
		}
	}
	for _, p := range a.pieces {
		a.device.Upload(p.of(a.values), byName[p.name])
	}
	a.windows = s.Windows
	return nil
}

// Averaged returns the averaged weights among saved tensors under the parameters'
// own names, nothing when there are none.
func Averaged(tensors []compute.Tensor) []compute.Tensor {
	var found []compute.Tensor
	for _, t := range tensors {
		if name, ok := strings.CutPrefix(t.Name, averagePrefix); ok {
			found = append(found, compute.Tensor{Name: name, Shape: t.Shape, Data: t.Data})
		}
	}
	return found
}
