package coordinator

import (
	"fmt"
	"strings"

	"dunlin/wire"
)

// Effect is something that a coordinator wants done. Effects are carried out
// in order.
//
//sumtype:decl
type Effect interface {
	effect()
	String() string
}

// Append proposes an entry. It counts when it comes back as Logged.
type Append struct{ Body wire.Body }

// Send gives a peer a control message: Welcome or Refuse. After a Refuse the
// conversation ends.
type Send struct {
	To      wire.PeerID
	Message wire.Message
}

// Members replaces the list of members that rounds count on.
type Members struct{ List []Member }

// Member is what rounds need to know of one slot.
type Member struct {
	Slot      wire.Slot
	Peer      wire.PeerID
	Addrs     []string
	Upload    uint64 // bytes a second; 0: no limit known
	StepTime  uint64 // median inner step, µs; 0: not known yet
	Joined    uint64 // height of the entry that admitted it
	Stage     uint64
	Connected bool
	Active    bool // connected, heard of lately, warming or training: rounds wait for it
}

// Adopt asks the driver to fetch a peer's entries up to a height, check them
// and feed them as Logged.
type Adopt struct {
	From   wire.PeerID
	Height uint64
}

// RaiseTerm asks the driver to make a term durable and answer TermRaised.
type RaiseTerm struct{ Term uint64 }

// Lead says that this coordinator writes entries from now on.
type Lead struct{ Term uint64 }

// Collect says that bytes which only serve states below a height may go.
type Collect struct{ Below uint64 }

// Offer answers StageAsked.
type Offer struct {
	Peer   wire.PeerID
	Stage  int
	Reason string
}

// Halt says that the run cannot go on and why.
type Halt struct{ Reason string }

// Note is a decision and its reason, for people.
type Note struct{ Text string }

func (Append) effect()    {}
func (Send) effect()      {}
func (Members) effect()   {}
func (Adopt) effect()     {}
func (RaiseTerm) effect() {}
func (Lead) effect()      {}
func (Collect) effect()   {}
func (Offer) effect()     {}
func (Halt) effect()      {}
func (Note) effect()      {}

func (e Append) String() string { return "append " + describe(e.Body) }

func (e Send) String() string {
	switch m := e.Message.(type) {
	case *wire.Welcome:
		return fmt.Sprintf("welcome %s: slot %d, head %d, term %d", e.To.Short(), m.Slot, m.Head, m.Term)
	case *wire.Refuse:
		return fmt.Sprintf("refuse %s (%d): %s", e.To.Short(), m.Code, m.Reason)
	default:
		return fmt.Sprintf("send %s %T", e.To.Short(), e.Message)
	}
}

func (e Members) String() string {
	parts := make([]string, len(e.List))
	for i, m := range e.List {
		state := "away"
		if m.Active {
			state = "active"
		} else if m.Connected {
			state = "idle"
		}
		parts[i] = fmt.Sprintf("%d=%s %s", m.Slot, m.Peer.Short(), state)
	}
	return "members " + strings.Join(parts, ", ")
}

func (e Adopt) String() string {
	return fmt.Sprintf("adopt height %d from %s", e.Height, e.From.Short())
}
func (e RaiseTerm) String() string { return fmt.Sprintf("raise term to %d", e.Term) }
func (e Lead) String() string      { return fmt.Sprintf("lead in term %d", e.Term) }
func (e Collect) String() string   { return fmt.Sprintf("collect below height %d", e.Below) }
func (e Offer) String() string {
	return fmt.Sprintf("offer %s stage %d: %s", e.Peer.Short(), e.Stage, e.Reason)
}
func (e Halt) String() string { return "halt: " + e.Reason }
func (e Note) String() string { return "note: " + e.Text }
