package peer

import (
	"math"
	"os"

	"dunlin/internal/invariants"
)

// faultVariable names a fault in the environment, in builds that check
// invariants only: a test of the whole proves with it that the fault is found.
const faultVariable = "DUNLIN_FAULT"

// flipBit flips one high bit of one weight in this peer's replica when training
// is over, and again in what a last commit puts in its place.
const flipBit = "flip-replica-bit"

// sabotage carries out the fault, once for each state of the fragment.
func (p *Peer) sabotage() {
	if !invariants.Enabled || os.Getenv(faultVariable) != flipBit {
		return
	}
	if _, weights := p.replica.Weights(0); p.sabotaged != &weights[0] {
		p.sabotaged = &weights[0]
		weights[0] = math.Float32frombits(math.Float32bits(weights[0]) ^ 1<<22)
	}
}
