package wire

import (
	"errors"
	"fmt"
)

// Command is one element of the sequence on which a run's coordinators agree
// (Raft's log). Whether it becomes an entry is decided where it is applied.
type Command struct {
	Op      Op         `cbor:"1,keyasint"`
	Term    uint64     `cbor:"2,keyasint"`           // of the reign that it begins or belongs to; 0 for OpAdopt
	Key     uint64     `cbor:"3,keyasint"`           // of the proposer: index in RunSpec.Coordinators
	Kind    Kind       `cbor:"4,keyasint,omitempty"` // OpAppend: of the body
	Payload []byte     `cbor:"5,keyasint,omitempty"` // OpAppend: canonical bytes of the body
	Table   []byte     `cbor:"6,keyasint,omitempty"` // that the body names, or empty
	Adopted *Certified `cbor:"7,keyasint,omitempty"` // OpAdopt
}

// Op is what a command does.
type Op uint8

// A reign gives its proposer the right to append; an append proposes a body; an
// adoption takes over an entry that is certified already.
const (
	OpReign  Op = 1
	OpAppend Op = 2
	OpAdopt  Op = 3
)

// MaxCommand bounds a command's bytes, so that it fits a message with what Raft adds.
const MaxCommand = MaxMessage - 4<<10

// DecodeCommand reads and bounds a command. The body of an append and the
// certificate of an adoption are checked where they are applied.
func DecodeCommand(b []byte) (*Command, error) {
	if len(b) > MaxCommand {
		return nil, fmt.Errorf("command of %d bytes, at most %d are allowed", len(b), MaxCommand)
	}
	var c Command
	if err := Decode(b, &c); err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	if c.Key >= MaxKeys {
		return nil, fmt.Errorf("command of coordinator %d, there are at most %d", c.Key, MaxKeys)
	}
	switch c.Op {
	case OpReign:
		if c.Term == 0 || c.Kind != 0 || c.Payload != nil || c.Table != nil || c.Adopted != nil {
			return nil, errors.New("command: a reign has a term and nothing else")
		}
	case OpAppend:
		if c.Term == 0 || c.Adopted != nil {
			return nil, errors.New("command: an append has a term and a body")
		}
	case OpAdopt:
		if c.Adopted == nil || c.Term != 0 || c.Kind != 0 || c.Payload != nil {
			return nil, errors.New("command: an adoption has an entry and no body")
		}
	default:
		return nil, fmt.Errorf("command: unknown operation %d: a newer release wrote it, upgrade this one", c.Op)
	}
	return &c, nil
}

// Body decodes and validates what an append proposes.
func (c *Command) Body() (Body, error) {
	e := Entry{Kind: c.Kind, Payload: c.Payload}
	return e.Body()
}

// Standing says what the commands up to some place of the sequence have come to. It
// stands in for them: the entries that they became are on ledgers.
type Standing struct {
	Height uint64 `cbor:"1,keyasint"` // of the newest entry, 0 before the first
	Head   Hash   `cbor:"2,keyasint"` // its hash, the run id before the first
	Term   uint64 `cbor:"3,keyasint"` // of the newest reign, 0 before the first
	Ruler  uint64 `cbor:"4,keyasint"` // whose it is: index in RunSpec.Coordinators plus one; 0: nobody's
}

// MaxStanding bounds a Standing's bytes.
const MaxStanding = 128

// DecodeStanding reads and bounds a Standing.
func DecodeStanding(b []byte) (*Standing, error) {
	if len(b) > MaxStanding {
		return nil, fmt.Errorf("standing of %d bytes, at most %d are allowed", len(b), MaxStanding)
	}
	var s Standing
	if err := Decode(b, &s); err != nil {
		return nil, fmt.Errorf("standing: %w", err)
	}
	if s.Ruler > MaxKeys || s.Ruler > 0 && s.Term == 0 || s.Head.IsZero() {
		return nil, fmt.Errorf("standing: head %s, ruler %d in term %d", s.Head.Short(), s.Ruler, s.Term)
	}
	return &s, nil
}

// Signatures tells another coordinator this one's signatures of consecutive
// entries, and what is wanted of it.
type Signatures struct {
	From uint64      `cbor:"1,keyasint"` // height of the first
	Sigs []Signature `cbor:"2,keyasint"` // at most MaxItems
	Want uint64      `cbor:"3,keyasint"` // height from which the other's are wanted; 0: none
}

// Leads tells a peer which coordinator's reign it is.
type Leads struct {
	Term uint64 `cbor:"1,keyasint"`
	Key  uint64 `cbor:"2,keyasint"` // index in RunSpec.Coordinators
}

// Change asks for other settings; what is zero stays as it is. A coordinator hands
// its organiser's wish to the one that leads in this form.
type Change struct {
	Phase     Phase        `cbor:"1,keyasint,omitempty"`
	Reason    string       `cbor:"2,keyasint,omitempty"` // for people
	Solo      *bool        `cbor:"3,keyasint,omitempty"` // workers train on without rounds
	H         uint64       `cbor:"4,keyasint,omitempty"`
	OuterLR   Float        `cbor:"5,keyasint,omitempty"`
	Deadlines DeadlineSpec `cbor:"6,keyasint,omitzero"`
	Workers   uint64       `cbor:"7,keyasint,omitempty"`
	Access    *Access      `cbor:"8,keyasint,omitempty"`
	// Ban names a peer that loses its slot and gets none again; with it nothing but a reason is said.
	Ban PeerID `cbor:"9,keyasint,omitzero"`
}

func (*Signatures) tag() byte { return 15 }
func (*Leads) tag() byte      { return 16 }
func (*Change) tag() byte     { return 18 }

func (s *Signatures) validate() error {
	if len(s.Sigs) > MaxItems || (len(s.Sigs) > 0 && s.From == 0) {
		return fmt.Errorf("signatures: %d from height %d", len(s.Sigs), s.From)
	}
	return nil
}

func (l *Leads) validate() error {
	if l.Key >= MaxKeys || l.Term == 0 {
		return fmt.Errorf("leads: key %d in term %d", l.Key, l.Term)
	}
	return nil
}

// validate leaves it to the settings that a change makes whether they may be.
func (c *Change) validate() error { return checkReason(c.Reason) }
