package contribution_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/compress"
	"dunlin/contribution"
	"dunlin/wire"
)

// bench is one slab of an owner, with exact books beside it.
type bench struct {
	t     *testing.T
	owner *contribution.Owner
	self  wire.PeerID
	rng   *rand.Rand
	base  uint64
	given []float64 // by all results that were committed
	mean  []float64 // of all shares that went into them
}

const slabValues = 300

func newBench(t *testing.T, seed uint64, decay float32) *bench {
	self := wire.PeerID{1}
	return &bench{
		t: t, self: self, rng: rand.New(rand.NewPCG(seed, 3)),
		owner: contribution.NewOwner(self, compress.FP32{}, compress.Int8{}, decay),
		given: make([]float64, slabValues), mean: make([]float64, slabValues),
	}
}

func (b *bench) shares() []contribution.Share {
	var out []contribution.Share
	for range 2 {
		values := make([]float32, slabValues)
		for i := range values {
			values[i] = float32(b.rng.NormFloat64())
		}
		out = append(out, contribution.Share{Frame: frame(b.t, compress.FP32{}, values...), Weight: 10, Clip: 1, Norm: 1e3})
	}
	return out
}

func (b *bench) sum(shares []contribution.Share) contribution.Sum {
	b.t.Helper()
	return must[contribution.Sum](b.t)(b.owner.Sum(contribution.Work{Base: b.base, Values: slabValues}, shares))
}

// commit makes a sum part of the run.
func (b *bench) commit(sum contribution.Sum, owner wire.PeerID, shares []contribution.Share) {
	b.t.Helper()
	row := wire.SlabResult{Owner: owner, Hash: wire.HashLeaf(sum.Frame), Before: sum.Before, After: sum.After}
	b.owner.Settle(0, b.base, &wire.CommitTable{Slabs: []wire.SlabResult{row}})
	b.base++
	values := make([]float32, slabValues)
	if err := (compress.Int8{}).Decode(values, sum.Frame); err != nil {
		b.t.Fatal(err)
	}
	for i, x := range values {
		b.given[i] += float64(x)
	}
	for _, s := range shares {
		if err := (compress.FP32{}).Decode(values, s.Frame); err != nil {
			b.t.Fatal(err)
		}
		for i, x := range values {
			b.mean[i] += float64(x) / float64(len(shares))
		}
	}
}

// lack returns the largest difference between what results gave and what they should have.
func (b *bench) lack() float64 {
	worst := 0.0
	for i := range b.given {
		worst = max(worst, math.Abs(b.mean[i]-b.given[i]))
	}
	return worst
}

// TestOwnerLosesNothing: over many rounds, with sums that no commit took in between, all
// results together lack no more of the means than one encoding does (β = 1).
func TestOwnerLosesNothing(t *testing.T) {
	const seed, rounds = 11, 200
	b := newBench(t, seed, 1)
	for range rounds {
		for range b.rng.IntN(3) {
			b.sum(b.shares()) // an attempt that fails
		}
		shares := b.shares()
		b.commit(b.sum(shares), b.self, shares)
	}
	if lack := b.lack(); lack > 0.05 {
		t.Errorf("seed %d: %d results lack %g of the means", seed, rounds, lack)
	}
	without := newBench(t, seed, 0)
	for range rounds {
		shares := without.shares()
		without.commit(without.sum(shares), without.self, shares)
	}
	if lack := without.lack(); lack < 0.06 {
		t.Errorf("seed %d: without error feedback only %g is lacking: the test sees nothing", seed, lack)
	}
}

// TestOwnerFollowsCommits: error feedback moves by commits alone, and its hashes say so.
func TestOwnerFollowsCommits(t *testing.T) {
	b := newBench(t, 5, 0.9)
	first := b.shares()
	one := b.sum(first)
	if !one.Before.IsZero() || one.After.IsZero() {
		t.Fatalf("the first sum: error feedback %s, then %s", one.Before.Short(), one.After.Short())
	}
	if again := b.sum(first); again.Before != one.Before || again.After != one.After {
		t.Error("a second attempt went on from the first one's error feedback")
	}
	b.commit(one, b.self, first)
	two := b.sum(first)
	if two.Before != one.After {
		t.Error("the next sum does not begin with what the commit left")
	}
	b.sum(b.shares())
	b.commit(two, b.self, first)
	if three := b.sum(first); three.Before != two.After {
		t.Error("the commit of an earlier sum was not found")
	}
	b.commit(b.sum(first), wire.PeerID{2}, first)
	if four := b.sum(first); !four.Before.IsZero() {
		t.Error("error feedback outlived another owner's commit")
	}
	b.commit(b.sum(first), b.self, first)
	b.base++ // a commit that this owner never heard of
	if five := b.sum(first); !five.Before.IsZero() {
		t.Error("error feedback outlived a commit that is not known")
	}
}

// TestOwnerIsRecomputed: whoever has the contributions of all commits since an owner's
// error feedback was empty finds the same frames and hashes (R10).
func TestOwnerIsRecomputed(t *testing.T) {
	const decay = 0.9
	b := newBench(t, 8, decay)
	challenger := contribution.NewSummer(compress.FP32{}, compress.Int8{})
	var e []float32
	for round := range 6 {
		shares := b.shares()
		claimed := b.sum(shares)
		b.commit(claimed, b.self, shares)
		sum, after, err := challenger.SumWith(e, decay, slabValues, shares)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sum.Frame, claimed.Frame) || contribution.HashValues(after) != claimed.After {
			t.Fatalf("round %d: the owner's frame or error feedback is found otherwise", round)
		}
		if e != nil && contribution.HashValues(e) != claimed.Before {
			t.Fatalf("round %d: the owner began with another error feedback", round)
		}
		e = after
	}
	if _, _, err := challenger.SumWith(make([]float32, 3), decay, slabValues, b.shares()); err == nil {
		t.Error("error feedback of another length passed")
	}
}
