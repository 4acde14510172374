package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"dunlin/wire"
)

// Scenario is a whole run: who takes part, over which links, what goes wrong
// and when. Equal scenarios give equal runs, byte for byte.
type Scenario struct {
	Seed     uint64
	Workers  int  // at the start
	LeadWork bool // the coordinator trains, too
	Setup    Setup
	Links    Links
	Faults   []Fault       // in any order; over by Calm
	Calm     time.Duration // from here on every worker must make progress
	Busy     time.Duration // for at least so long after the calm; then the run ends and must drain
	Bug      Bug           // "" for none
	Record   bool          // keep a transcript
}

// Setup is what the run trains.
type Setup struct {
	Values     []int // of each fragment's one tensor
	SlabValues int
	H          uint64
	Batch      uint64 // windows in an inner step
	Checkpoint uint64 // commits between two
	Rules      Rules
	StepTime   []time.Duration // of workers in turn
	Hiccup     Hiccup
	Deadlines  wire.DeadlineSpec
	Drift      bool // clocks are wrong by up to an hour and run up to 2 % fast or slow
}

// Rules are what a row of the run spec's table fixes together (wire.Rows).
type Rules struct {
	Contribution, Result     string  // codecs
	Merge                    string  // "rebase", "reset", "lerp" or "eager"
	Overlap                  string  // "" or wire.OverlapRound
	Decay, OwnerDecay, Alpha float32 // R1's law is checked where Decay is 1
	OuterLR, Momentum        float32
}

// Hiccup makes a worker's machine busy with something else now and then.
type Hiccup struct {
	Peer  int
	Every uint64        // inner steps; 0: never
	For   time.Duration // that such a step takes longer
}

// Links describes every pair's connection at the start.
type Links struct {
	Latency [2]time.Duration // one way, least and most
	Upload  float64          // bytes a second of each peer
}

// Default returns a calm run of three workers.
func Default(seed uint64) Scenario {
	return Scenario{
		Seed: seed, Workers: 3,
		Setup: Setup{
			Values: []int{90, 40}, SlabValues: 32, H: 6, Batch: 2, Checkpoint: 4,
			Rules:     Rules{Contribution: "int8", Result: "int8", Merge: "rebase", Decay: 1, OuterLR: 0.7, Momentum: 0.9},
			StepTime:  []time.Duration{200 * time.Millisecond, 230 * time.Millisecond, 310 * time.Millisecond},
			Deadlines: wire.DeadlineSpec{ReadyMin: 1000, Stall: 2000, Attempt: 8000, Leave: 5000, Silence: 20000},
		},
		Links: Links{Latency: [2]time.Duration{5 * time.Millisecond, 60 * time.Millisecond}, Upload: 200e3},
		Calm:  10 * time.Second,
	}
}

// Validate says what of a scenario cannot be run.
func (s *Scenario) Validate() error {
	var errs []error
	if s.Workers < 0 || s.Workers > 1000 || (s.Workers == 0 && !s.LeadWork) {
		errs = append(errs, fmt.Errorf("%d workers: 1 to 1,000 are allowed", s.Workers))
	}
	if len(s.Setup.Values) == 0 || s.Setup.SlabValues < 1 || len(s.Setup.StepTime) == 0 {
		errs = append(errs, errors.New("fragments, slabs and step times are needed"))
	}
	if s.Links.Upload <= 0 || s.Links.Latency[0] < 0 || s.Links.Latency[1] < s.Links.Latency[0] {
		errs = append(errs, errors.New("links need an upload and latencies"))
	}
	if s.Calm <= 0 || s.Busy < 0 {
		errs = append(errs, fmt.Errorf("calm at %v for %v: after the start", s.Calm, s.Busy))
	}
	for _, f := range s.Faults {
		if f.At+f.For > s.Calm {
			errs = append(errs, fmt.Errorf("%s lasts longer than until %v", f, s.Calm))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("scenario: %w", err)
	}
	return nil
}

// keyOf returns the identity of peer i, 0 being the coordinator.
func keyOf(seed uint64, i int) ed25519.PrivateKey {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	binary.LittleEndian.PutUint64(b[8:], uint64(i))
	h := sha256.Sum256(b[:])
	return ed25519.NewKeyFromSeed(h[:])
}

// windowTokens is the context of the simulated model.
const windowTokens = 4

// runSpec describes the run of a scenario.
func (s *Scenario) runSpec() (*wire.RunSpec, error) {
	f := wire.FloatOf
	rules := &s.Setup.Rules
	lead := wire.PeerIDOf(keyOf(s.Seed, 0))
	shard := []wire.ShardSpec{{Hash: wire.HashLeaf([]byte("text")), Tokens: 1 << 20}}
	spec := &wire.RunSpec{
		Protocol: wire.Protocol, Name: "simulated", Seed: s.Seed,
		Model: wire.ModelSpec{Family: "gpt2", Layers: 1, Heads: 1, Width: 1, Context: windowTokens, Vocab: 256},
		Data:  wire.DataSpec{Tokenizer: "byte", Train: shard, HeldOut: shard, Windows: 1 << 30, Seed: s.Seed, Batch: s.Setup.Batch},
		Inner: wire.InnerSpec{LR: f(1e-3), Beta1: f(0.9), Beta2: f(0.95), Eps: f(1e-8), Clip: f(1)},
		Outer: wire.OuterSpec{LR: f(rules.OuterLR), Momentum: f(rules.Momentum)}, Fragments: uint64(len(s.Setup.Values)), H: s.Setup.H,
		Contribution: rules.Contribution, Result: rules.Result, Merge: rules.Merge,
		Decay: f(rules.Decay), OwnerDecay: f(rules.OwnerDecay), Alpha: f(rules.Alpha), Overlap: rules.Overlap, TokenBudget: 1 << 50,
		Deadlines: s.Setup.Deadlines, Checkpoint: s.Setup.Checkpoint, Coordinators: []wire.PeerID{lead}, Organiser: lead,
	}
	for i, n := range s.Setup.Values {
		spec.Tensors = append(spec.Tensors, wire.TensorSpec{
			Name: fmt.Sprintf("t%d", i), Shape: []uint64{uint64(n)}, Init: wire.InitNormal, Scale: f(1e-5), Fragment: uint64(i),
		})
	}
	return spec, spec.Validate()
}
