package replica

import (
	"errors"
	"fmt"
	"math"

	"dunlin/compress"
	"dunlin/compute"
	"dunlin/optimizer"
	"dunlin/wire"
)

// ErrArithmetic says that this process does not compute the replicated path as the
// protocol defines it, so it must not contribute.
var ErrArithmetic = errors.New("this machine computes floating point differently from the run")

// selfTestHash is the state hash that SelfTest must reach.
const selfTestHash = "3c73e0225fc358c0ac4fd887eb63ff67423e03a2dec07420c64f388e2e07b4f3"

// SelfTest runs initialisation, decoding, two outer steps and the hash over a fixed
// vector with denormal numbers, zeros of both signs and large values, and compares the
// hash with the one all machines get (protocol, R9). A peer calls it at start and after
// loading any foreign library: such libraries have been seen to switch denormals off for
// the whole thread. It takes well under a millisecond; the error wraps ErrArithmetic.
func SelfTest() error {
	weights, momentum, gradient := selfTestVector()
	got, err := selfTest(weights, momentum, gradient)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArithmetic, err)
	}
	if got.String() != selfTestHash {
		return fmt.Errorf("%w: hash %s, want %s", ErrArithmetic, got, selfTestHash)
	}
	return nil
}

// selfTestVector returns the input, the same on every machine.
func selfTestVector() (weights, momentum, gradient []float32) {
	const n = 2048
	weights, momentum, gradient = make([]float32, n), make([]float32, n), make([]float32, n)
	compute.Init(weights, 1, "selftest.weights", 0x1p-18)
	compute.Init(momentum, 2, "selftest.momentum", 0x1p-26)
	compute.Init(gradient, 3, "selftest.gradient", 0x1p-24)
	for i := range n {
		switch i / 256 {
		case 1: // denormal everywhere: the products of the step fall below 2^-126
			weights[i] = math.Float32frombits(uint32(i) * 0x1234)
			momentum[i] = -math.Float32frombits(uint32(i) * 0x777)
			gradient[i] = float32(i%3-1) * 0x1p-126
		case 2: // the smallest scale that is not zero
			gradient[i] = float32(i%255-127) * 0x1p-126
		case 3: // zeros of both signs
			weights[i] = float32(math.Copysign(0, float64(i%2)-0.5))
			momentum[i], gradient[i] = 0, 0
		case 4: // near the upper end
			weights[i], gradient[i] = 0x1p120, float32(i%17-8)*0x1p118
		}
	}
	return weights, momentum, gradient
}

// selfTest makes two steps in place and hashes the frame and both states.
func selfTest(weights, momentum, gradient []float32) (wire.Hash, error) {
	codec := compress.Int8{}
	frame, err := codec.Encode(nil, gradient)
	if err != nil {
		return wire.Hash{}, err
	}
	outer := optimizer.Outer{LearningRate: 0.7, Momentum: 0.9}
	leaves := []wire.Hash{wire.HashLeaf(frame)}
	var h slabHasher
	for range 2 {
		if err := codec.Decode(gradient, frame); err != nil {
			return wire.Hash{}, err
		}
		if !outer.Step(weights, momentum, weights, momentum, gradient) {
			return wire.Hash{}, errors.New("a weight is not finite")
		}
		state := slabState{weights, momentum}
		leaf := h.leaf(state)
		if pairs {
			if a, b := h.pair([2]slabState{state, state}); a != leaf || b != leaf {
				return wire.Hash{}, errors.New("two slabs hashed at once have other hashes than alone")
			}
		}
		leaves = append(leaves, leaf)
	}
	return wire.MerkleRoot(leaves), nil
}
