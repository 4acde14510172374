package replica_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"dunlin/compress"
	"dunlin/compute"
	"dunlin/replica"
	"dunlin/wire"
)

// tinySpec is a run of two fragments with edge tiles, joined vectors and several slabs.
func tinySpec() *wire.RunSpec {
	tensor := func(name string, fragment uint64, init wire.InitKind, shape ...uint64) wire.TensorSpec {
		t := wire.TensorSpec{Name: name, Shape: shape, Init: init, Fragment: fragment}
		if init == wire.InitNormal {
			t.Scale = wire.FloatOf(compute.InitScale(0.05))
		}
		return t
	}
	return &wire.RunSpec{
		Protocol: wire.Protocol, Name: "tiny", Seed: 42,
		Model: wire.ModelSpec{Family: "gpt2", Layers: 2, Heads: 2, Width: 70, Context: 8, Vocab: 130},
		Tensors: []wire.TensorSpec{
			tensor("wte", 0, wire.InitNormal, 130, 70),
			tensor("h.0.gain", 0, wire.InitOne, 70),
			tensor("h.0.bias", 0, wire.InitZero, 70),
			tensor("h.0.weight", 0, wire.InitNormal, 70, 210),
			tensor("h.1.weight", 1, wire.InitNormal, 210, 70),
			tensor("h.1.gain", 1, wire.InitOne, 70),
		},
		Data: wire.DataSpec{
			Tokenizer: "byte", Windows: 100, Batch: 2,
			Train:   []wire.ShardSpec{{Hash: wire.HashLeaf([]byte("t")), Tokens: 900}},
			HeldOut: []wire.ShardSpec{{Hash: wire.HashLeaf([]byte("h")), Tokens: 90}},
		},
		Inner: wire.InnerSpec{
			LR: wire.FloatOf(2e-3), Beta1: wire.FloatOf(0.9), Beta2: wire.FloatOf(0.95), Eps: wire.FloatOf(1e-8),
			Decay: wire.FloatOf(0.1), Clip: wire.FloatOf(1), Warmup: wire.FloatOf(0.04), FinalRate: wire.FloatOf(0.1),
		},
		Outer:     wire.OuterSpec{LR: wire.FloatOf(0.7), Momentum: wire.FloatOf(0.9)},
		Fragments: 2, H: 24, Contribution: "int8", Result: "int8", Merge: "rebase", Decay: wire.FloatOf(1),
		TokenBudget: 1 << 20, Deadlines: wire.DefaultDeadlines(), Checkpoint: 8,
		Coordinators: []wire.PeerID{{1}}, Organiser: wire.PeerID{1},
	}
}

func TestTinySpecIsValid(t *testing.T) {
	if err := tinySpec().Validate(); err != nil {
		t.Fatal(err)
	}
}

func newReplica(t testing.TB, spec *wire.RunSpec) *replica.Replica {
	t.Helper()
	r, err := replica.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// outcome is a commit and the frames it names.
type outcome struct {
	commit *wire.Commit
	frames [][]byte
}

// encodeGradient cuts values in block order into frames.
func encodeGradient(t testing.TB, spec *wire.RunSpec, l *compress.Layout, values []float32) [][]byte {
	t.Helper()
	codec, err := compress.ByName(spec.Result)
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	for i := range l.Slabs() {
		from, to := l.SlabValues(i)
		frame, err := codec.Encode(nil, values[from:to])
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
	return frames
}

// gradient returns values in block order, not zero in the padding either: a replica
// must keep its padding zero whatever an owner sends.
func gradient(l *compress.Layout, k int, scale float32) []float32 {
	values := make([]float32, l.Values())
	compute.Init(values, uint64(k), "gradient", scale)
	return values
}

// decide makes the commit that a replica's own arithmetic leads to, and applies it.
func decide(t testing.TB, r *replica.Replica, f int, frames [][]byte) outcome {
	t.Helper()
	head := r.Heads()[f]
	s, err := r.Prepare(f, head.Version, frames)
	if err != nil {
		t.Fatal(err)
	}
	c := &wire.Commit{
		Fragment: uint64(f), Base: head.Version, BaseState: head.State,
		Attempt: wire.AttemptID{Term: 1, Counter: head.Version + 1}, Result: s.Result(), State: s.State(),
	}
	if err := r.Promote(s, c); err != nil {
		t.Fatal(err)
	}
	return outcome{commit: c, frames: frames}
}

// history makes n commits, fragments in random order, on a fresh replica.
func history(t testing.TB, spec *wire.RunSpec, n int, seed uint64) (*replica.Replica, []outcome) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newReplica(t, spec)
	var out []outcome
	for k := range n {
		f := rng.IntN(r.Fragments())
		frames := encodeGradient(t, spec, r.Layout(f), gradient(r.Layout(f), k, 1e-7))
		out = append(out, decide(t, r, f, frames))
	}
	return r, out
}

func replay(t testing.TB, r *replica.Replica, commits []outcome) {
	t.Helper()
	for i, o := range commits {
		if err := r.Apply(o.commit, o.frames); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
	}
}

// same compares two replicas bit for bit, hashes and weights.
func same(a, b *replica.Replica) error {
	if a.Hash() != b.Hash() || replica.HashHeads(a.Heads()) != replica.HashHeads(b.Heads()) {
		return fmt.Errorf("state hashes %s and %s", a.Hash().Short(), b.Hash().Short())
	}
	for f := range a.Fragments() {
		va, wa := a.Weights(f)
		vb, wb := b.Weights(f)
		if va != vb {
			return fmt.Errorf("fragment %d: versions %d and %d", f, va, vb)
		}
		for i := range wa {
			if wa[i] != wb[i] {
				return fmt.Errorf("fragment %d, value %d: %g and %g", f, i, wa[i], wb[i])
			}
		}
	}
	return nil
}
