package contribution

import (
	"errors"
	"fmt"
	"math"

	"dunlin/compress"
	"dunlin/wire"
)

var (
	// ErrNorm says that a slab has a larger norm than its sender stated for all of
	// its contribution.
	ErrNorm = errors.New("norm was misstated")
	// ErrEmpty says that no share is left to sum.
	ErrEmpty = errors.New("no share to sum")
)

// normSlack is what rounding may add to a slab's norm over the stated one.
const normSlack = 1e-3

// MaxWeight bounds the weight of one share, so that sums of them are exact in float64.
const MaxWeight = 1 << 46

// Share is one member's part in one slab. Shares are given in rank order.
type Share struct {
	Frame  []byte  // as received; nil when it did not arrive
	Weight uint64  // tokens that count, 1 to MaxWeight
	Clip   float32 // factor in (0, 1] that the attempt's table gives the member
	Norm   float32 // the norm that the member stated in its Ready
}

// Sum is a slab's result.
type Sum struct {
	Frame    []byte  // the encoded weighted mean
	Weight   uint64  // sum of the weights that went into it
	Included []bool  // by rank
	Faults   []error // by rank: why a share that arrived was refused, else nil

	// Hashes of the owner's error feedback before and after (R10); of an [Owner] that
	// keeps none both are zero, Before also where it was empty.
	Before, After wire.Hash
}

// Summer sums slabs for their owner. It keeps scratch memory: one goroutine at a time.
type Summer struct {
	contribution, result compress.Codec
	share, mean, scaled  []float32
}

// NewSummer makes a summer that decodes shares with one codec and encodes results
// with another.
func NewSummer(contribution, result compress.Codec) *Summer {
	return &Summer{contribution: contribution, result: result}
}

// Sum returns the mean of the shares that arrived and are sound, each times its clip
// factor, weighted by tokens: weights are normalised over those shares in float64 and
// rounded once, products are added in rank order in float32 (protocol, R2, R4, R5). A
// share is refused, and named in Faults, when its frame is bad, its weight or clip
// factor out of range, or its norm not finite, above MaxNorm, or larger in this slab
// alone than stated for all. When no share is left the error is ErrEmpty, and Sum
// still says why.
func (s *Summer) Sum(values int, shares []Share) (Sum, error) {
	return s.sumOnto(nil, values, shares)
}

// SumWith is Sum of an owner that keeps error feedback with decay β: the products are
// added to βe, and after is what the frame lacks of the whole (protocol, R10). e is
// empty or has one value for each of the slab. Whoever has the contributions and e can
// tell by it whether an owner summed as it should.
func (s *Summer) SumWith(e []float32, decay float32, values int, shares []Share) (sum Sum, after []float32, err error) {
	if len(e) != 0 && len(e) != values {
		return Sum{}, nil, fmt.Errorf("error feedback of %d values for a slab of %d", len(e), values)
	}
	s.scaled = s.scaled[:0]
	for _, x := range e {
		s.scaled = append(s.scaled, float32(decay*x))
	}
	if sum, err = s.sumOnto(s.scaled, values, shares); err != nil {
		return sum, nil, err
	}
	after = make([]float32, values)
	if err := s.result.Decode(after, sum.Frame); err != nil {
		return sum, nil, fmt.Errorf("own result: %w", err)
	}
	for i, x := range after {
		after[i] = s.mean[i] - x
	}
	return sum, after, nil
}

// sumOnto is Sum with the products added to the values of onto instead of zeros.
func (s *Summer) sumOnto(onto []float32, values int, shares []Share) (Sum, error) {
	if values < 1 || values > compress.MaxSlabValues {
		return Sum{}, fmt.Errorf("sum a slab of %d values: allowed are 1 to %d", values, compress.MaxSlabValues)
	}
	s.share = sized(s.share, values)
	s.mean = sized(s.mean, values)
	out := Sum{Included: make([]bool, len(shares)), Faults: make([]error, len(shares))}
	refuse := func(i int, err error) {
		out.Included[i], out.Faults[i] = false, fmt.Errorf("share of rank %d: %w", i, err)
	}
	for i := range shares {
		if shares[i].Frame == nil {
			continue
		}
		out.Included[i] = true
		if err := shares[i].validate(); err != nil {
			refuse(i, err)
		}
	}
	// Every factor holds the weights of all that are sound, which decoding tells: mostly all are, so that one decoding does.
	for sound := false; !sound; {
		out.Weight = 0
		for i := range shares {
			if out.Included[i] {
				out.Weight += shares[i].Weight
			}
		}
		if out.Weight == 0 {
			return out, ErrEmpty
		}
		clear(s.mean[copy(s.mean, onto):])
		sound = true
		for i := range shares {
			if !out.Included[i] {
				continue
			}
			if err := s.open(&shares[i]); err != nil {
				refuse(i, err)
				sound = false
			}
			if sound {
				addScaled(s.mean, s.share, float32(float64(shares[i].Weight)*float64(shares[i].Clip)/float64(out.Weight)))
			}
		}
	}
	frame, err := s.result.Encode(make([]byte, 0, s.result.EncodedSlabBytes(values)), s.mean)
	if err != nil {
		return out, fmt.Errorf("encode the sum: %w", err)
	}
	out.Frame = frame
	return out, nil
}

// validate holds what a share's sender stated to its bounds.
func (s *Share) validate() error {
	if s.Weight < 1 || s.Weight > MaxWeight {
		return fmt.Errorf("weight %d: allowed are 1 to %d", s.Weight, uint64(MaxWeight))
	}
	if !(s.Clip > 0 && s.Clip <= 1) {
		return fmt.Errorf("clip factor %g: allowed are values above 0 to 1", s.Clip)
	}
	if !(s.Norm >= 0 && s.Norm <= MaxNorm) {
		return fmt.Errorf("%w: stated as %g", ErrNorm, s.Norm)
	}
	return nil
}

// open decodes a share and holds it to the norm that its member stated.
func (s *Summer) open(share *Share) error {
	if err := s.contribution.Decode(s.share, share.Frame); err != nil {
		return err
	}
	stated := float64(share.Norm)
	if norm := math.Sqrt(sumSquares(s.share)); !(norm <= stated*(1+normSlack)) {
		return fmt.Errorf("%w: %g in this slab, stated as %g for all", ErrNorm, norm, stated)
	}
	return nil
}

// addScaled adds factor·x to sum, each product rounded once.
func addScaled(sum, x []float32, factor float32) {
	x = x[:len(sum)]
	for i := range sum {
		sum[i] += float32(factor * x[i])
	}
}

func sized(buf []float32, n int) []float32 {
	if cap(buf) < n {
		return make([]float32, n)
	}
	return buf[:n]
}
