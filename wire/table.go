package wire

import (
	"errors"
	"fmt"
	"math"
)

// MaxMembers bounds the contributors of one round.
const MaxMembers = 64

// MaxSlabs bounds the slabs of one fragment.
const MaxSlabs = 1 << 15

// Ready is a worker's signed word that it has a contribution. It commits to
// the encoded bytes before the owners are known.
type Ready struct {
	Slot     Slot    `cbor:"1,keyasint"`
	Fragment uint64  `cbor:"2,keyasint"`
	Base     uint64  `cbor:"3,keyasint"`
	Root     Hash    `cbor:"4,keyasint"` // Merkle root over the slabs' frames
	From     uint64  `cbor:"5,keyasint"` // the slot's inner steps (From, To]
	To       uint64  `cbor:"6,keyasint"`
	Tokens   uint64  `cbor:"7,keyasint"`
	Windows  []Range `cbor:"8,keyasint"`  // leased positions that the interval consumed
	Norm     Float   `cbor:"9,keyasint"`  // L2 norm of the decoded contribution
	StepTime uint64  `cbor:"10,keyasint"` // median inner step, µs
}

func (r *Ready) validate() error {
	if r.Slot == 0 || r.Fragment >= MaxFragments || r.Root.IsZero() || r.From >= r.To || r.Tokens == 0 {
		return fmt.Errorf("ready: slot %d, fragment %d, steps (%d, %d], %d tokens", r.Slot, r.Fragment, r.From, r.To, r.Tokens)
	}
	if n := r.Norm.Value(); !(n >= 0) || math.IsInf(float64(n), 0) {
		return fmt.Errorf("ready: norm %v", n)
	}
	return checkRanges(r.Windows, MaxClaims)
}

// SignedReady is a Ready as it travels and as an attempt quotes it.
type SignedReady struct {
	Ready Ready     `cbor:"1,keyasint"`
	Sig   Signature `cbor:"2,keyasint"`
}

// Verify checks that the peer signed it for this run.
func (s *SignedReady) Verify(run Hash, peer PeerID) error {
	if !Verify(peer, "ready/"+run.String(), Encode(&s.Ready), s.Sig) {
		return errors.New("ready: the worker's signature does not verify")
	}
	return nil
}

// ReadyKind is the kind of text that a Ready of a run is signed as.
func ReadyKind(run Hash) string { return "ready/" + run.String() }

// AttemptTable says who takes part in an attempt and who owns which slabs.
// Members are in rank order, the order of summing.
type AttemptTable struct {
	Members []AttemptMember `cbor:"1,keyasint"`
	Owners  []Share         `cbor:"2,keyasint"` // ascending, covering all slabs once
	Pace    uint64          `cbor:"3,keyasint"` // µs of an inner step at the 90th percentile of speed
}

// AttemptMember is one contributor of an attempt.
type AttemptMember struct {
	Peer   PeerID      `cbor:"1,keyasint"`
	Ready  SignedReady `cbor:"2,keyasint"`
	Weight uint64      `cbor:"3,keyasint"` // tokens that count
	Clip   Float       `cbor:"4,keyasint"` // factor in (0, 1]
	Addrs  []string    `cbor:"5,keyasint"`
}

// Share gives the slabs [From, To) to the member of rank Owner; if it dies, to
// the one of rank Standby.
type Share struct {
	_       struct{} `cbor:",toarray"`
	From    uint64
	To      uint64
	Owner   uint64
	Standby uint64
}

// Validate checks the table against the number of the fragment's slabs.
func (t *AttemptTable) Validate(slabs int) error {
	if len(t.Members) < 1 || len(t.Members) > MaxMembers {
		return fmt.Errorf("attempt table: %d members, 1 to %d are allowed", len(t.Members), MaxMembers)
	}
	for i := range t.Members {
		m := &t.Members[i]
		if c := m.Clip.Value(); !(c > 0 && c <= 1) || m.Weight == 0 {
			return fmt.Errorf("attempt table: member %d with clip %v and weight %d", i, c, m.Weight)
		}
		if err := m.Ready.Ready.validate(); err != nil {
			return fmt.Errorf("attempt table: member %d: %w", i, err)
		}
		if err := checkAddrs(m.Addrs); err != nil {
			return fmt.Errorf("attempt table: member %d: %w", i, err)
		}
	}
	next := uint64(0)
	for _, s := range t.Owners {
		if s.From != next || s.To <= s.From || s.Owner >= uint64(len(t.Members)) || s.Standby >= uint64(len(t.Members)) {
			return fmt.Errorf("attempt table: share [%d, %d) to %d", s.From, s.To, s.Owner)
		}
		next = s.To
	}
	if next != uint64(slabs) {
		return fmt.Errorf("attempt table: shares cover %d of %d slabs", next, slabs)
	}
	return nil
}

// CommitTable is what a commit names by hash: who contributed what, and who
// summed what.
type CommitTable struct {
	Contributors []Contributor `cbor:"1,keyasint"` // in rank order
	Slabs        []SlabResult  `cbor:"2,keyasint"` // in slab order
}

// Contributor is one member's part in a commit.
type Contributor struct {
	Slot    Slot    `cbor:"1,keyasint"`
	Root    Hash    `cbor:"2,keyasint"`
	From    uint64  `cbor:"3,keyasint"`
	To      uint64  `cbor:"4,keyasint"`
	Tokens  uint64  `cbor:"5,keyasint"`
	Windows []Range `cbor:"6,keyasint"`
	Weight  uint64  `cbor:"7,keyasint"`
	Clip    Float   `cbor:"8,keyasint"`
}

// SlabResult is one slab of a result.
type SlabResult struct {
	Slab    uint64 `cbor:"1,keyasint"`
	Owner   PeerID `cbor:"2,keyasint"`
	Hash    Hash   `cbor:"3,keyasint"` // address of the encoded frame
	Length  uint64 `cbor:"4,keyasint"` // bytes of the frame
	Weight  uint64 `cbor:"5,keyasint"` // sum over this slab's contributors
	Members uint64 `cbor:"6,keyasint"` // bit r: the member of rank r is in the sum
	// Hashes of the owner's error feedback before and after the sum (R10); Before is zero
	// where it was empty, both are absent in a run whose owners keep none.
	Before Hash `cbor:"7,keyasint,omitzero"`
	After  Hash `cbor:"8,keyasint,omitzero"`
}

// Includes reports whether the member of that rank is in the slab's sum.
func (s *SlabResult) Includes(rank int) bool { return s.Members>>uint(rank)&1 == 1 }

// Restarts returns the number of slabs whose sum began with empty error feedback.
func (t *CommitTable) Restarts() int {
	n := 0
	for i := range t.Slabs {
		if s := &t.Slabs[i]; s.Before.IsZero() && !s.After.IsZero() {
			n++
		}
	}
	return n
}

// MaxFrame bounds one encoded slab, in bytes.
const MaxFrame = MaxMessage

func (s *SlabResult) validate() error {
	if s.Hash.IsZero() || s.Slab >= MaxSlabs || s.Length == 0 || s.Length > MaxFrame || s.Members == 0 {
		return fmt.Errorf("slab result %d: %d bytes from %b", s.Slab, s.Length, s.Members)
	}
	if s.After.IsZero() && !s.Before.IsZero() {
		return fmt.Errorf("slab result %d: error feedback before the sum and none after", s.Slab)
	}
	return nil
}

// Validate checks the table's own consistency.
func (t *CommitTable) Validate(slabs int) error {
	if len(t.Contributors) < 1 || len(t.Contributors) > MaxMembers || len(t.Slabs) != slabs {
		return fmt.Errorf("commit table: %d contributors, %d of %d slabs", len(t.Contributors), len(t.Slabs), slabs)
	}
	for i := range t.Slabs {
		s := &t.Slabs[i]
		if err := s.validate(); err != nil {
			return fmt.Errorf("commit table: %w", err)
		}
		if s.Slab != uint64(i) || s.Members>>uint(len(t.Contributors)) != 0 {
			return fmt.Errorf("commit table: row %d is slab %d of members %b", i, s.Slab, s.Members)
		}
	}
	for _, c := range t.Contributors {
		if err := checkRanges(c.Windows, MaxClaims); err != nil || c.Slot == 0 || c.From >= c.To {
			return fmt.Errorf("commit table: contributor %d, steps (%d, %d]: %w", c.Slot, c.From, c.To, err)
		}
	}
	return nil
}

// ResultRoot returns the Merkle root that the commit names.
func (t *CommitTable) ResultRoot() Hash {
	leaves := make([]Hash, len(t.Slabs))
	for i, s := range t.Slabs {
		leaves[i] = s.Hash
	}
	return MerkleRoot(leaves)
}

// Rank returns the contributor's place by slot, or -1.
func (t *CommitTable) Rank(slot Slot) int {
	for i, c := range t.Contributors {
		if c.Slot == slot {
			return i
		}
	}
	return -1
}

// Manifest lists the slabs of one fragment's state in a checkpoint. It needs
// no signature: its Merkle root is the state hash.
type Manifest struct {
	Slabs []Hash `cbor:"1,keyasint"`
}
