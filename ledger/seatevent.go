package ledger

import (
	"fmt"

	"dunlin/wire"
)

// SeatEvent is something that happened to a coordinator among several.
//
//sumtype:decl
type SeatEvent interface {
	seatEvent()
	String() string
}

// Agreed is the next command of the sequence that all coordinators share.
type Agreed struct{ Command wire.Command }

// Signed is what another coordinator, by its index, has signed.
type Signed struct {
	Key        int
	Signatures wire.Signatures
}

// Stood says that the own ledger has reached a height by entries of others.
type Stood struct{ Height uint64 }

// Restored stands in for every command before the next one. The own ledger may not
// have reached its height yet.
type Restored struct{ Standing wire.Standing }

func (Agreed) seatEvent()   {}
func (Signed) seatEvent()   {}
func (Stood) seatEvent()    {}
func (Restored) seatEvent() {}

func (e Agreed) String() string {
	c := &e.Command
	switch c.Op {
	case wire.OpReign:
		return fmt.Sprintf("agreed: reign of coordinator %d in term %d", c.Key, c.Term)
	case wire.OpAdopt:
		return fmt.Sprintf("agreed: adopt height %d of term %d", c.Adopted.Entry.Height, c.Adopted.Entry.Term)
	case wire.OpAppend:
		return fmt.Sprintf("agreed: %s by coordinator %d in term %d", c.Kind, c.Key, c.Term)
	}
	return fmt.Sprintf("agreed: operation %d", c.Op)
}

func (e Signed) String() string {
	return fmt.Sprintf("coordinator %d signed %d from height %d", e.Key, len(e.Signatures.Sigs), e.Signatures.From)
}
func (e Stood) String() string { return fmt.Sprintf("ledger stands at height %d", e.Height) }
func (e Restored) String() string {
	s := &e.Standing
	return fmt.Sprintf("restored: height %d, term %d of coordinator %d", s.Height, s.Term, int(s.Ruler)-1)
}

// SeatEffect is something that a seat wants done.
//
//sumtype:decl
type SeatEffect interface {
	seatEffect()
	String() string
}

// Sign gives signatures to the other coordinators.
type Sign struct{ Signatures wire.Signatures }

// Stands is a certified entry for the own ledger, in order of height.
type Stands struct{ Item wire.Item }

// Reigns says whose reign has begun.
type Reigns struct {
	Term uint64
	Key  int
}

// Refused says that a command changes nothing; every seat refuses it alike.
type Refused struct {
	Command wire.Command
	Reason  string
}

// Split says that the own ledger and the sequence differ: the seat signs nothing any more.
type Split struct{ Fork *ForkError }

// Unreadable says that the own ledger could not be read again.
type Unreadable struct{ Err error }

func (Sign) seatEffect()       {}
func (Stands) seatEffect()     {}
func (Reigns) seatEffect()     {}
func (Refused) seatEffect()    {}
func (Split) seatEffect()      {}
func (Unreadable) seatEffect() {}

func (e Sign) String() string {
	return fmt.Sprintf("sign %d from height %d", len(e.Signatures.Sigs), e.Signatures.From)
}

func (e Stands) String() string {
	keys := make([]uint64, 0, len(e.Item.Certified.Certs))
	for _, a := range e.Item.Certified.Certs {
		keys = append(keys, a.Key)
	}
	return fmt.Sprintf("entry %d, %s of term %d, stands, signed by %v", e.Item.Certified.Entry.Height, e.Item.Certified.Entry.Kind, e.Item.Certified.Entry.Term, keys)
}

func (e Reigns) String() string {
	return fmt.Sprintf("coordinator %d reigns in term %d", e.Key, e.Term)
}
func (e Refused) String() string    { return "refused: " + e.Reason }
func (e Split) String() string      { return "split: " + e.Fork.Error() }
func (e Unreadable) String() string { return "unreadable: " + e.Err.Error() }
