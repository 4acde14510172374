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

func (*Signatures) tag() byte { return 15 }
func (*Leads) tag() byte      { return 16 }

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
