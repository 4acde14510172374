package keeper

import (
	"math"
	"os"

	"dunlin/internal/invariants"
)

// faultVariable names a fault in the environment, in builds that check
// invariants only: a test of the whole proves with it that the fault is found.
const faultVariable = "DUNLIN_FAULT"

// flipBit flips one high bit of one weight in this peer's replica when training
// is over, and again in what a last commit puts in its place, before it is hashed.
const flipBit = "flip-replica-bit"

// sabotage carries out the fault.
func sabotage(weights []float32) {
	if invariants.Enabled && os.Getenv(faultVariable) == flipBit {
		weights[0] = math.Float32frombits(math.Float32bits(weights[0]) ^ 1<<22)
	}
}
