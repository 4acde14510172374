package optimizer

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"dunlin/compute"
)

// Inner is the optimizer of one worker's local steps over the flat parameters of
// a model. Stopped, saved and loaded it goes on bit for bit on the same device. A
// step allocates nothing. Not safe for concurrent use.
type Inner interface {
	// Step makes one step with the gradients that are in the gradient buffer, each
	// multiplied by gradScale first (1 divided by the number of accumulated
	// micro-batches; 1 for none), and returns the norm of the scaled gradient
	// before clipping. When that is not finite it changes nothing and returns
	// ErrNotFinite. The gradients stay as they are.
	Step(learningRate, weightDecay, gradScale float64) (norm float64, err error)
	// Squares says that the gradient is part of a larger one: the next Step
	// measures and clips by this sum of the squares of all its unscaled values.
	Squares(all float64)
	// Steps returns the number of steps made.
	Steps() int
	// Save returns the state, which lasts until the next Step or Load: where the
	// device shares the host's memory nothing is copied.
	Save() (State, error)
	// Load takes a saved state: the tensors in any order, each exactly once, others
	// ignored. An error wraps ErrState and leaves the optimizer as it was.
	Load(s State) error
	// Close gives the state's memory back to the device.
	Close()
}

// ErrNotFinite says that a gradient is infinite or not a number, so no step was made.
var ErrNotFinite = errors.New("gradient is not finite")

// ErrState is wrapped by every error about a saved state that does not fit.
var ErrState = errors.New("optimizer state does not fit")

// Config holds the constants of one kind of inner optimizer: AdamWConfig,
// MuonConfig, LAMBConfig, SGDConfig, RMSPropConfig or AdaGradConfig. Rates that
// change with progress are arguments of Step.
type Config interface {
	// Name is the kind's name in settings: "adamw".
	Name() string
	// Validate checks the ranges of the fields.
	Validate() error
	// RateFactor is how the learning rate follows a batch that is kappa times the
	// one it was chosen for.
	RateFactor(kappa float64) float64

	clipping() float64
	open(c *core) (Inner, error)
}

// Target is what an inner optimizer steps.
type Target struct {
	Device        compute.Device   // stays the caller's
	Params, Grads compute.Buffer   // flat, of one length
	Tensors       []compute.Tensor // their parts in order, from the first value to the last; only Name and Shape are read
	// Lookups names the matrices that are read by row or give the scores of tokens,
	// the embeddings and the head: their rows stand for tokens, so that Muon leaves
	// them to AdamW.
	Lookups []string
	// Lasting names matrices that do not decay, since values that get no gradient
	// are to stay as they are.
	Lasting []string
}

// New makes an optimizer with zero state.
func New(t Target, cfg Config) (Inner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &core{name: cfg.Name(), clip: cfg.clipping(), device: t.Device, params: t.Params, grads: t.Grads}
	at := 0
	for _, tensor := range t.Tensors {
		n, err := compute.Elements(tensor.Shape)
		if err != nil {
			return nil, fmt.Errorf("%s: tensor %q: %w", c.name, tensor.Name, err)
		}
		c.add(piece{
			name: tensor.Name, shape: tensor.Shape, from: at, to: at + n,
			decays: len(tensor.Shape) >= 2 && !slices.Contains(t.Lasting, tensor.Name), lookup: slices.Contains(t.Lookups, tensor.Name),
		})
		at += n
	}
	if t.Params.Len() != at || t.Grads.Len() != at {
		return nil, fmt.Errorf("%s: %d parameters and %d gradients, the tensors have %d values", c.name, t.Params.Len(), t.Grads.Len(), at)
	}
	inner, err := cfg.open(c)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return inner, nil
}

// core is what the kinds share: the buffers, which values decay, the norm and its
// clipping, saving and loading.
type core struct {
	name          string
	clip          float64
	squares       *float64 // of the whole gradient, for the next step; nil: this is all of it
	device        compute.Device
	params, grads compute.Buffer
	pieces        []piece
	spans         []span
	steps         int
	owned         []compute.Buffer // to free
	kept          []kept           // to save
}

// piece is one tensor's part of the flat buffers.
type piece struct {
	name           string
	shape          []int
	from, to       int
	decays, lookup bool
}

func (p piece) of(b compute.Buffer) compute.Buffer { return b.Slice(p.from, p.to) }

// span is neighbouring tensors that decay or do not. Tensors of two and more
// dimensions decay, the others (norms, biases) do not.
type span struct {
	from, to int
	decays   bool
}

// kept is one named tensor of the state.
type kept struct {
	name   string
	shape  []int
	buffer compute.Buffer
}

func (c *core) add(p piece) {
	c.pieces = append(c.pieces, p)
	if last := len(c.spans) - 1; last >= 0 && c.spans[last].decays == p.decays {
		c.spans[last].to = p.to
		return
	}
	c.spans = append(c.spans, span{p.from, p.to, p.decays})
}

// alloc returns n zeroed values, which Close frees.
func (c *core) alloc(n int) (compute.Buffer, error) {
	b, err := c.device.Alloc(n)
	if err == nil {
		c.owned = append(c.owned, b)
	}
	return b, err
}

// keep lets Save keep all of a flat buffer, tensor by tensor.
func (c *core) keep(prefix string, flat compute.Buffer) {
	for _, p := range c.pieces {
		c.kept = append(c.kept, kept{prefix + p.name, p.shape, p.of(flat)})
	}
}

// moment returns a zeroed buffer of every parameter's size that Save keeps.
func (c *core) moment(prefix string) (compute.Buffer, error) {
	b, err := c.alloc(c.params.Len())
	if err != nil {
		return b, fmt.Errorf("state: %w", err)
	}
	c.keep(prefix, b)
	return b, nil
}

// begin measures the scaled gradient and returns its norm and the scale with which
// it is to be used, clipping by the global norm included. It counts a step.
func (c *core) begin(gradScale float64) (norm, scale float64, err error) {
	squares := c.squares
	if c.squares = nil; squares == nil {
		own := c.device.SumSquares(c.grads)
		squares = &own
	}
	norm = math.Sqrt(*squares) * math.Abs(gradScale)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm, 0, fmt.Errorf("%s step %d: norm %g: %w", c.name, c.steps+1, norm, ErrNotFinite)
	}
	if c.clip > 0 {
		gradScale *= math.Min(1, c.clip/(norm+1e-6)) // PyTorch's clip_grad_norm_
	}
	c.steps++
	return norm, gradScale, nil
}

// descend subtracts rate·update from the parameters after decay·p from those that
// decay.
func (c *core) descend(decay, rate float64, update compute.Buffer) {
	for _, s := range c.spans {
		keep := 1.0
		if s.decays {
			keep -= decay
		}
		p := c.params.Slice(s.from, s.to)
		c.device.Combine(p, float32(keep), p, float32(-rate), update.Slice(s.from, s.to))
	}
}

// decayed returns the ranges of the values that decay.
func (c *core) decayed() []compute.Range {
	var ranges []compute.Range
	for _, s := range c.spans {
		if s.decays {
			ranges = append(ranges, compute.Range{From: s.from, To: s.to})
		}
	}
	return ranges
}

// Squares implements Inner.
func (c *core) Squares(all float64) { c.squares = &all }

// Steps implements Inner.
func (c *core) Steps() int { return c.steps }

// Close implements Inner.
func (c *core) Close() {
	for _, b := range c.owned {
		c.device.Free(b)
	}
	c.owned = nil
}

// checkClip refuses what no norm can be clipped to.
func checkClip(name string, clip float64) error {
	if !(clip >= 0) || math.IsInf(clip, 0) {
		return fmt.Errorf("%s clip %g: allowed are finite values above 0, or 0 for none", name, clip)
	}
	return nil
}

// checkDecay refuses what no running mean can decay by.
func checkDecay(name, what string, decay float64) error {
	if !(decay >= 0 && decay < 1) {
		return fmt.Errorf("%s %s %g: allowed are 0 to less than 1", name, what, decay)
	}
	return nil
}

// checkEps refuses what cannot keep a quotient finite.
func checkEps(name string, eps float64) error {
	if !(eps > 0) || math.IsInf(eps, 0) {
		return fmt.Errorf("%s eps %g: allowed are finite values above 0", name, eps)
	}
	return nil
}
