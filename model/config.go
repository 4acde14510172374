package model

import (
	"errors"
	"fmt"

	"dunlin/compute"
)

// Family is a kind of decoder.
type Family uint8

// The families.
const (
	// GPT2 has learned positions, LayerNorm, GELU, biases, and a tied or separate head.
	GPT2 Family = iota
	// Llama has rotary positions, RMSNorm, SwiGLU, keys and values that may be
	// shared by heads, a tied or separate head, and no biases.
	Llama
)

// String returns the name in config.json and in a RunSpec.
func (f Family) String() string {
	switch f {
	case GPT2:
		return "gpt2"
	case Llama:
		return "llama"
	}
	return fmt.Sprintf("family %d", uint8(f))
}

// ParseFamily returns the family called name.
func ParseFamily(name string) (Family, error) {
	for _, f := range []Family{GPT2, Llama} {
		if name == f.String() {
			return f, nil
		}
	}
	return GPT2, fmt.Errorf("model family %q: gpt2 and llama are supported", name)
}

// Config is the shape of a model. The zero Family is GPT-2.
type Config struct {
	Family  Family
	Layers  int // blocks, 1 to 512
	Heads   int // attention heads, a divisor of Width
	Width   int // values of a position, 1 to 65,536
	Context int // positions of the longest window, 1 to 2²⁰
	Vocab   int // tokens, 2 to 2²⁴

	Untied bool // the output head has weights of its own, not the token embedding's

	// Subspace is how many values of a position the blocks move, the first ones of
	// the residual stream; 0: all. The others stay what the token embedding starts
	// with, a code of the token, so that between two parts only these pass
	// (Ramasinghe et al., arXiv 2506.01260; subspace.go). A head of its own is needed.
	Subspace int

	// What follows is Llama's; it is zero for GPT-2.

	KVHeads   int     // heads of keys and values, a divisor of Heads
	Hidden    int     // values between a block's SwiGLU and its last product, 1 to 2¹⁸
	RopeTheta float32 // base of the rotary angles, above 1, at most 10⁹
	NormEps   float32 // of the norms, 10⁻¹² to 0.1
}

// Limits of a Config: above them a file is taken for damage.
const (
	maxLayers     = 512
	maxWidth      = 1 << 16
	maxHidden     = 1 << 18
	maxContext    = 1 << 20
	maxVocab      = 1 << 24
	maxParameters = 1 << 36
)

// layerNormEps is GPT-2's, the only one that is supported there.
const layerNormEps = 1e-5

// Validate reports every field outside of its range.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("model "+format, args...)) }
	check := func(name string, value, low, high int) {
		if value < low || value > high {
			fault("%s %d: allowed are %d to %d", name, value, low, high)
		}
	}
	check("layers", c.Layers, 1, maxLayers)
	check("heads", c.Heads, 1, maxWidth)
	check("width", c.Width, 1, maxWidth)
	check("context", c.Context, 1, maxContext)
	check("vocabulary", c.Vocab, 2, maxVocab)
	if c.Heads > 0 && c.Width%c.Heads != 0 {
		fault("heads %d: must divide the width %d", c.Heads, c.Width)
	}
	switch {
	case c.Subspace == 0:
	case c.Subspace < 0 || c.Subspace >= c.Width || (c.Width-c.Subspace)%2 != 0:
		fault("subspace %d: allowed is less than the width %d, by an even number", c.Subspace, c.Width)
	case !c.Untied:
		fault("subspace %d with a head that is tied to the embedding: most of it would never be trained; give it a head of its own", c.Subspace)
	}
	switch c.Family {
	case GPT2:
		if c.KVHeads != 0 || c.Hidden != 0 || c.RopeTheta != 0 || c.NormEps != 0 {
			fault("with key heads %d, hidden %d, rope theta %v, norm eps %v: these are for the family llama, not gpt2",
				c.KVHeads, c.Hidden, c.RopeTheta, c.NormEps)
		}
	case Llama:
		check("key and value heads", c.KVHeads, 1, maxWidth)
		check("hidden width", c.Hidden, 1, maxHidden)
		if c.KVHeads > 0 && c.Heads%c.KVHeads != 0 {
			fault("key and value heads %d: must divide the heads %d", c.KVHeads, c.Heads)
		}
		if len(faults) == 0 && c.headSize()%2 != 0 {
			fault("heads of %d values: rotary positions need an even number", c.headSize())
		}
		if !(c.RopeTheta > 1 && c.RopeTheta <= 1e9) {
			fault("rope theta %v: allowed is above 1, at most 1e9", c.RopeTheta)
		}
		if !(c.NormEps >= 1e-12 && c.NormEps <= 0.1) {
			fault("norm eps %v: allowed are 1e-12 to 0.1", c.NormEps)
		}
	default:
		fault("%v: gpt2 and llama are supported", c.Family)
	}
	if len(faults) == 0 && c.Parameters() > maxParameters {
		fault("of %d parameters: at most %d are supported", c.Parameters(), maxParameters)
	}
	return errors.Join(faults...)
}

// Suits says why a device cannot compute this model, nil when it can.
func (c Config) Suits(dev compute.Device) error {
	if d, ok := dev.(compute.Bounded); ok && c.headSize() > d.MaxHead() {
		return fmt.Errorf("model with attention heads of %d values: %s takes at most %d; use --device cpu or more heads", c.headSize(), dev.Name(), d.MaxHead())
	}
	return nil
}

// headSize returns the values of an attention head.
func (c Config) headSize() int { return c.Width / c.Heads }

// qkvWidth returns the values of a position's queries, keys and values.
func (c Config) qkvWidth() int {
	if c.Family == Llama {
		return (c.Heads + 2*c.KVHeads) * c.headSize()
	}
	return 3 * c.Width
}

// blockProducts returns the weights of a block that inputs are multiplied with.
func (c Config) blockProducts() int {
	if c.Family == Llama {
		return c.Width*c.qkvWidth() + c.Width*c.Width + 3*c.Width*c.Hidden
	}
	return 12 * c.Width * c.Width
}

// Parameters returns the number of values of all parameters.
func (c Config) Parameters() int {
	n := 0
	if c.Untied {
		n = c.Vocab * c.Width
	}
	if c.Family == Llama {
		return n + c.Vocab*c.Width + c.Layers*(c.blockProducts()+2*c.Width) + c.Width
	}
	return n + (c.Vocab+c.Context+2)*c.Width + c.Layers*(c.blockProducts()+13*c.Width)
}

// FLOPPerToken returns the floating-point operations of training on one token
// at a window of T positions, forward and backward: 6 for every weight that the
// token's values are multiplied with (12·L·C² + C·V for GPT-2) and 6·L·T·C for
// causal attention.
func (c Config) FLOPPerToken(positions int) float64 {
	l, w := float64(c.Layers), float64(c.Width)
	return 6*(l*float64(c.blockProducts())+w*float64(c.Vocab)) + 6*l*float64(positions)*w
}

// String returns the shape for people: "gpt2, 4 layers, 4 heads, 128 wide, 128 tokens".
func (c Config) String() string {
	shape := fmt.Sprintf("%v, %d layers, %d heads, %d wide, %d tokens", c.Family, c.Layers, c.Heads, c.Width, c.Context)
	if c.Family == Llama {
		shape += fmt.Sprintf(", %d key heads, %d hidden, theta %v, eps %v", c.KVHeads, c.Hidden, c.RopeTheta, c.NormEps)
	}
	if c.Untied {
		shape += ", untied head"
	}
	if c.Subspace > 0 {
		shape += fmt.Sprintf(", subspace %d", c.Subspace)
	}
	return shape
}
