package wire

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// Entry is one element of the ledger. Its hash covers everything but the
// signatures, so that the chain does not depend on who signed.
type Entry struct {
	Run     Hash   `cbor:"1,keyasint"`
	Height  uint64 `cbor:"2,keyasint"` // 1 for the first
	Prev    Hash   `cbor:"3,keyasint"` // hash of the entry below; the run id for the first
	Term    uint64 `cbor:"4,keyasint"` // reign of the coordinator that wrote it
	Kind    Kind   `cbor:"5,keyasint"`
	Payload []byte `cbor:"6,keyasint"` // canonical bytes of the Body
}

// Kind says what an entry's payload is.
type Kind uint8

// The kinds of entries.
const (
	KindMember     Kind = 1
	KindLease      Kind = 2
	KindAttempt    Kind = 3
	KindCommit     Kind = 4
	KindSettings   Kind = 5
	KindCheckpoint Kind = 6
)

func (k Kind) String() string {
	switch k {
	case KindMember:
		return "member"
	case KindLease:
		return "lease"
	case KindAttempt:
		return "attempt"
	case KindCommit:
		return "commit"
	case KindSettings:
		return "settings"
	case KindCheckpoint:
		return "checkpoint"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Bounds on entries, in bytes. A commit's is the header bound of the protocol.
const (
	MaxEntry  = 8 << 10
	MaxCommit = 1 << 10
)

// Hash returns the entry's place in the chain.
func (e *Entry) Hash() Hash { return HashLeaf(Encode(e)) }

// Body is the content of an entry: *Member, *Lease, *Attempt, *Commit,
// *Settings or *Checkpoint.
//
//sumtype:decl
type Body interface {
	Kind() Kind
	validate() error
}

// NewEntry puts a body on top of a chain.
func NewEntry(run Hash, height uint64, prev Hash, term uint64, body Body) Entry {
	return Entry{Run: run, Height: height, Prev: prev, Term: term, Kind: body.Kind(), Payload: Encode(body)}
}

// Body decodes and validates the payload.
func (e *Entry) Body() (Body, error) {
	limit := MaxEntry
	if e.Kind == KindCommit {
		limit = MaxCommit
	}
	if len(e.Payload) > limit {
		return nil, fmt.Errorf("entry %d: %d bytes of %s, at most %d are allowed", e.Height, len(e.Payload), e.Kind, limit)
	}
	var b Body
	switch e.Kind {
	case KindMember:
		b = new(Member)
	case KindLease:
		b = new(Lease)
	case KindAttempt:
		b = new(Attempt)
	case KindCommit:
		b = new(Commit)
	case KindSettings:
		b = new(Settings)
	case KindCheckpoint:
		b = new(Checkpoint)
	default:
		return nil, fmt.Errorf("entry %d: unknown kind %d: a newer release wrote it, upgrade this one", e.Height, e.Kind)
	}
	if err := Decode(e.Payload, b); err != nil {
		return nil, fmt.Errorf("entry %d: %w", e.Height, err)
	}
	if err := b.validate(); err != nil {
		return nil, fmt.Errorf("entry %d: %w", e.Height, err)
	}
	return b, nil
}

// Certified is an entry with the coordinators' signatures that make it count.
type Certified struct {
	Entry Entry         `cbor:"1,keyasint"`
	Certs []Attestation `cbor:"2,keyasint"` // by ascending Key
}

// Attestation is one coordinator's signature of an entry's hash.
type Attestation struct {
	Key uint64    `cbor:"1,keyasint"` // index in RunSpec.Coordinators
	Sig Signature `cbor:"2,keyasint"`
}

// Attest signs an entry as coordinator number key.
func Attest(e *Entry, key int, private ed25519.PrivateKey) Attestation {
	h := e.Hash()
	return Attestation{Key: uint64(key), Sig: Sign(private, "entry", h[:])}
}

var errCertificate = errors.New("entry is not signed by a majority of the run's coordinators")

// Check verifies that a majority of the run's coordinator keys signed.
func (c *Certified) Check(keys []PeerID) error {
	if len(c.Certs) > len(keys) || len(c.Certs) < len(keys)/2+1 {
		return fmt.Errorf("entry %d: %w", c.Entry.Height, errCertificate)
	}
	h := c.Entry.Hash()
	for i, a := range c.Certs {
		if a.Key >= uint64(len(keys)) || (i > 0 && a.Key <= c.Certs[i-1].Key) || !Verify(keys[a.Key], "entry", h[:], a.Sig) {
			return fmt.Errorf("entry %d: %w", c.Entry.Height, errCertificate)
		}
	}
	return nil
}

// Slot is a worker's number in the membership log; 0 names nobody.
type Slot uint64

// MemberOp is what a membership entry does.
type MemberOp uint8

// Admission gives a slot; leaving and banning end it.
const (
	MemberAdmit MemberOp = 1
	MemberLeave MemberOp = 2
	MemberBan   MemberOp = 3
)

// Member admits a peer to a slot or ends the slot.
type Member struct {
	Op     MemberOp `cbor:"1,keyasint"`
	Slot   Slot     `cbor:"2,keyasint"`
	Peer   PeerID   `cbor:"3,keyasint"`
	Reason string   `cbor:"4,keyasint"` // at most 200 bytes
	Addrs  []string `cbor:"5,keyasint"` // where others reach it, at most 8
	// Stage is which stage the slot serves, in an admission.
	Stage uint64 `cbor:"6,keyasint,omitempty"`
}

// Bounds on text that peers send.
const (
	MaxReason = 200
	MaxAddrs  = 8
	MaxAddr   = 256
)

// Kind implements Body.
func (*Member) Kind() Kind { return KindMember }

func (m *Member) validate() error {
	if m.Op < MemberAdmit || m.Op > MemberBan || m.Slot == 0 || len(m.Reason) > MaxReason || m.Stage >= MaxFragments {
		return fmt.Errorf("member: operation %d on slot %d", m.Op, m.Slot)
	}
	return checkAddrs(m.Addrs)
}

func checkAddrs(addrs []string) error {
	if len(addrs) > MaxAddrs {
		return fmt.Errorf("%d addresses, at most %d are allowed", len(addrs), MaxAddrs)
	}
	for _, a := range addrs {
		if len(a) > MaxAddr {
			return fmt.Errorf("address %q is longer than %d bytes", clip(a), MaxAddr)
		}
	}
	return nil
}

// Range is the half-open range [From, To) of positions in the endless stream
// of epochs; position p is window p mod n of epoch p ÷ n, permuted (R3b).
type Range struct {
	_    struct{} `cbor:",toarray"`
	From uint64
	To   uint64
}

// Len returns the number of windows.
func (r Range) Len() uint64 { return r.To - r.From }

// Bounds on ranges: of one lease, and of the windows that one contribution claims. In a
// run with stages a peer trains on single micro-batches of several leases.
const (
	MaxRanges = 64
	MaxClaims = 512
)

func checkRanges(rs []Range, most int) error {
	if len(rs) > most {
		return fmt.Errorf("%d ranges, at most %d are allowed", len(rs), most)
	}
	for _, r := range rs {
		if r.From >= r.To || r.To > 1<<60 {
			return fmt.Errorf("range [%d, %d)", r.From, r.To)
		}
	}
	return nil
}

// Windows returns the total length of ranges.
func Windows(rs []Range) uint64 {
	var n uint64
	for _, r := range rs {
		n += r.Len()
	}
	return n
}

// Lease gives a slot windows of the data permutation, read in this order.
type Lease struct {
	Slot   Slot    `cbor:"1,keyasint"`
	Ranges []Range `cbor:"2,keyasint"`
}

// Kind implements Body.
func (*Lease) Kind() Kind { return KindLease }

func (l *Lease) validate() error {
	if l.Slot == 0 || len(l.Ranges) == 0 {
		return errors.New("lease: of nothing or for nobody")
	}
	return checkRanges(l.Ranges, MaxRanges)
}

// AttemptID orders the attempts of a run.
type AttemptID struct {
	_       struct{} `cbor:",toarray"`
	Term    uint64
	Counter uint64 // from 1 in each term
}

func (a AttemptID) String() string { return fmt.Sprintf("%d.%d", a.Term, a.Counter) }

// Attempt opens one try of a round.
type Attempt struct {
	Fragment uint64    `cbor:"1,keyasint"`
	Base     uint64    `cbor:"2,keyasint"` // version that the round starts from
	ID       AttemptID `cbor:"3,keyasint"`
	Table    Hash      `cbor:"4,keyasint"` // address of the AttemptTable
}

// Kind implements Body.
func (*Attempt) Kind() Kind { return KindAttempt }

func (a *Attempt) validate() error {
	if a.Fragment >= MaxFragments || a.ID.Counter == 0 {
		return fmt.Errorf("attempt %s of fragment %d", a.ID, a.Fragment)
	}
	return nil
}

// Commit moves a fragment from version Base to Base+1.
type Commit struct {
	Fragment  uint64    `cbor:"1,keyasint"`
	Base      uint64    `cbor:"2,keyasint"`
	BaseState Hash      `cbor:"3,keyasint"` // state hash at Base
	Attempt   AttemptID `cbor:"4,keyasint"`
	Settings  Hash      `cbor:"5,keyasint"`  // of the settings in force
	Table     Hash      `cbor:"6,keyasint"`  // address of the CommitTable
	Result    Hash      `cbor:"7,keyasint"`  // Merkle root over the slabs' result frames
	Weight    uint64    `cbor:"8,keyasint"`  // sum over contributors
	Tokens    uint64    `cbor:"9,keyasint"`  // of the run after this commit, windows counted once
	State     Hash      `cbor:"10,keyasint"` // state hash that results
}

// Kind implements Body.
func (*Commit) Kind() Kind { return KindCommit }

func (c *Commit) validate() error {
	if c.Fragment >= MaxFragments || c.Attempt.Counter == 0 || c.Result.IsZero() || c.State.IsZero() {
		return fmt.Errorf("commit of fragment %d, attempt %s", c.Fragment, c.Attempt)
	}
	return nil
}

// Checkpoint marks the state after all entries below its own height as one to
// keep. The second entry of a pair, Complete, says that enough peers hold it.
type Checkpoint struct {
	At        uint64         `cbor:"1,keyasint"` // state after the entries up to and with this height
	Fragments []FragmentHead `cbor:"2,keyasint"` // in fragment order
	Tokens    uint64         `cbor:"3,keyasint"` // committed by then
	Complete  bool           `cbor:"4,keyasint"`
}

// FragmentHead is a fragment's version and state.
type FragmentHead struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	State   Hash
}

// Kind implements Body.
func (*Checkpoint) Kind() Kind { return KindCheckpoint }

func (c *Checkpoint) validate() error {
	if len(c.Fragments) < 1 || len(c.Fragments) > MaxFragments {
		return fmt.Errorf("checkpoint of %d fragments", len(c.Fragments))
	}
	return nil
}
