package sim

import (
	"math"

	"dunlin/compress"
	"dunlin/contribution"
	"dunlin/wire"
)

// slabOf names a slab of the run.
type slabOf struct{ fragment, slab uint64 }

// kept is the error feedback of the owner that summed a slab last, and the books of
// R10's law: what results gave, and the means that they should have given, since it was
// empty.
type kept struct {
	owner       wire.PeerID
	e           []float32
	hash        wire.Hash
	given, mean []float64
	sums        int
	by          *process // that announced the newest sum
}

// sum sums a slab again as its row in a commit says, and holds the owner's error
// feedback to it: the hashes are those of the bits, they follow from the newest commit of
// the same owner or begin empty, and with β = 1 nothing is lost.
func (r *referee) sum(height uint64, summer *contribution.Summer, fragment uint64, s *wire.SlabResult, values int, shares []contribution.Share) (contribution.Sum, error) {
	decay := r.w.spec.OwnerDecay.Value()
	if decay == 0 {
		if !s.Before.IsZero() || !s.After.IsZero() {
			r.w.fail("commit %d: slab %d names error feedback, owners keep none", height, s.Slab)
		}
		return summer.Sum(values, shares)
	}
	key := slabOf{fragment, s.Slab}
	k := r.books.kept[key]
	switch {
	case s.Before.IsZero():
		if by := r.summed[s.After]; k != nil && by != nil && by == k.by && k.owner == s.Owner {
			r.w.fail("commit %d: the owner of slab %d lost its error feedback", height, s.Slab)
		}
		k = &kept{given: make([]float64, values), mean: make([]float64, values)}
	case k == nil || k.owner != s.Owner || k.hash != s.Before:
		r.w.fail("commit %d: slab %d begins with error feedback %s, which is not its owner's", height, s.Slab, s.Before.Short())
		return contribution.Sum{}, errNotHere
	}
	sum, after, err := summer.SumWith(k.e, decay, values, shares)
	if err != nil {
		return sum, err
	}
	if contribution.HashValues(after) != s.After {
		r.w.fail("commit %d: slab %d leaves its owner with error feedback %s, the row says %s", height, s.Slab, contribution.HashValues(after).Short(), s.After.Short())
	}
	r.books.kept[key] = k
	k.owner, k.e, k.hash, k.by = s.Owner, after, s.After, r.summed[s.After]
	return sum, r.ownerLaw(height, k, sum.Frame, shares)
}

// ownerLaw checks that results and error feedback make up all means.
func (r *referee) ownerLaw(height uint64, k *kept, frame []byte, shares []contribution.Share) error {
	given, mean := make([]float32, len(k.e)), make([]float32, len(k.e))
	if err := r.w.result.Decode(given, frame); err != nil {
		return err
	}
	exact, err := contribution.NewSummer(r.w.codec, compress.FP32{}).Sum(len(k.e), shares)
	if err == nil {
		err = compress.FP32{}.Decode(mean, exact.Frame)
	}
	if err != nil {
		return err
	}
	k.sums++
	if r.w.spec.OwnerDecay.Value() != 1 {
		return nil
	}
	for i := range k.e {
		k.given[i] += float64(given[i])
		k.mean[i] += float64(mean[i])
		off := math.Abs(k.given[i] + float64(k.e[i]) - k.mean[i])
		if limit := 1e-7 * float64(k.sums) * (1 + math.Abs(k.mean[i])); off > limit {
			r.w.fail("commit %d: results and error feedback are %g off the means (%g allowed)", height, off, limit)
		}
	}
	return nil
}
